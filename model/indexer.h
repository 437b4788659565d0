// Indexer: which positions a token attends to in sparse attention (DeepSeek-V3.2).
//
// Light queries and keys of its own score every position,
//
//   q_h = rope(W_qb q_low)_h;   k = rope(layer norm(W_k x)), cached;   w = W_w x / √heads
//   score_t = Σ_h w_h max(0, q_h · k_t / √index_dim),   h ascending
//
// and the index_topk highest are attended to, of equal ones the earlier; all while there are no
// more. Rope turns the first rope_dim of a vector, by halves. The original rotates q and k with a
// Hadamard matrix before it rounds them to 8 bits; scores of unrounded ones are the same without.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "model/network.h"

namespace sluice {

class Indexer {
 public:
  // prefix: "model.layers.3.self_attn.indexer"; kv_layer: of the KV cache. Requires:
  // config.mla.index_heads and q_rank > 0.
  Indexer(Trunk& trunk, const std::string& prefix, uint32_t kv_layer, const ModelConfig& config);

  // Queries and weights of the run's tokens into activations->mla, keys into the cache. x [tokens,
  // hidden]. Requires: q_low is there.
  void prepare(const float* x, Run& run) const;
  // What tokens [first, first + seen.size()) see: all latents of the cache, or copies of the chosen
  // ones in the order of their positions, valid until the next call. Requires: prepare() was
  // called, the latents are cached, and there are at most MlaActivations::kTokens.
  void choose(Run& run, uint32_t first, std::span<SeenLatents> seen) const;

 private:
  void score(Run& run, uint32_t first, std::span<const uint32_t> ends) const;
  SeenLatents gather_best(Run& run, uint32_t slot, uint32_t end) const;

  uint32_t kv_layer_;
  uint32_t hidden_;
  uint32_t q_rank_;
  uint32_t rope_dim_;
  uint32_t heads_;
  uint32_t dim_;
  uint32_t topk_;
  Linear q_b_, k_, weights_;
  std::vector<float> k_norm_, k_norm_bias_;
};

}  // namespace sluice
