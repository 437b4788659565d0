// Pins: the experts that stay in the cache for good, by a calibration file.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "model/session.h"
#include "stream/calibration_files.h"

namespace sluice {

struct PinList {
  std::string file;  // empty: none
  std::vector<LayerExpert> experts = {};
};

// The pins that options ask for, or else those that the model directory brings along
// (hot_experts.json). Throws Error: unreadable, damaged, of another model; of a file that nobody
// asked for the message says how to go without it.
PinList find_pins(const std::string& directory, const ModelOptions& options,
                  const ExpertGrid& grid);
// How many of them the cache may pin: the first ones.
uint32_t pins_that_fit(const PinList& pins, const ExpertCache& cache);

// Reads the first of them into the cache, a layer's in one batch, and keeps them: as many as may
// be pinned. progress, if given, hears of the slots' bytes that are read. Throws Error (a failed
// read).
PinReport preload_pins(const PinList& pins, const ExpertGrid& grid, ExpertStream& stream,
                       const std::function<void(uint64_t bytes)>& progress = {});

}  // namespace sluice
