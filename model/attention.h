// Attention: grouped-query attention with rotary positions.
//
//   q, k, v = W_q x, W_k x, W_v x (+ biases);   q, k: RMS norm where the family has one, then rope;
//   y = W_o softmax(q kᵀ / √head_dim) v (+ bias), causal, query heads sharing key/value heads in
//   groups; a layer with a window sees its last positions only. With sinks the softmax of each head
//   has one more term, whose share goes nowhere. With config.attention_gate W_q makes for every
//   head a query and a gate g, and y = W_o (sigmoid(g) ∘ softmax(...) v).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "model/block.h"

namespace sluice {

// Over what queries and keys are normed before they turn.
enum class QkNorm : uint8_t { none, per_head, all_heads };

struct AttentionVariant {
  bool qkv_bias = false;
  bool output_bias = false;
  QkNorm qk_norm = QkNorm::none;
  bool sinks = false;  // "<prefix>.sinks" [heads]: a learned score that every softmax has besides
  float norm_offset = 0;  // added to the norms' stored weights
  bool rope = true;
};

class Attention final : public Block {
 public:
  // prefix: "model.layers.3.self_attn"; kv_layer: of the KV cache; window: as
  // ModelConfig::layer_window.
  Attention(Trunk& trunk, const std::string& prefix, const AttentionVariant& variant,
            uint32_t kv_layer, uint32_t window, const ModelConfig& config);

  void forward(const float* x, Run& run, float* y) const override;

 private:
  void project(const float* x, Run& run) const;
  void attend(Run& run) const;
  void gate(Run& run) const;

  uint32_t kv_layer_;
  uint32_t window_;
  uint32_t heads_;
  uint32_t kv_heads_;
  uint32_t head_dim_;
  uint32_t rope_dimensions_;  // 0: positions do not turn
  uint32_t hidden_;
  float epsilon_;
  bool gated_;
  Linear q_, k_, v_, o_;
  std::array<uint32_t, InputScratch::kSlots> qkv_inputs_{};  // whose prepared input each reads
  // [head_dim] or [heads * head_dim], the length saying over what; empty: no norm.
  std::vector<float> q_norm_, k_norm_;
  std::vector<float> sinks_;  // [heads], or empty
};

}  // namespace sluice
