// SharedExpert: the MLP beside the routed experts that every token goes through, resident like the
// rest of the trunk; times sigmoid(w · x) where a family gates it.
#pragma once

#include <optional>
#include <string>

#include "model/block.h"
#include "model/mlp.h"

namespace sluice {

// What a family calls it; no name: its models have none.
struct SharedExpertVariant {
  std::string name;  // "shared_expert"
  std::string gate;  // "shared_expert_gate"; empty: not gated
};

class SharedExpert final : public Block {
 public:
  // prefix: "model.layers.3.mlp". Requires: config.shared_intermediate > 0.
  SharedExpert(Trunk& trunk, const std::string& prefix, const SharedExpertVariant& variant,
               const ModelConfig& config);

  void forward(const float* x, Run& run, float* y) const override;

 private:
  uint32_t hidden_;
  Mlp mlp_;
  std::optional<Linear> gate_;  // [1, hidden]
};

}  // namespace sluice
