// Mlp: the dense feed-forward block, y = W_down (silu(W_gate x) ∘ W_up x); with
// config.mlp_relu_squared y = W_down max(W_up x, 0)².
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
  bool stateless() const override { return true; }

 private:
  void forward_without_gate(const float* x, Run& run, float* y) const;

  uint32_t hidden_;
  uint32_t width_;
  bool gated_;
  Linear gate_, up_, down_;
  std::array<uint32_t, InputScratch::kSlots> gate_up_inputs_{};  // whose prepared input each reads
};

}  // namespace sluice
