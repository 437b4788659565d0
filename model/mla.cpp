#include "model/mla.h"

#include <algorithm>
#include <cmath>

#include "kernels/decode.h"
#include "model/rope.h"
#include "model/source_matrix.h"

namespace sluice {

namespace {

// Of the norms of latents, whatever config.json says of the others: as the models were trained.
constexpr float kLatentEpsilon = 1e-6f;

bool is_plain(kernels::Format format) {
  return format == kernels::Format::f32 || format == kernels::Format::f16 ||
         format == kernels::Format::bf16;
}

}  // namespace

Mla::Mla(Trunk& trunk, const std::string& prefix, uint32_t kv_layer, const ModelConfig& config)
    : kv_layer_(kv_layer),
      hidden_(config.hidden),
      heads_(config.heads),
      head_dim_(config.head_dim),
      scale_(static_cast<float>(yarn_score_factor(config.rope) /
                                std::sqrt(static_cast<double>(config.head_dim)))),
      mla_(config.mla) {
  const bool rotated = config.turboquant.rotated;
  const bool bias = config.attention_bias;
  const uint32_t q_width = heads_ * head_dim_;
  if (mla_.q_rank == 0) {
    q_ = Linear(trunk, prefix + ".q_proj", {.rows = q_width, .cols = hidden_}, false, rotated);
  } else {
    q_a_.emplace(trunk, prefix + ".q_a_proj", Linear::Shape{.rows = mla_.q_rank, .cols = hidden_},
                 bias, rotated);
    q_norm_ = read_vector(trunk, prefix + ".q_a_layernorm.weight", mla_.q_rank);
    q_ =
        Linear(trunk, prefix + ".q_b_proj", {.rows = q_width, .cols = mla_.q_rank}, false, rotated);
  }
  kv_a_ = Linear(trunk, prefix + ".kv_a_proj_with_mqa",
                 {.rows = mla_.latent_width(), .cols = hidden_}, bias, rotated);
  kv_norm_ = read_vector(trunk, prefix + ".kv_a_layernorm.weight", mla_.kv_rank);
  bind_up_projection(trunk, prefix + ".kv_b_proj", config);
  o_ = Linear(trunk, prefix + ".o_proj", {.rows = hidden_, .cols = heads_ * mla_.value_dim}, bias,
              rotated);
  if (mla_.index_heads > 0) indexer_.emplace(trunk, prefix + ".indexer", kv_layer, config);
}

void Mla::bind_up_projection(Trunk& trunk, const std::string& prefix, const ModelConfig& config) {
  const uint32_t rows = heads_ * (mla_.nope_dim + mla_.value_dim);
  kv_b_ = Linear(trunk, prefix, {.rows = rows, .cols = mla_.kv_rank, .any_rows = true}, false,
                 config.turboquant.rotated);
  up_ = kv_b_.matrix();
  if (is_plain(up_.format)) return;
  const uint64_t values = uint64_t{rows} * mla_.kv_rank;
  constexpr uint64_t kOverread = kernels::kOverreadBytes / sizeof(float);
  trunk.count_converted((values + kOverread) * sizeof(float));
  if (!trunk.loaded()) return;
  decoded_.resize(values + kOverread);
  if (up_.format == kernels::Format::turboquant) {  // to be rotated back
    SourceMatrix::open(trunk.checkpoint(), prefix, 0, config.turboquant.rotated)
        .to_f32(kernels::table(), 0, rows, {up_.data, up_.scales}, decoded_.data());
  } else {
    for (uint32_t r = 0; r < rows; ++r) {
      kernels::decode_row(up_, r, decoded_.data() + uint64_t{r} * mla_.kv_rank);
    }
  }
  up_ = {.format = kernels::Format::f32,
         .rows = rows,
         .cols = mla_.kv_rank,
         .data = reinterpret_cast<const std::byte*>(decoded_.data())};
}

// Rows [first, first + rows) of W_kvb.
kernels::Matrix Mla::up_rows(uint32_t first, uint32_t rows) const {
  const uint64_t row_bytes = uint64_t{up_.cols} * (up_.format == kernels::Format::f32 ? 4 : 2);
  kernels::Matrix part = up_;
  part.rows = rows;
  part.data += first * row_bytes;
  return part;
}

void Mla::forward(const float* x, Run& run, float* y) const {
  Activations& a = *run.activations;
  project(x, run);
  const std::byte* latents = run.kv->latents(kv_layer_);
  const auto end = [&](uint32_t t) { return static_cast<uint32_t>(run.position + t + 1); };
  if (!indexer_) {
    std::vector<SeenLatents> seen(run.tokens);
    for (uint32_t t = 0; t < run.tokens; ++t) seen[t] = {latents, end(t)};
    attend(run, 0, seen);
  } else {
    indexer_->prepare(x, run);
    for (uint32_t first = 0; first < run.tokens; first += MlaActivations::kTokens) {
      std::vector<SeenLatents> seen(std::min(MlaActivations::kTokens, run.tokens - first));
      indexer_->choose(run, first, seen);
      attend(run, first, seen);
    }
  }
  const LinearCall out[] = {{&o_, y, hidden_}};
  apply_linears(run.compute, out, a.attended, heads_ * mla_.value_dim, run.tokens, a.inputs);
}

// Queries into activations->q, latents into the cache.
void Mla::project(const float* x, Run& run) const {
  const kernels::Table& kernels = *run.compute.kernels;
  Activations& a = *run.activations;
  const uint32_t q_width = heads_ * head_dim_;
  const uint32_t latent_width = mla_.latent_width();
  const LinearCall from_x[] = {
      {q_a_ ? &*q_a_ : &q_, q_a_ ? a.mla.q_low : a.q, q_a_ ? mla_.q_rank : q_width},
      {&kv_a_, a.k, latent_width}};
  apply_linears(run.compute, from_x, x, hidden_, run.tokens, a.inputs);
  if (q_a_) {
    run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
      float* q_low = a.mla.q_low + uint64_t{t} * mla_.q_rank;
      kernels.rms_norm(q_low, q_norm_.data(), mla_.q_rank, kLatentEpsilon, q_low);
    });
    const LinearCall from_low[] = {{&q_, a.q, q_width}};
    apply_linears(run.compute, from_low, a.mla.q_low, mla_.q_rank, run.tokens, a.inputs);
  }
  const auto rope = mla_.rope_pairs ? kernels.rope_pairs : kernels.rope_halves;
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    const float* cos = a.rope_cos + uint64_t{t} * (mla_.rope_dim / 2);
    const float* sin = a.rope_sin + uint64_t{t} * (mla_.rope_dim / 2);
    rope(a.q + uint64_t{t} * q_width + mla_.nope_dim, heads_, head_dim_, mla_.rope_dim, cos, sin);
    float* latent = a.k + uint64_t{t} * latent_width;
    kernels.rms_norm(latent, kv_norm_.data(), mla_.kv_rank, kLatentEpsilon, latent);
    rope(latent + mla_.kv_rank, 1, mla_.rope_dim, mla_.rope_dim, cos, sin);
    run.kv->write_latent(kv_layer_, run.position + t, latent);
  });
}

