// MlaActivations: working memory of latent attention (model/mla.h) and its indexer
// (model/indexer.h), beside what all networks have (model/network.h). All arrays of floats,
// row-major, tokens first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/arena.h"
#include "model/config.h"

namespace sluice {

struct RunLimits;

struct MlaActivations {
  // So many tokens and heads one task attends for: every head's matrices are passed once for all
  // tokens, every position's latent once for all heads. Neither shows in a result.
  static constexpr uint32_t kTokens = 8;
  static constexpr uint32_t kHeads = 4;
  static constexpr uint32_t kIndexPositions = 32;  // that one task scores

  float* q_low = nullptr;     // [chunk, q_rank]
  float* absorbed = nullptr;  // [threads, kTokens, kHeads, latent_width]: queries of latents
  float* summed = nullptr;    // [threads, kTokens, kHeads, kv_rank]: latents, by attention
  // The indexer's.
  float* index_q = nullptr;         // [chunk, index_heads, index_dim]
  float* index_k = nullptr;         // [chunk, index_dim]
  float* index_weights = nullptr;   // [chunk, index_heads]
  float* index_products = nullptr;  // [threads, index_heads, kIndexPositions]
  // Where the context is longer than index_topk.
  float* index_scores = nullptr;    // [kTokens, context]
  uint32_t* index_order = nullptr;  // [kTokens, context]
  // [kTokens, index_topk, latent_width] in the cache's format, with room for floats
  std::byte* chosen_latents = nullptr;

  // Requires: config.mla.kv_rank > 0.
  static MlaActivations layout(Arena& arena, const ModelConfig& config, const RunLimits& limits);
};

// What a token attends to.
struct SeenLatents {
  const std::byte* rows = nullptr;  // [positions, latent_width] in the cache's format
  uint32_t positions = 0;
};

}  // namespace sluice
