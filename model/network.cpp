#include "model/network.h"

#include "io/error.h"
#include "model/qwen3.h"

namespace sluice {

std::vector<ExpertNames> expert_names(const ModelConfig& config) {
  return Qwen3::expert_names(config);
}

std::unique_ptr<const Network> make_network(const ModelConfig& config, Trunk& trunk,
                                            const ExpertSource* experts) {
  return std::make_unique<Qwen3>(config, trunk, experts);
}

}  // namespace sluice
