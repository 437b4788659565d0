// QuantizePlan: which tensors of a published Qwen3-MoE checkpoint become which tensors of a
// TurboQuant one, in which shard. Looks at names, dtypes and shapes only; writing is
// make_demo.cpp's.
//
//   model.layers.L.self_attn.{q,k,v,o}_proj.weight       -> quantized, same path
//   model.layers.L.mlp.{gate,up,down}_proj.weight        -> quantized, same path (dense layers)
//   lm_head.weight                                       -> quantized, same path
//   model.layers.L.mlp.experts.E.{gate,up,down}_proj.weight, all E
//                                                        -> model.layers.L.mlp.switch_mlp.*_proj
//                                                        [E, ...]
//   everything else (embeddings, norms, routers, biases) -> copied byte for byte
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace sluice::demo {

// More than any published model has; bounds what a tensor's name can make us allocate.
inline constexpr uint64_t kMaxExperts = 65536;

struct Quantization {
  uint32_t codebook_length = 8;  // 3 bits
  uint32_t group = 64;
};

// One matrix, a stack of them, or one copied tensor.
struct Item {
  std::string path;  // P of P.weight; for a copied tensor its whole name
  bool quantized = false;
  // The originals: one, or the experts in order. They point into the Checkpoint.
  std::vector<const TensorInfo*> sources;
  uint64_t rows = 0;  // of one source, if quantized
  uint64_t cols = 0;
  // What is written, in order: the copy, or weight, scales, codebook, signs.
  std::vector<TensorInfo> outputs;
  uint64_t output_bytes = 0;
};

// Items in the order of their paths. Throws Error naming the tensor: a dtype other than F32, F16
// and BF16, a shape that is no matrix or differs between experts, a width that the group does not
// divide, an expert missing; or no experts at all.
std::vector<Item> plan_items(const Checkpoint& checkpoint, const Quantization& quantization);

// Cuts the items into shards of at most max_bytes of tensors (a larger item has its own).
std::vector<std::vector<Item>> split_shards(std::vector<Item> items, uint64_t max_bytes);

}  // namespace sluice::demo
