// KvCache: keys and values of every position so far, per layer and key/value head.
//
//   [layer][k or v][kv_head][position][head_dim], F16 or F32
//
// so that one head's history is one contiguous run for the attention kernel. A layer with a sliding
// window holds its last positions alone: room for two windows and a forward call's tokens, where
// the last window moves to the front when the end is reached, so that what is seen stays one run in
// its order and every position moves once a window at most. Latent attention
// (model/mla.h) keeps one row a position that keys and values are made of, and beside it, where it
// is sparse, the indexer's key:
//
//   [layer][position][head_dim] then [layer][position][index_dim]
//
// Memory is reserved for the whole context and touched as positions are written.
// Owns: the arena. Threads: one calls make_room(); then any may write, each its own position, and
// read positions already written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "model/arena.h"

namespace sluice {

struct KvShape {
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint64_t context = 0;  // positions
  kernels::KvFormat format = kernels::KvFormat::f16;
  bool latent = false;     // kv_heads is 1, and there are no values
  uint32_t index_dim = 0;  // 0: no indexer
  // [layers]: how many positions a token sees, itself included; 0, or an empty array: all. Those
  // of latent attention see all.
  std::vector<uint32_t> windows = {};
  uint32_t chunk = 1;  // tokens of one forward call at most
  // How many positions a layer has room for.
  uint64_t room(uint32_t layer) const;
  // Of one position of one head.
  uint64_t row_bytes() const { return values_bytes(head_dim); }
  uint64_t index_row_bytes() const { return values_bytes(index_dim); }
  uint64_t values_bytes(uint64_t n) const { return n * (format == kernels::KvFormat::f16 ? 2 : 4); }
};

class KvCache {
 public:
  explicit KvCache(const KvShape& shape);

  static uint64_t bytes(const KvShape& shape);

  const KvShape& shape() const { return shape_; }
  // Before a layer's positions [position, position + tokens) are written: of its window, those
  // before them stay. Requires: tokens ≤ chunk, position + tokens ≤ context, and position is 0 or
  // none that a window has left behind.
  void make_room(uint32_t layer, uint64_t position, uint32_t tokens);
  // Stores one position of one layer; k, v [kv_heads, head_dim]. Requires: room was made for it.
  void write(uint32_t layer, uint64_t position, const float* k, const float* v);
  // The same of latent attention: rows [head_dim] and [index_dim].
  void write_latent(uint32_t layer, uint64_t position, const float* row);
  void write_index(uint32_t layer, uint64_t position, const float* row);
  // One head's rows from `position` on, [positions, head_dim]. Requires: position is within the
  // window of the last that was written.
  const std::byte* keys(uint32_t layer, uint32_t kv_head, uint64_t position) const;
  const std::byte* values(uint32_t layer, uint32_t kv_head, uint64_t position) const;
  // First position, [context, head_dim] and [context, index_dim].
  const std::byte* latents(uint32_t layer) const { return head(layer, 0, 0); }
  const std::byte* index_keys(uint32_t layer) const { return index_row(layer); }

 private:
  std::byte* head(uint32_t layer, uint32_t which, uint32_t kv_head) const;
  std::byte* index_row(uint32_t layer) const;  // of position 0
  void store(const float* values, uint32_t n, std::byte* to) const;

  KvShape shape_;
  std::vector<uint64_t> offsets_;  // [layers]: bytes before each, from base_ on
  std::vector<uint64_t> first_;    // [layers]: the position that lies in the first row
  Arena arena_;
  std::byte* base_ = nullptr;
};

}  // namespace sluice
