// Mla: multi-head latent attention (DeepSeek-V2, arXiv:2405.04434). The cache keeps one latent a
// position that the keys and values of all heads are made of, and one turned key for all heads:
//
//   c, k_r = split(W_kva x);   c = RMS norm(c);   k_r = rope(k_r);   cached: [c | k_r]
//   q = W_q x, or W_qb RMS norm(W_qa x);   of head h: [q_n | q_r], q_r = rope(q_r)
//   W_kvb holds of each head W_uk [nope_dim, kv_rank], then W_uv [value_dim, kv_rank]
//
// Keys and values are never made. With the up-projections absorbed into query and output,
//
//   score_t = (W_ukᵀ q_n · c_t + q_r · k_r,t) scale;   y_h = W_uv Σ_t softmax(score)_t c_t
//
// and the same arithmetic serves prompts and decoding, so how a prompt is cut shows in no bit. With
// an indexer (model/indexer.h) a token attends to the positions that it chose.
//
// W_kvb is read as plain numbers: one that is stored quantized is decoded to float32 when the model
// is loaded, which the plan counts.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/indexer.h"

namespace sluice {

class Mla final : public Block {
 public:
  // prefix: "model.layers.3.self_attn"; kv_layer: of the KV cache. Requires: config.mla.kv_rank >
  // 0.
  Mla(Trunk& trunk, const std::string& prefix, uint32_t kv_layer, const ModelConfig& config);

  void forward(const float* x, Run& run, float* y) const override;

 private:
  // Tokens [first, first + tokens) and heads [head, head + heads) of one task.
  struct Part {
    uint32_t first = 0, tokens = 0;
    uint32_t head = 0, heads = 0;
  };
  void bind_up_projection(Trunk& trunk, const std::string& prefix, const ModelConfig& config);
  void project(const float* x, Run& run) const;
  void attend(Run& run, uint32_t first, std::span<const SeenLatents> seen) const;
  void attend_part(Run& run, const Part& part, const SeenLatents* seen, uint32_t worker) const;
  void absorb(Run& run, const Part& part, uint32_t worker) const;
  kernels::Matrix up_rows(uint32_t first, uint32_t rows) const;

  uint32_t kv_layer_;
  uint32_t hidden_;
  uint32_t heads_;
  uint32_t head_dim_;  // of queries
  float scale_;
  MlaConfig mla_;
  Linear q_;  // from the hidden state, or from q_low
  std::optional<Linear> q_a_;
  Linear kv_a_, kv_b_, o_;
  std::vector<float> q_norm_, kv_norm_;
  kernels::Matrix up_;          // W_kvb as plain numbers, [heads (nope_dim + value_dim), kv_rank]
  std::vector<float> decoded_;  // of up_, where its file is quantized
  std::optional<Indexer> indexer_;
};

}  // namespace sluice
