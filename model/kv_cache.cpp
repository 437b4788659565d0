#include "model/kv_cache.h"

#include <cstring>

namespace sluice {

namespace {

uint64_t head_bytes(const KvShape& shape) { return shape.context * shape.row_bytes(); }

// Of keys and values, or of latents.
uint64_t layer_bytes(const KvShape& shape) {
  return (shape.latent ? 1 : 2) * shape.kv_heads * head_bytes(shape);
}

std::byte* layout(Arena& arena, const KvShape& shape) {
  const uint64_t index_bytes = shape.context * shape.index_row_bytes();
  return arena.take<std::byte>(shape.layers * (layer_bytes(shape) + index_bytes));
}

}  // namespace

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
  return base_ + layer * layer_bytes(shape_) +
         (uint64_t{which} * shape_.kv_heads + kv_head) * head_bytes(shape_);
}

const std::byte* KvCache::keys(uint32_t layer, uint32_t kv_head) const {
  return head(layer, 0, kv_head);
}

const std::byte* KvCache::values(uint32_t layer, uint32_t kv_head) const {
  return head(layer, 1, kv_head);
}

std::byte* KvCache::index_row(uint32_t layer) const {
  return base_ + shape_.layers * layer_bytes(shape_) +
         layer * shape_.context * shape_.index_row_bytes();
}

void KvCache::store(const float* values, uint32_t n, std::byte* to) const {
  if (shape_.format == kernels::KvFormat::f16) {
    kernels::table().to_f16(values, n, to);
  } else {
    std::memcpy(to, values, n * sizeof(float));
  }
}

void KvCache::write(uint32_t layer, uint64_t position, const float* k, const float* v) {
  for (uint32_t which = 0; which < 2; ++which) {
    const float* source = which == 0 ? k : v;
    for (uint32_t kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
      store(source + uint64_t{kv_head} * shape_.head_dim, shape_.head_dim,
            head(layer, which, kv_head) + position * shape_.row_bytes());
    }
  }
}

void KvCache::write_latent(uint32_t layer, uint64_t position, const float* row) {
  store(row, shape_.head_dim, head(layer, 0, 0) + position * shape_.row_bytes());
}

void KvCache::write_index(uint32_t layer, uint64_t position, const float* row) {
  store(row, shape_.index_dim, index_row(layer) + position * shape_.index_row_bytes());
}

}  // namespace sluice
