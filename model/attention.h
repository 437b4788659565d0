// Attention: grouped-query attention with per-head q/k norm and rotary positions (Qwen3).
//
//   q, k, v = W_q x, W_k x, W_v x;   q, k: RMS norm per head, then rope;
//   y = W_o softmax(q kᵀ / √head_dim) v, causal, query heads sharing key/value heads in groups.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "model/network.h"

namespace sluice {

class Attention {
 public:
  // prefix: "model.layers.3.self_attn".
  Attention(Trunk& trunk, const std::string& prefix, const ModelConfig& config);

  // x [tokens, hidden], y [tokens, hidden]; layer: of the KV cache.
  void forward(const float* x, uint32_t layer, Run& run, float* y) const;

 private:
  uint32_t heads_;
  uint32_t kv_heads_;
  uint32_t head_dim_;
  uint32_t hidden_;
  float epsilon_;
  Linear q_, k_, v_, o_;
  std::array<uint32_t, InputScratch::kSlots> qkv_inputs_{};  // whose prepared input each reads
  std::vector<float> q_norm_, k_norm_;
};

// Fills activations->rope_cos/sin for the run's positions. Angles are computed as the reference
// does: inverse frequencies and products rounded to float32.
void prepare_rope(const RopeConfig& rope, uint32_t head_dim, Run& run);

}  // namespace sluice
