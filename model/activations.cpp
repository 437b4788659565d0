#include <algorithm>

#include "model/network.h"

namespace sluice {

Activations Activations::layout(Arena& arena, const ModelConfig& config, const RunLimits& limits) {
  Activations a;
  const uint64_t chunk = limits.chunk;
  const bool latent = config.mla.kv_rank > 0;
  const uint32_t q_width = config.heads * config.head_dim;
  const uint32_t k_width = latent ? config.mla.latent_width() : config.kv_heads * config.head_dim;
  const uint32_t v_width = latent ? 0 : k_width;
  const uint32_t attended_width = latent ? config.heads * config.mla.value_dim
                                         : std::max(q_width, config.recurrent.value_width());
  const uint32_t scored_heads = latent ? MlaActivations::kHeads : config.heads / config.kv_heads;
  const uint32_t mlp_width =
      std::max({config.intermediate, config.expert_intermediate, config.shared_intermediate});
  // In decode the experts of one token are computed together, in prefill those of many tokens.
  a.mlp_vectors = std::max(limits.chunk, config.experts_per_token);

  a.hidden = arena.take<float>(chunk * config.hidden);
  a.normed = arena.take<float>(chunk * config.hidden);
  a.block = arena.take<float>(chunk * config.hidden);
  a.q = arena.take<float>(chunk * q_width);
  a.k = arena.take<float>(chunk * k_width);
  a.v = arena.take<float>(chunk * v_width);
  a.attended = arena.take<float>(chunk * attended_width);
  if (config.attention_gate) a.gated_q = arena.take<float>(2 * chunk * q_width);
  if (config.recurrent.kernel > 0) {
    a.mixed = arena.take<float>(chunk * config.recurrent.projection_width());
    a.convolved = arena.take<float>(chunk * config.recurrent.channels());
  }
  a.scores = arena.take<float>(uint64_t{limits.threads} * scored_heads * limits.context);
  if (latent) a.mla = MlaActivations::layout(arena, config, limits);
  a.rope_cos = arena.take<float>(chunk * (config.rope.dimensions / 2));
  a.rope_sin = arena.take<float>(chunk * (config.rope.dimensions / 2));
  const uint32_t pairs_width = config.expert_gate_up_pairs ? 2 * config.expert_intermediate : 0;
  a.gate = arena.take<float>(uint64_t{a.mlp_vectors} * std::max(mlp_width, pairs_width));
  a.up = arena.take<float>(uint64_t{a.mlp_vectors} * mlp_width);
  a.inputs = InputScratch::layout(arena, limits.chunk,
                                  std::max({config.hidden, attended_width, config.mla.q_rank,
                                            mlp_width, config.expert_latent}));
  if (config.experts > 0) {
    a.router = arena.take<float>(chunk * config.experts);
    a.router_scores = arena.take<float>(uint64_t{limits.threads} * config.experts);
    a.router_order = arena.take<uint32_t>(uint64_t{limits.threads} * config.experts);
    if (config.shared_intermediate > 0) a.shared = arena.take<float>(chunk * config.hidden);
    if (config.expert_latent > 0) a.latent = arena.take<float>(chunk * config.expert_latent);
    a.expert_rows = arena.take<float>(chunk * config.experts_per_token * config.expert_width());
    a.chosen = arena.take<uint32_t>(chunk * config.experts_per_token);
    a.chosen_weights = arena.take<float>(chunk * config.experts_per_token);
    a.foreseen_input = arena.take<float>(config.hidden);
    a.foreseen_weights = arena.take<float>(config.experts_per_token);
    a.foreseen = arena.take<uint32_t>(config.experts_per_token);
    a.pairs = arena.take<uint32_t>(chunk * config.experts_per_token);
    a.places = arena.take<uint32_t>(chunk * config.experts_per_token);
    a.first_pair = arena.take<uint32_t>(uint64_t{config.experts} + 1);
    a.gathered_inputs =
        InputScratch::layout(arena, a.mlp_vectors, std::max(config.expert_width(), mlp_width));
  }
  a.logits = arena.take<float>(uint64_t{limits.logits} * config.vocabulary);
  return a;
}

}  // namespace sluice
