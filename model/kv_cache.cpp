#include "model/kv_cache.h"

#include <cstring>

namespace sluice {

namespace {

uint64_t head_bytes(const KvShape& shape) { return shape.context * shape.row_bytes(); }

std::byte* layout(Arena& arena, const KvShape& shape) {
  return arena.take<std::byte>(uint64_t{shape.layers} * 2 * shape.kv_heads * head_bytes(shape));
}

}  // namespace

uint64_t KvShape::row_bytes() const {
  return uint64_t{head_dim} * (format == kernels::KvFormat::f16 ? 2 : 4);
}

KvCache::KvCache(const KvShape& shape) : shape_(shape) {
  layout(arena_, shape);
  arena_.allocate("the key/value cache");
  base_ = layout(arena_, shape);
}

uint64_t KvCache::bytes(const KvShape& shape) {
  Arena measure;
  layout(measure, shape);
  return measure.bytes();
}

std::byte* KvCache::head(uint32_t layer, uint32_t which, uint32_t kv_head) const {
  return base_ + ((uint64_t{layer} * 2 + which) * shape_.kv_heads + kv_head) * head_bytes(shape_);
}

const std::byte* KvCache::keys(uint32_t layer, uint32_t kv_head) const {
  return head(layer, 0, kv_head);
}

const std::byte* KvCache::values(uint32_t layer, uint32_t kv_head) const {
  return head(layer, 1, kv_head);
}

void KvCache::write(uint32_t layer, uint64_t position, const float* k, const float* v) {
  const uint64_t row_bytes = shape_.row_bytes();
  for (uint32_t which = 0; which < 2; ++which) {
    const float* source = which == 0 ? k : v;
    for (uint32_t kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
      std::byte* row = head(layer, which, kv_head) + position * row_bytes;
      const float* values = source + uint64_t{kv_head} * shape_.head_dim;
      if (shape_.format == kernels::KvFormat::f16) {
        kernels::table().to_f16(values, shape_.head_dim, row);
      } else {
        std::memcpy(row, values, row_bytes);
      }
    }
  }
}

}  // namespace sluice
