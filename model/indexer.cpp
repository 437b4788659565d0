#include "model/indexer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "io/check.h"

namespace sluice {

namespace {

constexpr float kEpsilon = 1e-6f;  // of the layer norm, as the models were trained
constexpr uint32_t kTokens = MlaActivations::kTokens;
constexpr uint32_t kPositions = MlaActivations::kIndexPositions;

// In place. Small: index_dim of one token; the sums run in order, in double.
void layer_norm(std::span<float> x, std::span<const float> weight, std::span<const float> bias) {
  const auto n = static_cast<double>(x.size());
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value);
  const double mean = sum / n;
  double squares = 0;
  for (const float value : x) {
    const double distance = static_cast<double>(value) - mean;
    squares += distance * distance;
  }
  const double inverse = 1 / std::sqrt(squares / n + static_cast<double>(kEpsilon));
  for (size_t i = 0; i < x.size(); ++i) {
    const auto normed = static_cast<float>((static_cast<double>(x[i]) - mean) * inverse);
    x[i] = normed * weight[i] + bias[i];
  }
}

}  // namespace

Indexer::Indexer(Trunk& trunk, const std::string& prefix, uint32_t kv_layer,
                 const ModelConfig& config)
    : kv_layer_(kv_layer),
      hidden_(config.hidden),
      q_rank_(config.mla.q_rank),
      rope_dim_(config.mla.rope_dim),
      heads_(config.mla.index_heads),
      dim_(config.mla.index_dim),
      topk_(config.mla.index_topk) {
  const bool rotated = config.turboquant.rotated;
  q_b_ = Linear(trunk, prefix + ".wq_b", {.rows = heads_ * dim_, .cols = q_rank_}, false, rotated);
  k_ = Linear(trunk, prefix + ".wk", {.rows = dim_, .cols = hidden_}, false, rotated);
  weights_ =
      Linear(trunk, prefix + ".weights_proj", {.rows = heads_, .cols = hidden_}, false, rotated);
  k_norm_ = read_vector(trunk, prefix + ".k_norm.weight", dim_);
  k_norm_bias_ = read_vector(trunk, prefix + ".k_norm.bias", dim_);
}

void Indexer::prepare(const float* x, Run& run) const {
  const kernels::Table& kernels = *run.compute.kernels;
  Activations& a = *run.activations;
  const LinearCall from_x[] = {{&k_, a.mla.index_k, dim_},
                               {&weights_, a.mla.index_weights, heads_}};
  apply_linears(run.compute, from_x, x, hidden_, run.tokens, a.inputs);
  const LinearCall from_low[] = {{&q_b_, a.mla.index_q, heads_ * dim_}};
  apply_linears(run.compute, from_low, a.mla.q_low, q_rank_, run.tokens, a.inputs);
  const float weight_scale = 1.0f / std::sqrt(static_cast<float>(heads_));
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    float* q = a.mla.index_q + uint64_t{t} * heads_ * dim_;
    float* k = a.mla.index_k + uint64_t{t} * dim_;
    float* weights = a.mla.index_weights + uint64_t{t} * heads_;
    const float* cos = a.rope_cos + uint64_t{t} * (rope_dim_ / 2);
    const float* sin = a.rope_sin + uint64_t{t} * (rope_dim_ / 2);
    layer_norm({k, dim_}, k_norm_, k_norm_bias_);
    kernels.rope_halves(q, heads_, dim_, rope_dim_, cos, sin);
    kernels.rope_halves(k, 1, dim_, rope_dim_, cos, sin);
    for (uint32_t h = 0; h < heads_; ++h) weights[h] *= weight_scale;
    run.kv->write_index(kv_layer_, run.position + t, k);
  });
}

void Indexer::choose(Run& run, uint32_t first, std::span<SeenLatents> seen) const {
  SLUICE_CHECK(seen.size() <= kTokens);
  std::array<uint32_t, kTokens> ends{};
  for (uint32_t i = 0; i < seen.size(); ++i) {
    ends[i] = static_cast<uint32_t>(run.position + first + i + 1);
    seen[i] = {run.kv->latents(kv_layer_), ends[i]};
  }
  if (ends[seen.size() - 1] <= topk_) return;
  score(run, first, std::span(ends).first(seen.size()));
  run.compute.workers->run(static_cast<uint32_t>(seen.size()), [&](uint32_t i, uint32_t) {
    if (ends[i] > topk_) seen[i] = gather_best(run, i, ends[i]);
  });
}

// Scores of positions [0, ends[i]) for token first + i, where they are more than topk.
void Indexer::score(Run& run, uint32_t first, std::span<const uint32_t> ends) const {
  const kernels::Table& kernels = *run.compute.kernels;
  const MlaActivations& a = run.activations->mla;
  const KvShape& kv = run.kv->shape();
  const uint32_t blocks = (ends.back() + kPositions - 1) / kPositions;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim_));
  const auto tokens = static_cast<uint32_t>(ends.size());
  run.compute.workers->run(tokens * blocks, [&](uint32_t task, uint32_t worker) {
    const uint32_t i = task / blocks;
    const uint32_t begin = task % blocks * kPositions;
    if (ends[i] <= topk_ || begin >= ends[i]) return;
    const uint32_t count = std::min(kPositions, ends[i] - begin);
    const kernels::Matrix keys = {
        .format = kv.format == kernels::KvFormat::f16 ? kernels::Format::f16 : kernels::Format::f32,
        .rows = count,
        .cols = dim_,
        .data = run.kv->index_keys(kv_layer_) + begin * kv.index_row_bytes()};
    float* products = a.index_products + uint64_t{worker} * heads_ * kPositions;
    kernels.matmul(keys,
                   {.row_begin = 0,
                    .row_end = count,
                    .vectors = heads_,
                    .x_stride = dim_,
                    .y_stride = kPositions},
                   a.index_q + uint64_t{first + i} * heads_ * dim_, products);
    const float* weights = a.index_weights + uint64_t{first + i} * heads_;
    float* scores = a.index_scores + i * kv.context + begin;
    std::fill_n(scores, count, 0.0f);
    for (uint32_t h = 0; h < heads_; ++h) {
      const float* product = products + uint64_t{h} * kPositions;
      for (uint32_t p = 0; p < count; ++p) {
        const float scaled = product[p] * scale;
        scores[p] += weights[h] * (scaled > 0 ? scaled : 0);
      }
    }
  });
}

SeenLatents Indexer::gather_best(Run& run, uint32_t slot, uint32_t end) const {
  const MlaActivations& a = run.activations->mla;
  const KvShape& kv = run.kv->shape();
  float* scores = a.index_scores + slot * kv.context;
  // Numbers that are none would have no order.
  std::replace_if(
      scores, scores + end, [](float score) { return std::isnan(score); },
      -std::numeric_limits<float>::infinity());
  uint32_t* order = a.index_order + slot * kv.context;
  std::iota(order, order + end, 0u);
  std::nth_element(order, order + topk_, order + end, [scores](uint32_t x, uint32_t y) {
    return scores[x] > scores[y] || (scores[x] == scores[y] && x < y);
  });
  std::sort(order, order + topk_);
  const uint64_t row_bytes = kv.row_bytes();
  const std::byte* latents = run.kv->latents(kv_layer_);
  std::byte* chosen = a.chosen_latents + slot * uint64_t{topk_} * kv.head_dim * sizeof(float);
  for (uint32_t i = 0; i < topk_; ++i) {
    std::memcpy(chosen + i * row_bytes, latents + order[i] * row_bytes, row_bytes);
  }
  return {chosen, topk_};
}

}  // namespace sluice
