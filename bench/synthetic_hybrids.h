// Synthetic models of layers of several kinds, in the form in which they are published: Qwen3.6
// (BF16, fused experts), gpt-oss (MXFP4) and Nemotron-H (BF16, experts on a latent state).
// See bench/synthetic_model.h. Threads: any.
#pragma once

#include <string>
#include <vector>

#include "bench/synthetic_model.h"

namespace sluice {

std::vector<std::string> hybrid_shapes();
// layers and experts of the options count; layers are cut or repeated in the order of the shape's
// own. Requires: one of hybrid_shapes().
SyntheticModel hybrid_model(const SyntheticOptions& options);

}  // namespace sluice
