// Synthetic models: the tensors and the config.json of published shapes, without any values.
// bench/synthesize.cpp fills them in. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors_writer.h"

namespace sluice {

struct SyntheticOptions {
  std::string shape;     // one of synthetic_shapes()
  uint32_t layers = 0;   // instead of the shape's; 0: the shape's
  uint32_t experts = 0;  // the same
  std::string format;    // one of synthetic_formats()
  uint32_t dense = 0;    // of DeepSeek: layers without experts, the first ones; 0: the shape's
  // Of shapes with layers of several kinds: a letter a layer, repeated; empty: the shape's.
  std::string pattern = {};
  uint32_t vocabulary = 0;  // instead of the shape's; 0: the shape's
};

struct SyntheticModel {
  std::vector<TensorInfo> tensors;  // file and offset not set
  std::string config;               // config.json
};

// Whether a tensor of one of these models is its table of token embeddings; whether it belongs to
// the matrix that ends attention, or a linear or recurrent mixer.
bool is_embedding(std::string_view tensor);
bool ends_mixer(std::string_view tensor);

// Without a place in a file.
TensorInfo synthetic_tensor(const std::string& name, DType dtype, std::vector<uint64_t> shape);
std::vector<std::string> synthetic_shapes();
// "bf16", "f16", "f32": everything. "f8": projections in F8 with a scale for 128 × 128 weights, the
// rest bf16, as DeepSeek-V3 is published. "tq2": experts in TurboQuant of 2 bits in the MLX layout,
// groups of 128, the rest bf16.
std::vector<std::string> synthetic_formats();

// Throws Error: a format that the shape's dimensions do not allow, no layer with experts.
SyntheticModel synthetic_model(const SyntheticOptions& options);

}  // namespace sluice
