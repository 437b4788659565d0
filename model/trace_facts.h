// What a trace says of the model it was recorded with.
#pragma once

#include <string>

#include "model/config.h"
#include "stream/trace.h"

namespace sluice {

TraceFacts trace_facts(const ModelConfig& config, const ExpertSource& source);
// Of a model directory, from its headers alone. Throws Error: anything wrong with it, a model
// without experts.
TraceFacts read_trace_facts(const std::string& directory);

}  // namespace sluice
