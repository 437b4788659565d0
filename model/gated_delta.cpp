#include "model/gated_delta.h"

#include <cmath>

#include "model/recurrent_state.h"

namespace sluice {

namespace {

// Added to the sum of squares of queries and keys before its root is taken.
constexpr float kLengthEpsilon = 1e-6f;

}  // namespace

GatedDelta::GatedDelta(Trunk& trunk, const std::string& prefix, Rows rows, uint32_t state_layer,
                       const ModelConfig& config)
    : state_layer_(state_layer),
      hidden_(config.hidden),
      epsilon_(config.rms_epsilon),
      shape_(config.recurrent),
      rows_(rows),
      convolution_(trunk, prefix + ".conv1d", false, config.recurrent),
      steps_(trunk, prefix, config.recurrent.value_heads),
      norm_(read_vector(trunk, prefix + ".norm.weight", config.recurrent.value_dim)) {
  const bool rotated = config.turboquant.rotated;
  const auto linear = [&](const char* name, uint32_t out) {
    return Linear(trunk, prefix + "." + name, {.rows = out, .cols = hidden_}, false, rotated);
  };
  const uint32_t values = shape_.value_width();
  if (rows == Rows::by_kind) {
    in_ = {linear("in_proj_qkv", shape_.channels()), linear("in_proj_z", values),
           linear("in_proj_b", shape_.value_heads), linear("in_proj_a", shape_.value_heads)};
    second_inputs_ = share_inputs(std::array<const Linear*, 2>{&in_[2], &in_[3]});
    place_by_kind();
  } else {
    in_[0] = linear("in_proj_qkvz", shape_.channels() + values);
    in_[1] = linear("in_proj_ba", 2 * shape_.value_heads);
    place_by_key_head();
  }
  first_inputs_ = share_inputs(std::array<const Linear*, 2>{&in_[0], &in_[1]});
  out_ = Linear(trunk, prefix + ".out_proj", {.rows = hidden_, .cols = values}, false, rotated);
  row_width_ = shape_.projection_width();
  const float size = static_cast<float>(shape_.key_dim);
  unit_key_.assign(shape_.key_dim, 1 / std::sqrt(size));
  unit_query_.assign(shape_.key_dim, 1 / size);
}

void GatedDelta::place_by_kind() {
  const uint32_t key_width = shape_.key_width();
  for (uint32_t i = 0; i < 2 * shape_.key_heads; ++i) {
    channels_.push_back({i * shape_.key_dim, i * shape_.key_dim, shape_.key_dim});
  }
  const uint32_t z = shape_.channels();
  const uint32_t b = z + shape_.value_width();
  for (uint32_t i = 0; i < shape_.value_heads; ++i) {
    const uint32_t v = 2 * key_width + i * shape_.value_dim;
    channels_.push_back({v, v, shape_.value_dim});
    heads_.push_back({.z = z + i * shape_.value_dim, .a = b + shape_.value_heads + i, .b = b + i});
  }
}

void GatedDelta::place_by_key_head() {
  const uint32_t group = shape_.value_heads / shape_.key_heads;
  const uint32_t key_dim = shape_.key_dim;
  const uint32_t stride = 2 * key_dim + 2 * group * shape_.value_dim;
  const uint32_t rates = shape_.key_heads * stride;
  for (uint32_t kind = 0; kind < 2; ++kind) {
    for (uint32_t i = 0; i < shape_.key_heads; ++i) {
      channels_.push_back(
          {i * stride + kind * key_dim, kind * shape_.key_width() + i * key_dim, key_dim});
    }
  }
  for (uint32_t i = 0; i < shape_.value_heads; ++i) {
    const uint32_t key_head = i / group, member = i % group;
    const uint32_t v = key_head * stride + 2 * key_dim + member * shape_.value_dim;
    channels_.push_back({v, 2 * shape_.key_width() + i * shape_.value_dim, shape_.value_dim});
    const uint32_t b = rates + key_head * 2 * group + member;
    heads_.push_back({.z = v + group * shape_.value_dim, .a = b + group, .b = b});
  }
}

void GatedDelta::forward(const float* x, Run& run, float* y) const {
  Activations& a = *run.activations;
  project(x, run);
  convolve(run);
  recur(run);
  const LinearCall out[] = {{&out_, y, hidden_}};
  apply_linears(run.compute, out, a.attended, shape_.value_width(), run.tokens, a.inputs);
}

void GatedDelta::project(const float* x, Run& run) const {
  Activations& a = *run.activations;
  float* row = a.mixed;
  const LinearCall first[] = {{&in_[0], row, row_width_, first_inputs_[0]},
                              {&in_[1], row + in_[0].rows(), row_width_, first_inputs_[1]}};
  apply_linears(run.compute, first, x, hidden_, run.tokens, a.inputs);
  if (rows_ == Rows::by_key_head) return;
  row += in_[0].rows() + in_[1].rows();
  const LinearCall second[] = {{&in_[2], row, row_width_, second_inputs_[0]},
                               {&in_[3], row + in_[2].rows(), row_width_, second_inputs_[1]}};
  apply_linears(run.compute, second, x, hidden_, run.tokens, a.inputs);
}

void GatedDelta::convolve(Run& run) const {
  Activations& a = *run.activations;
  const auto tasks = static_cast<uint32_t>(channels_.size());
  run.compute.workers->run(tasks, [&](uint32_t task, uint32_t) {
    const CausalConvolution::Channels& channels = channels_[task];
    convolution_.apply(channels, a.mixed, row_width_, state_layer_, run, a.convolved);
    if (task >= 2 * shape_.key_heads) return;
    const bool is_query = task < shape_.key_heads;
    for (uint32_t t = 0; t < run.tokens; ++t) {
      float* vector = a.convolved + uint64_t{t} * shape_.channels() + channels.first;
      run.compute.kernels->rms_norm(vector, is_query ? unit_query_.data() : unit_key_.data(),
                                    shape_.key_dim,
                                    kLengthEpsilon / static_cast<float>(shape_.key_dim), vector);
    }
  });
}

void GatedDelta::recur(Run& run) const {
  const kernels::Table& kernels = *run.compute.kernels;
  Activations& a = *run.activations;
  const uint32_t group = shape_.value_heads / shape_.key_heads;
  const uint32_t value_dim = shape_.value_dim;
  run.compute.workers->run(shape_.value_heads, [&](uint32_t head, uint32_t) {
    for (uint32_t t = 0; t < run.tokens; ++t) {
      const float* row = a.mixed + uint64_t{t} * row_width_;
      const float* qkv = a.convolved + uint64_t{t} * shape_.channels();
      const float* query = qkv + uint64_t{head / group} * shape_.key_dim;
      float* out = a.attended + uint64_t{t} * shape_.value_width() + head * value_dim;
      const double step = steps_.step(head, row[heads_[head].a]);
      kernels.delta_step({.state = run.recurrent->head(state_layer_, head),
                          .query = query,
                          .key = query + shape_.key_width(),
                          .value = qkv + 2 * shape_.key_width() + head * value_dim,
                          .out = out,
                          .key_dim = shape_.key_dim,
                          .value_dim = value_dim,
                          .decay = steps_.decay(head, step),
                          .rate = sigmoid_of(row[heads_[head].b])});
      kernels.rms_norm(out, norm_.data(), value_dim, epsilon_, out);
      kernels.swiglu(row + heads_[head].z, out, value_dim, out);
    }
  });
}

}  // namespace sluice
