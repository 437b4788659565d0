#include "model/trace_facts.h"

#include "io/error.h"
#include "model/network.h"

namespace sluice {

TraceFacts trace_facts(const ModelConfig& config, const ExpertSource& source) {
  return {.model_type = config.model_type,
          .grid = grid_of(source),
          .experts_per_token = config.experts_per_token,
          .expert_bytes = source.expert_bytes(),
          .slot_bytes = source.slot_bytes()};
}

TraceFacts read_trace_facts(const std::string& directory) {
  const ModelConfig config = read_config(directory);
  const Checkpoint checkpoint = Checkpoint::open(directory);
  const std::vector<ExpertNames> names = expert_names(config, checkpoint);
  if (names.empty()) {
    throw Error(directory, ": this model has no experts, so there is nothing to calibrate");
  }
  return trace_facts(config, ExpertSource(checkpoint, names));
}

}  // namespace sluice
