// What running a checkpoint takes, measured from its headers alone: no tensor's bytes are read. The
// loader plans with it before it reads the trunk, and stream-plan shows it without loading.
// Threads: any.
#pragma once

#include <optional>

#include "io/checkpoint.h"
#include "model/network.h"
#include "model/plan.h"
#include "model/session.h"
#include "model/trunk.h"

namespace sluice {

// Makes experts (none for a dense model) and a trunk that knows every tensor it will read.
// Throws Error: tensors missing, of another type or shape than config promises, or not part of the
// model. Requires: checkpoint outlives trunk.
void declare_model(const ModelConfig& config, const Checkpoint& checkpoint,
                   std::optional<ExpertSource>& experts, std::optional<Trunk>& trunk);

// What a session of this model keeps of limits.context positions.
KvShape kv_shape(const ModelConfig& config, const RunLimits& limits, kernels::KvFormat format);

struct ModelMeasure {
  RunLimits limits;
  KvShape kv_shape;
  RecurrentShape recurrent_shape;
  PlanInputs inputs;  // for plan_memory(); borrows experts
};

// memory: what may be used. Throws Error: a context beyond the model's, too many threads.
// Requires: trunk and experts of declare_model(); experts outlives the result.
ModelMeasure measure_model(const ModelConfig& config, const ModelOptions& options,
                           const Trunk& trunk, const std::optional<ExpertSource>& experts,
                           const MemoryLimits& memory);

}  // namespace sluice
