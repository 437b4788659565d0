// The experts of one layer from their tensor of records (record_format.h); find_experts() calls
// this once it has seen that tensor and checked the names beside it. Threads: any.
#pragma once

#include "io/checkpoint.h"
#include "stream/expert_layout.h"

namespace sluice {

// Throws Error: a table that lies, or records of other projections or shapes than promised, or
// that do not start on a page; codebook or signs missing or of another shape; biases.
// Requires: checkpoint has a tensor record_tensor_name(names.per_expert_prefix).
ExpertLayout read_record_layout(const Checkpoint& checkpoint, const ExpertNames& names);

}  // namespace sluice
