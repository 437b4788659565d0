// Mlp: the dense feed-forward block, y = W_down (silu(W_gate x) ∘ W_up x).
#pragma once

#include <array>
#include <string>

#include "model/block.h"

namespace sluice {

class Mlp final : public Block {
 public:
  // prefix: "model.layers.3.mlp"; width: of the inner vectors.
  Mlp(Trunk& trunk, const std::string& prefix, uint32_t width, const ModelConfig& config);

  void forward(const float* x, Run& run, float* y) const override;

 private:
  uint32_t hidden_;
  uint32_t width_;
  Linear gate_, up_, down_;
  std::array<uint32_t, InputScratch::kSlots> gate_up_inputs_{};  // whose prepared input each reads
};

}  // namespace sluice
