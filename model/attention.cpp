#include "model/attention.h"

#include <algorithm>
#include <cmath>

namespace sluice {

namespace {

// RMS norm of every run of weight.size() in x [width].
void norm_runs(const kernels::Table& kernels, const std::vector<float>& weight, float epsilon,
               uint32_t width, float* x) {
  const auto run = static_cast<uint32_t>(weight.size());
  if (run == 0) return;
  for (uint32_t first = 0; first < width; first += run) {
    kernels.rms_norm(x + first, weight.data(), run, epsilon, x + first);
  }
}

}  // namespace

Attention::Attention(Trunk& trunk, const std::string& prefix, const AttentionVariant& variant,
                     uint32_t kv_layer, uint32_t window, const ModelConfig& config)
    : kv_layer_(kv_layer),
      window_(window),
      heads_(config.heads),
      kv_heads_(config.kv_heads),
      head_dim_(config.head_dim),
      rope_dimensions_(variant.rope ? config.rope.dimensions : 0),
      hidden_(config.hidden),
      epsilon_(config.rms_epsilon),
      gated_(config.attention_gate) {
  const bool bias = variant.qkv_bias;
  const bool rotated = config.turboquant.rotated;
  const uint32_t q_width = heads_ * head_dim_;
  const uint32_t kv_width = kv_heads_ * head_dim_;
  q_ = Linear(trunk, prefix + ".q_proj", {.rows = gated_ ? 2 * q_width : q_width, .cols = hidden_},
              bias, rotated);
  k_ = Linear(trunk, prefix + ".k_proj", {.rows = kv_width, .cols = hidden_}, bias, rotated);
  v_ = Linear(trunk, prefix + ".v_proj", {.rows = kv_width, .cols = hidden_}, bias, rotated);
  o_ = Linear(trunk, prefix + ".o_proj", {.rows = hidden_, .cols = q_width}, variant.output_bias,
              rotated);
  qkv_inputs_ = share_inputs(std::array<const Linear*, 3>{&q_, &k_, &v_});
  if (variant.sinks) sinks_ = read_vector(trunk, prefix + ".sinks", heads_);
  if (variant.qk_norm == QkNorm::none) return;
  const bool per_head = variant.qk_norm == QkNorm::per_head;
  q_norm_ = read_vector(trunk, prefix + ".q_norm.weight", per_head ? head_dim_ : q_width,
                        variant.norm_offset);
  k_norm_ = read_vector(trunk, prefix + ".k_norm.weight", per_head ? head_dim_ : kv_width,
                        variant.norm_offset);
}

void Attention::forward(const float* x, Run& run, float* y) const {
  Activations& a = *run.activations;
  project(x, run);
  const uint32_t first = run.first_wanted;
  if (first == run.tokens) return;
  attend(run);
  if (gated_) gate(run);
  const uint32_t width = heads_ * head_dim_;
  const LinearCall out[] = {{&o_, y + uint64_t{first} * hidden_, hidden_}};
  apply_linears(run.compute, out, a.attended + uint64_t{first} * width, width, run.tokens - first,
                a.inputs);
}

// Queries of those that are wanted into activations->q, all keys and values into the cache.
void Attention::project(const float* x, Run& run) const {
  const kernels::Table& kernels = *run.compute.kernels;
  Activations& a = *run.activations;
  const uint32_t q_width = heads_ * head_dim_;
  const uint32_t kv_width = kv_heads_ * head_dim_;
  const LinearCall qkv[] = {
      {&q_, gated_ ? a.gated_q : a.q, q_.rows(), qkv_inputs_[0], run.first_wanted},
      {&k_, a.k, kv_width, qkv_inputs_[1]},
      {&v_, a.v, kv_width, qkv_inputs_[2]}};
  apply_linears(run.compute, qkv, x, hidden_, run.tokens, a.inputs);
  run.kv->make_room(kv_layer_, run.position, run.tokens);
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    const float* cos = a.rope_cos + uint64_t{t} * (rope_dimensions_ / 2);
    const float* sin = a.rope_sin + uint64_t{t} * (rope_dimensions_ / 2);
    float* k = a.k + uint64_t{t} * kv_width;
    norm_runs(kernels, k_norm_, epsilon_, kv_width, k);
    if (rope_dimensions_ > 0) {
      kernels.rope_halves(k, kv_heads_, head_dim_, rope_dimensions_, cos, sin);
    }
    run.kv->write(kv_layer_, run.position + t, k, a.v + uint64_t{t} * kv_width);
    if (t < run.first_wanted) return;
    float* q = a.q + uint64_t{t} * q_width;
    for (uint32_t head = 0; gated_ && head < heads_; ++head) {
      const float* from = a.gated_q + (uint64_t{t} * heads_ + head) * 2 * head_dim_;
      std::copy_n(from, head_dim_, q + uint64_t{head} * head_dim_);
    }
    norm_runs(kernels, q_norm_, epsilon_, q_width, q);
    if (rope_dimensions_ > 0) {
      kernels.rope_halves(q, heads_, head_dim_, rope_dimensions_, cos, sin);
    }
  });
}

void Attention::attend(Run& run) const {
  Activations& a = *run.activations;
  const uint32_t group = heads_ / kv_heads_;
  const KvShape& kv = run.kv->shape();
  const uint32_t tokens = run.tokens - run.first_wanted;
  run.compute.workers->run(tokens * kv_heads_, [&](uint32_t task, uint32_t worker) {
    const uint32_t t = run.first_wanted + task / kv_heads_;
    const uint32_t kv_head = task % kv_heads_;
    const uint64_t first_head = (uint64_t{t} * heads_ + uint64_t{kv_head} * group) * head_dim_;
    const uint64_t end = run.position + t + 1;
    const uint64_t seen = window_ == 0 ? end : std::min<uint64_t>(end, window_);
    run.compute.kernels->attention(
        {.q = a.q + first_head,
         .k = run.kv->keys(kv_layer_, kv_head, end - seen),
         .v = run.kv->values(kv_layer_, kv_head, end - seen),
         .format = kv.format,
         .head_dim = head_dim_,
         .heads = group,
         .positions = static_cast<uint32_t>(seen),
         .scale = 1.0f / std::sqrt(static_cast<float>(head_dim_)),
         .sinks = sinks_.empty() ? nullptr : sinks_.data() + uint64_t{kv_head} * group,
         .scores = a.scores + uint64_t{worker} * group * kv.context,
         .out = a.attended + first_head});
  });
}

void Attention::gate(Run& run) const {
  Activations& a = *run.activations;
  const uint64_t first = uint64_t{run.first_wanted} * heads_;
  const uint32_t tokens = run.tokens - run.first_wanted;
  run.compute.workers->run(tokens * heads_, [&](uint32_t task, uint32_t) {
    float* gate = a.gated_q + (first + task) * 2 * head_dim_ + head_dim_;
    float* out = a.attended + (first + task) * head_dim_;
    run.compute.kernels->sigmoid(gate, head_dim_);
    for (uint32_t i = 0; i < head_dim_; ++i) out[i] *= gate[i];
  });
}

}  // namespace sluice
