#include "model/attention.h"

#include <cmath>

namespace sluice {

Attention::Attention(Trunk& trunk, const std::string& prefix, const ModelConfig& config)
    : heads_(config.heads),
      kv_heads_(config.kv_heads),
      head_dim_(config.head_dim),
      hidden_(config.hidden),
      epsilon_(config.rms_epsilon) {
  const bool bias = config.attention_bias;
  const bool rotated = config.turboquant.rotated;
  const uint32_t q_width = heads_ * head_dim_;
  const uint32_t kv_width = kv_heads_ * head_dim_;
  q_ = Linear(trunk, prefix + ".q_proj", {.rows = q_width, .cols = hidden_}, bias, rotated);
  k_ = Linear(trunk, prefix + ".k_proj", {.rows = kv_width, .cols = hidden_}, bias, rotated);
  v_ = Linear(trunk, prefix + ".v_proj", {.rows = kv_width, .cols = hidden_}, bias, rotated);
  o_ = Linear(trunk, prefix + ".o_proj", {.rows = hidden_, .cols = q_width}, bias, rotated);
  qkv_inputs_ = share_inputs(std::array<const Linear*, 3>{&q_, &k_, &v_});
  q_norm_ = read_vector(trunk, prefix + ".q_norm.weight", head_dim_);
  k_norm_ = read_vector(trunk, prefix + ".k_norm.weight", head_dim_);
}

void Attention::forward(const float* x, uint32_t layer, Run& run, float* y) const {
  const kernels::Table& kernels = *run.compute.kernels;
  Workers& workers = *run.compute.workers;
  Activations& a = *run.activations;
  const uint32_t q_width = heads_ * head_dim_;
  const uint32_t kv_width = kv_heads_ * head_dim_;

  const LinearCall qkv[] = {{&q_, a.q, q_width, qkv_inputs_[0]},
                            {&k_, a.k, kv_width, qkv_inputs_[1]},
                            {&v_, a.v, kv_width, qkv_inputs_[2]}};
  apply_linears(run.compute, qkv, x, hidden_, run.tokens, a.inputs);

  workers.run(run.tokens, [&](uint32_t t, uint32_t) {
    float* q = a.q + uint64_t{t} * q_width;
    float* k = a.k + uint64_t{t} * kv_width;
    const float* cos = a.rope_cos + uint64_t{t} * (head_dim_ / 2);
    const float* sin = a.rope_sin + uint64_t{t} * (head_dim_ / 2);
    for (uint32_t h = 0; h < heads_; ++h) {
      float* head = q + uint64_t{h} * head_dim_;
      kernels.rms_norm(head, q_norm_.data(), head_dim_, epsilon_, head);
    }
    for (uint32_t h = 0; h < kv_heads_; ++h) {
      float* head = k + uint64_t{h} * head_dim_;
      kernels.rms_norm(head, k_norm_.data(), head_dim_, epsilon_, head);
    }
    kernels.rope_halves(q, heads_, head_dim_, head_dim_, cos, sin);
    kernels.rope_halves(k, kv_heads_, head_dim_, head_dim_, cos, sin);
    run.kv->write(layer, run.position + t, k, a.v + uint64_t{t} * kv_width);
  });

  const uint32_t group = heads_ / kv_heads_;
  const uint64_t context = run.kv->shape().context;
  workers.run(run.tokens * kv_heads_, [&](uint32_t task, uint32_t worker) {
    const uint32_t t = task / kv_heads_;
    const uint32_t kv_head = task % kv_heads_;
    const uint64_t first_head = uint64_t{t} * q_width + uint64_t{kv_head} * group * head_dim_;
    kernels.attention({.q = a.q + first_head,
                       .k = run.kv->keys(layer, kv_head),
                       .v = run.kv->values(layer, kv_head),
                       .format = run.kv->shape().format,
                       .head_dim = head_dim_,
                       .heads = group,
                       .positions = static_cast<uint32_t>(run.position + t + 1),
                       .scale = 1.0f / std::sqrt(static_cast<float>(head_dim_)),
                       .scores = a.scores + uint64_t{worker} * group * context,
                       .out = a.attended + first_head});
  });

  const LinearCall out[] = {{&o_, y, hidden_}};
  apply_linears(run.compute, out, a.attended, q_width, run.tokens, a.inputs);
}

void prepare_rope(const RopeConfig& rope, uint32_t head_dim, Run& run) {
  const uint32_t half = head_dim / 2;
  for (uint32_t i = 0; i < half; ++i) {
    const auto exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    const float inverse_frequency =
        1.0f / static_cast<float>(std::pow(rope.theta, static_cast<double>(exponent)));
    for (uint32_t t = 0; t < run.tokens; ++t) {
      const float angle = static_cast<float>(run.position + t) * inverse_frequency;
      const uint64_t at = uint64_t{t} * half + i;
      run.activations->rope_cos[at] = static_cast<float>(std::cos(static_cast<double>(angle)));
      run.activations->rope_sin[at] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
}

}  // namespace sluice
