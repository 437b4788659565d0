#include "model/mlp.h"

namespace sluice {

Mlp::Mlp(Trunk& trunk, const std::string& prefix, uint32_t width, const ModelConfig& config)
    : hidden_(config.hidden), width_(width), gated_(!config.mlp_relu_squared) {
  const bool bias = config.mlp_bias;
  const bool rotated = config.turboquant.rotated;
  if (gated_) {
    gate_ = Linear(trunk, prefix + ".gate_proj", {.rows = width_, .cols = hidden_}, bias, rotated);
  }
  up_ = Linear(trunk, prefix + ".up_proj", {.rows = width_, .cols = hidden_}, bias, rotated);
  if (gated_) gate_up_inputs_ = share_inputs(std::array<const Linear*, 2>{&gate_, &up_});
  down_ = Linear(trunk, prefix + ".down_proj", {.rows = hidden_, .cols = width_}, bias, rotated);
}

void Mlp::forward(const float* x, Run& run, float* y) const {
  Activations& a = *run.activations;
  if (!gated_) return forward_without_gate(x, run, y);
  const LinearCall gate_up[] = {{&gate_, a.gate, width_, gate_up_inputs_[0]},
                                {&up_, a.up, width_, gate_up_inputs_[1]}};
  apply_linears(run.compute, gate_up, x, hidden_, run.tokens, a.inputs);
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    float* gate = a.gate + uint64_t{t} * width_;
    run.compute.kernels->swiglu(gate, a.up + uint64_t{t} * width_, width_, gate);
  });
  const LinearCall down[] = {{&down_, y, hidden_}};
  apply_linears(run.compute, down, a.gate, width_, run.tokens, a.inputs);
}

void Mlp::forward_without_gate(const float* x, Run& run, float* y) const {
  Activations& a = *run.activations;
  const LinearCall up[] = {{&up_, a.up, width_}};
  apply_linears(run.compute, up, x, hidden_, run.tokens, a.inputs);
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    run.compute.kernels->relu_squared(a.up + uint64_t{t} * width_, width_);
  });
  const LinearCall down[] = {{&down_, y, hidden_}};
  apply_linears(run.compute, down, a.up, width_, run.tokens, a.inputs);
}

}  // namespace sluice
