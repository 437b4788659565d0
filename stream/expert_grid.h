// ExpertGrid: which experts a model has, by the numbers that calibration files use.
// Threads: any.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "stream/expert_source.h"

namespace sluice {

// An expert as calibration files name it. layer: the model's layer, of dense ones too (an
// ExpertKey's layer counts MoE layers only).
struct LayerExpert {
  uint32_t layer = 0;
  uint32_t expert = 0;
  friend bool operator==(const LayerExpert&, const LayerExpert&) = default;
};

struct ExpertGrid {
  std::vector<uint32_t> layers;  // model layers that have experts, ascending
  uint32_t experts = 0;          // of each

  // Which of the MoE layers this is: ExpertKey::layer, and ExpertSource's index.
  std::optional<uint32_t> index_of(uint32_t model_layer) const {
    const auto found = std::ranges::lower_bound(layers, model_layer);
    if (found == layers.end() || *found != model_layer) return std::nullopt;
    return static_cast<uint32_t>(found - layers.begin());
  }
  uint64_t keys() const { return uint64_t{layers.size()} * experts; }
  friend bool operator==(const ExpertGrid&, const ExpertGrid&) = default;
};

inline ExpertGrid grid_of(const ExpertSource& source) {
  ExpertGrid grid{.layers = {}, .experts = source.experts()};
  for (uint32_t i = 0; i < source.layers(); ++i) grid.layers.push_back(source.model_layer(i));
  return grid;
}

}  // namespace sluice
