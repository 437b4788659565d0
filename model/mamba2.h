// Mamba2: a state-space model whose decay is one number a head, arXiv:2405.21060.
//
//   z, xBC, dt = W_in u;   x, B, C = SiLU of the causal convolution of xBC;
//   S = e^(-e^A Δ) S + B ⊗ Δ x;   o = Cᵀ S + D x       Δ = softplus(dt + dt_bias), within limits
//   y = W_out RMS norm(o ∘ SiLU(z))                    normed over each group of heads
//
// A head's S [key_dim, value_dim] is its only memory; heads share B and C in groups (the key heads
// of RecurrentConfig, whose keys, queries and values B, C and x are). Tokens go through S one by
// one in either phase, so chunks never show; heads are spread over the workers.
#pragma once

#include <string>
#include <vector>

#include "model/block.h"
#include "model/causal_convolution.h"
#include "model/time_steps.h"

namespace sluice {

struct Mamba2Variant {
  bool projection_bias = false;
  bool convolution_bias = true;
};

class Mamba2 final : public Block {
 public:
  // prefix: "backbone.layers.3.mixer"; state_layer: of the RecurrentState.
  Mamba2(Trunk& trunk, const std::string& prefix, const Mamba2Variant& variant,
         uint32_t state_layer, const ModelConfig& config);

  void forward(const float* x, Run& run, float* y) const override;

 private:
  void convolve(Run& run) const;
  void recur(Run& run) const;
  void gate(Run& run) const;

  uint32_t state_layer_;
  uint32_t hidden_;
  float epsilon_;
  RecurrentConfig shape_;
  uint32_t row_width_;
  Linear in_, out_;
  CausalConvolution convolution_;
  TimeSteps steps_;
  std::vector<CausalConvolution::Channels> channels_;  // [value_heads + 2 * key_heads]: x, B, C
  std::vector<float> skip_;                            // [value_heads]: D
  std::vector<float> norm_;                            // [value_width]
};

}  // namespace sluice
