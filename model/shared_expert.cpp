#include "model/shared_expert.h"

namespace sluice {

SharedExpert::SharedExpert(Trunk& trunk, const std::string& prefix,
                           const SharedExpertVariant& variant, const ModelConfig& config)
    : hidden_(config.hidden),
      mlp_(trunk, prefix + "." + variant.name, config.shared_intermediate, config) {
  if (variant.gate.empty()) return;
  gate_.emplace(trunk, prefix + "." + variant.gate, Linear::Shape{.rows = 1, .cols = hidden_},
                false, config.turboquant.rotated);
}

void SharedExpert::forward(const float* x, Run& run, float* y) const {
  mlp_.forward(x, run, y);
  if (!gate_) return;
  Activations& a = *run.activations;
  float* gates = a.up;  // [tokens]; the MLP is done with it
  const LinearCall call[] = {{&*gate_, gates, 1}};
  apply_linears(run.compute, call, x, hidden_, run.tokens, a.inputs);
  run.compute.kernels->sigmoid(gates, run.tokens);
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    float* out = y + uint64_t{t} * hidden_;
    for (uint32_t i = 0; i < hidden_; ++i) out[i] *= gates[t];
  });
}

}  // namespace sluice
