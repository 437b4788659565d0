// CausalConvolution: the short convolution of linear-attention and state-space layers, each channel
// over the last `kernel` tokens, with SiLU. Weights become floats when the model is loaded.
// Owns: the weights. Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/network.h"

namespace sluice {

class CausalConvolution {
 public:
  // Neighbouring channels and where a token's row has them.
  struct Channels {
    uint32_t source = 0;  // floats into the row
    uint32_t first = 0;   // channel
    uint32_t count = 0;
  };

  CausalConvolution() = default;
  // Declares or binds "<prefix>.weight" [channels, 1, kernel], or in MLX's order [channels, kernel,
  // 1], and "<prefix>.bias" [channels] if with_bias. Throws Error.
  CausalConvolution(Trunk& trunk, const std::string& prefix, bool with_bias,
                    const RecurrentConfig& config);

  // y [run.tokens, channels] at these channels, from rows x [run.tokens, x_stride]. Moves the
  // layer's history on.
  void apply(const Channels& channels, const float* x, uint32_t x_stride, uint32_t state_layer,
             const Run& run, float* y) const;

  // Whether a checkpoint has this tensor in MLX's order, which tells who wrote it.
  static bool is_mlx(const Checkpoint& checkpoint, const std::string& prefix);

 private:
  uint32_t channels_ = 0;
  uint32_t kernel_ = 0;
  std::vector<float> weights_;  // [kernel, channels]
  std::vector<float> bias_;     // [channels], or empty
};

}  // namespace sluice