// Tokens [first, first + seen.size()) into activations->attended.
void Mla::attend(Run& run, uint32_t first, std::span<const SeenLatents> seen) const {
  constexpr uint32_t kTokens = MlaActivations::kTokens, kHeads = MlaActivations::kHeads;
  const auto tokens = static_cast<uint32_t>(seen.size());
  const uint32_t groups = (heads_ + kHeads - 1) / kHeads;
  const uint32_t blocks = (tokens + kTokens - 1) / kTokens;
  run.compute.workers->run(blocks * groups, [&](uint32_t task, uint32_t worker) {
    const uint32_t begin = task / groups * kTokens;
    const uint32_t head = task % groups * kHeads;
    const Part part = {.first = first + begin,
                       .tokens = std::min(kTokens, tokens - begin),
                       .head = head,
                       .heads = std::min(kHeads, heads_ - head)};
    attend_part(run, part, seen.data() + begin, worker);
  });
}

// The scratch arrays of a part are [tokens, heads, ...] of it.
void Mla::attend_part(Run& run, const Part& part, const SeenLatents* seen, uint32_t worker) const {
  constexpr uint64_t kVectors = MlaActivations::kTokens * MlaActivations::kHeads;
  const kernels::Table& kernels = *run.compute.kernels;
  Activations& a = *run.activations;
  const uint32_t latent_width = mla_.latent_width();
  const float* absorbed = a.mla.absorbed + worker * kVectors * latent_width;
  float* summed = a.mla.summed + worker * kVectors * mla_.kv_rank;
  absorb(run, part, worker);
  const KvShape& kv = run.kv->shape();
  for (uint32_t t = 0; t < part.tokens; ++t) {
    kernels.attention({.q = absorbed + uint64_t{t} * part.heads * latent_width,
                       .k = seen[t].rows,
                       .v = seen[t].rows,
                       .format = kv.format,
                       .head_dim = latent_width,
                       .value_dim = mla_.kv_rank,
                       .value_stride = latent_width,
                       .heads = part.heads,
                       .positions = seen[t].positions,
                       .scale = scale_,
                       .scores = a.scores + uint64_t{worker} * MlaActivations::kHeads * kv.context,
                       .out = summed + uint64_t{t} * part.heads * mla_.kv_rank});
  }
  const uint32_t out_width = heads_ * mla_.value_dim;
  for (uint32_t h = 0; h < part.heads; ++h) {
    const uint32_t head = part.head + h;
    const uint32_t first_row = head * (mla_.nope_dim + mla_.value_dim) + mla_.nope_dim;
    kernels.matmul(up_rows(first_row, mla_.value_dim),
                   {.row_begin = 0,
                    .row_end = mla_.value_dim,
                    .vectors = part.tokens,
                    .x_stride = part.heads * mla_.kv_rank,
                    .y_stride = out_width},
                   summed + uint64_t{h} * mla_.kv_rank,
                   a.attended + uint64_t{part.first} * out_width + head * mla_.value_dim);
  }
}

