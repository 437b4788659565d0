// GatedDelta: linear attention by the gated delta rule, arXiv:2412.06464. A head remembers by one
// matrix S [key_dim, value_dim] in place of a cache:
//
//   q, k, v  = SiLU of the causal convolution of W_qkv x;  q, k of length 1, q divided by √key_dim
//   S        = g S;   S += k ⊗ β (v - kᵀ S);   o = qᵀ S     g = e^(-e^A softplus(a + dt_bias)),
//                                                           β = sigmoid(b)
//   y        = W_o (RMS norm(o) ∘ SiLU(z))
//
// z, b, a being further projections of x. Value heads share key heads in groups. Tokens go through
// S one by one in either phase, so chunks never show; heads are spread over the workers.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/causal_convolution.h"
#include "model/time_steps.h"

namespace sluice {

class GatedDelta final : public Block {
 public:
  // How the rows of the projections lie.
  enum class Rows : uint8_t {
    by_kind,      // in_proj_qkv [q | k | v], in_proj_z, in_proj_b, in_proj_a
    by_key_head,  // in_proj_qkvz, in_proj_ba: for every key head q, k, and its value heads' v, z;
                  // its value heads' b, a
  };

  // prefix: "model.layers.3.linear_attn"; state_layer: of the RecurrentState.
  GatedDelta(Trunk& trunk, const std::string& prefix, Rows rows, uint32_t state_layer,
             const ModelConfig& config);

  void forward(const float* x, Run& run, float* y) const override;

 private:
  // Where a value head's numbers are in a token's row of projections.
  struct Head {
    uint32_t z = 0;
    uint32_t a = 0;
    uint32_t b = 0;
  };

  void place_by_kind();
  void place_by_key_head();
  void project(const float* x, Run& run) const;
  void convolve(Run& run) const;
  void recur(Run& run) const;

  uint32_t state_layer_;
  uint32_t hidden_;
  float epsilon_;
  RecurrentConfig shape_;
  uint32_t row_width_ = 0;
  Rows rows_;
  std::array<Linear, 4> in_;  // by kind: qkv, z, b, a; by key head: qkvz, ba
  Linear out_;
  // Of the pairs that are applied together, whose prepared input each reads.
  std::array<uint32_t, InputScratch::kSlots> first_inputs_{};
  std::array<uint32_t, InputScratch::kSlots> second_inputs_{};
  CausalConvolution convolution_;
  TimeSteps steps_;
  std::vector<CausalConvolution::Channels> channels_;  // [2 * key_heads + value_heads]: q, k, v
  std::vector<Head> heads_;                            // [value_heads]
  std::vector<float> norm_;                            // [value_dim]
  // RMS norms with these weights make vectors of length 1, and of length 1 / √key_dim. [key_dim]
  std::vector<float> unit_key_;
  std::vector<float> unit_query_;
};

}  // namespace sluice
