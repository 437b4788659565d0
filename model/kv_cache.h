// KvCache: keys and values of every position so far, per layer and key/value head.
//
//   [layer][k or v][kv_head][position][head_dim], F16 or F32
//
// so that one head's history is one contiguous run for the attention kernel. Memory is reserved for
// the whole context and touched as positions are written.
// Owns: the arena. Threads: one writer; any reader of positions already written.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "model/arena.h"

namespace sluice {

struct KvShape {
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint64_t context = 0;  // positions
  kernels::KvFormat format = kernels::KvFormat::f16;
  // Of one position of one head.
  uint64_t row_bytes() const;
};

class KvCache {
 public:
  explicit KvCache(const KvShape& shape);

  static uint64_t bytes(const KvShape& shape);

  const KvShape& shape() const { return shape_; }
  // Stores one position of one layer; k, v [kv_heads, head_dim]. Requires: position < context.
  void write(uint32_t layer, uint64_t position, const float* k, const float* v);
  // First position of one head, [context, head_dim].
  const std::byte* keys(uint32_t layer, uint32_t kv_head) const;
  const std::byte* values(uint32_t layer, uint32_t kv_head) const;

 private:
  std::byte* head(uint32_t layer, uint32_t which, uint32_t kv_head) const;

  KvShape shape_;
  Arena arena_;
  std::byte* base_ = nullptr;
};

}  // namespace sluice
