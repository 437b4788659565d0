#include "model/mla_activations.h"

#include <algorithm>

#include "model/network.h"

namespace sluice {

MlaActivations MlaActivations::layout(Arena& arena, const ModelConfig& config,
                                      const RunLimits& limits) {
  const MlaConfig& mla = config.mla;
  const uint64_t chunk = limits.chunk;
  const uint64_t task_vectors = uint64_t{limits.threads} * kTokens * kHeads;
  MlaActivations a;
  a.q_low = arena.take<float>(chunk * mla.q_rank);
  a.absorbed = arena.take<float>(task_vectors * mla.latent_width());
  a.summed = arena.take<float>(task_vectors * mla.kv_rank);
  if (mla.index_heads == 0) return a;
  const uint64_t index_width = uint64_t{mla.index_heads} * mla.index_dim;
  a.index_q = arena.take<float>(chunk * index_width);
  a.index_k = arena.take<float>(chunk * mla.index_dim);
  a.index_weights = arena.take<float>(chunk * mla.index_heads);
  a.index_products =
      arena.take<float>(uint64_t{limits.threads} * mla.index_heads * kIndexPositions);
  // Where all positions are seen, none are chosen.
  if (limits.context <= mla.index_topk) return a;
  a.index_scores = arena.take<float>(kTokens * limits.context);
  a.index_order = arena.take<uint32_t>(kTokens * limits.context);
  a.chosen_latents = arena.take<std::byte>(uint64_t{kTokens} * mla.index_topk * mla.latent_width() *
                                           sizeof(float));
  return a;
}

}  // namespace sluice
