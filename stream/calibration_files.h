// pin.json and perm.json: what calibration decided, in files that other tools read too.
//
//   pin.json   {"pin": [[layer, expert], ...]}     hottest first
//   perm.json  {"perm": {"layer": [ids, ...]}}     all ids of the layer, in their new disk order
//
// A layer is the model's layer index. Readers are strict about what they read and pass over other
// keys beside "pin" and "perm". Threads: any.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stream/expert_grid.h"

namespace sluice {

// A pin for each of a million experts takes 13 MB.
inline constexpr uint64_t kMaxCalibrationBytes = 64'000'000;

// path is for messages. Throws Error: not JSON, not of this shape, a layer or expert that the model
// does not have, an expert named twice.
std::vector<LayerExpert> parse_pins(std::string_view json, const ExpertGrid& grid,
                                    const std::string& path);
// By model layer; every layer of the grid is there.
using Permutation = std::map<uint32_t, std::vector<uint32_t>>;
// Throws Error as above, and: a layer or an expert missing, a layer given twice.
Permutation parse_permutation(std::string_view json, const ExpertGrid& grid,
                              const std::string& path);

// The files themselves. Throw Error as above, or that they cannot be read or are too long.
std::vector<LayerExpert> read_pins(const std::string& path, const ExpertGrid& grid);
Permutation read_permutation(const std::string& path, const ExpertGrid& grid);

// The text of such a file, ended with a newline.
std::string pins_text(std::span<const LayerExpert> pins);
std::string permutation_text(const Permutation& permutation);

}  // namespace sluice
