#include "model/pins.h"

#include <algorithm>
#include <filesystem>

#include "io/check.h"
#include "io/error.h"

namespace sluice {
namespace {

constexpr const char* kHotlist = "hot_experts.json";

}  // namespace

PinList find_pins(const std::string& directory, const ModelOptions& options,
                  const ExpertGrid& grid) {
  if (!options.pin_file.empty()) {
    return {.file = options.pin_file, .experts = read_pins(options.pin_file, grid)};
  }
  const std::string path = (std::filesystem::path(directory) / kHotlist).string();
  std::error_code ignored;  // what cannot be looked at is not there
  if (options.no_hotlist || !std::filesystem::exists(path, ignored)) return {};
  try {
    return {.file = path, .experts = read_pins(path, grid)};
  } catch (const Error& error) {
    throw Error(error.what(), ". Remove it, or run without it (--no-hotlist)");
  }
}

uint32_t pins_that_fit(const PinList& pins, const ExpertCache& cache) {
  return static_cast<uint32_t>(std::min<size_t>(pins.experts.size(), cache.max_pinned()));
}

PinReport preload_pins(const PinList& pins, const ExpertGrid& grid, ExpertStream& stream,
                       const std::function<void(uint64_t bytes)>& progress) {
  PinReport report{.file = pins.file, .listed = static_cast<uint32_t>(pins.experts.size())};
  const uint32_t count = pins_that_fit(pins, stream.cache());
  std::vector<std::vector<uint32_t>> by_layer(grid.layers.size());
  for (uint32_t i = 0; i < count; ++i) {
    const auto layer = grid.index_of(pins.experts[i].layer);
    SLUICE_CHECK(layer.has_value());
    by_layer[*layer].push_back(pins.experts[i].expert);
  }
  for (uint32_t layer = 0; layer < by_layer.size(); ++layer) {
    if (by_layer[layer].empty()) continue;
    report.pinned += stream.preload(layer, by_layer[layer]);
    report.bytes = report.pinned * stream.cache().slot_bytes();
    if (progress) progress(report.bytes);
  }
  return report;
}

}  // namespace sluice