// Queries of latents: W_ukᵀ q_n, then q_r. The rows of W_uk are the columns of W_ukᵀ.
void Mla::absorb(Run& run, const Part& part, uint32_t worker) const {
  constexpr uint64_t kVectors = MlaActivations::kTokens * MlaActivations::kHeads;
  const Activations& a = *run.activations;
  const uint32_t latent_width = mla_.latent_width();
  const uint32_t q_width = heads_ * head_dim_;
  const uint32_t absorbed_stride = part.heads * latent_width;
  for (uint32_t h = 0; h < part.heads; ++h) {
    const uint32_t head = part.head + h;
    const float* q = a.q + uint64_t{part.first} * q_width + head * head_dim_;
    float* absorbed = a.mla.absorbed + (worker * kVectors + h) * latent_width;
    kernels::Matrix w = up_rows(head * (mla_.nope_dim + mla_.value_dim), mla_.nope_dim);
    w.layout = kernels::Layout::columns;
    w.rows = mla_.kv_rank;
    w.cols = mla_.nope_dim;
    run.compute.kernels->matmul(w,
                                {.row_begin = 0,
                                 .row_end = mla_.kv_rank,
                                 .vectors = part.tokens,
                                 .x_stride = q_width,
                                 .y_stride = absorbed_stride},
                                q, absorbed);
    for (uint32_t t = 0; t < part.tokens; ++t) {
      std::copy_n(q + uint64_t{t} * q_width + mla_.nope_dim, mla_.rope_dim,
                  absorbed + uint64_t{t} * absorbed_stride + mla_.kv_rank);
    }
  }
}

}  // namespace sluice
