#include "model/mamba2.h"

#include "model/recurrent_state.h"

namespace sluice {

Mamba2::Mamba2(Trunk& trunk, const std::string& prefix, const Mamba2Variant& variant,
               uint32_t state_layer, const ModelConfig& config)
    : state_layer_(state_layer),
      hidden_(config.hidden),
      epsilon_(config.rms_epsilon),
      shape_(config.recurrent),
      row_width_(shape_.value_width() + shape_.channels() + shape_.value_heads),
      in_(trunk, prefix + ".in_proj", {.rows = row_width_, .cols = hidden_},
          variant.projection_bias, config.turboquant.rotated),
      out_(trunk, prefix + ".out_proj", {.rows = hidden_, .cols = shape_.value_width()},
           variant.projection_bias, config.turboquant.rotated),
      convolution_(trunk, prefix + ".conv1d", variant.convolution_bias, shape_),
      steps_(trunk, prefix, shape_.value_heads),
      skip_(read_vector(trunk, prefix + ".D", shape_.value_heads)),
      norm_(read_vector(trunk, prefix + ".norm.weight", shape_.value_width())) {
  steps_.limit(shape_.least_step, shape_.most_step);
  const uint32_t source = shape_.value_width();
  for (uint32_t i = 0; i < shape_.value_heads; ++i) {
    const uint32_t first = i * shape_.value_dim;
    channels_.push_back({source + first, first, shape_.value_dim});
  }
  for (uint32_t i = 0; i < 2 * shape_.key_heads; ++i) {
    const uint32_t first = shape_.value_width() + i * shape_.key_dim;
    channels_.push_back({source + first, first, shape_.key_dim});
  }
}

void Mamba2::forward(const float* x, Run& run, float* y) const {
  Activations& a = *run.activations;
  const LinearCall in[] = {{&in_, a.mixed, row_width_}};
  apply_linears(run.compute, in, x, hidden_, run.tokens, a.inputs);
  convolve(run);
  recur(run);
  gate(run);
  const LinearCall out[] = {{&out_, y, hidden_}};
  apply_linears(run.compute, out, a.attended, shape_.value_width(), run.tokens, a.inputs);
}

void Mamba2::convolve(Run& run) const {
  const Activations& a = *run.activations;
  const auto tasks = static_cast<uint32_t>(channels_.size());
  run.compute.workers->run(tasks, [&](uint32_t task, uint32_t) {
    convolution_.apply(channels_[task], a.mixed, row_width_, state_layer_, run, a.convolved);
  });
}

void Mamba2::recur(Run& run) const {
  const kernels::Table& kernels = *run.compute.kernels;
  const Activations& a = *run.activations;
  const uint32_t group = shape_.value_heads / shape_.key_heads;
  const uint32_t value_dim = shape_.value_dim;
  const uint32_t dt = shape_.value_width() + shape_.channels();
  run.compute.workers->run(shape_.value_heads, [&](uint32_t head, uint32_t) {
    for (uint32_t t = 0; t < run.tokens; ++t) {
      const float* xbc = a.convolved + uint64_t{t} * shape_.channels();
      const float* value = xbc + head * value_dim;
      const float* key = xbc + shape_.value_width() + uint64_t{head / group} * shape_.key_dim;
      float* out = a.attended + uint64_t{t} * shape_.value_width() + head * value_dim;
      const double step = steps_.step(head, a.mixed[uint64_t{t} * row_width_ + dt + head]);
      kernels.add_step({.state = run.recurrent->head(state_layer_, head),
                        .query = key + shape_.key_width(),
                        .key = key,
                        .value = value,
                        .out = out,
                        .key_dim = shape_.key_dim,
                        .value_dim = value_dim,
                        .decay = steps_.decay(head, step),
                        .rate = static_cast<float>(step)});
      kernels.add_scaled(skip_[head], value, value_dim, out);
    }
  });
}

void Mamba2::gate(Run& run) const {
  const kernels::Table& kernels = *run.compute.kernels;
  const Activations& a = *run.activations;
  const uint32_t groups = shape_.key_heads;
  const uint32_t width = shape_.value_width() / groups;
  run.compute.workers->run(run.tokens * groups, [&](uint32_t task, uint32_t) {
    const uint64_t t = task / groups;
    const uint32_t first = task % groups * width;
    float* out = a.attended + t * shape_.value_width() + first;
    kernels.swiglu(a.mixed + t * row_width_ + first, out, width, out);
    kernels.rms_norm(out, norm_.data() + first, width, epsilon_, out);
  });
}

}  // namespace sluice
