#include "model/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "io/check.h"

namespace sluice {

namespace {

uint64_t head_bytes(const KvShape& shape, uint32_t layer) {
  return shape.room(layer) * shape.row_bytes();
}

// Of keys and values, or of latents.
uint64_t layer_bytes(const KvShape& shape, uint32_t layer) {
  return (shape.latent ? 1 : 2) * shape.kv_heads * head_bytes(shape, layer);
}

uint64_t all_layers_bytes(const KvShape& shape) {
  uint64_t total = 0;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) total += layer_bytes(shape, layer);
  return total;
}

std::byte* layout(Arena& arena, const KvShape& shape) {
  const uint64_t index_bytes = shape.context * shape.index_row_bytes();
  return arena.take<std::byte>(all_layers_bytes(shape) + shape.layers * index_bytes);
}

}  // namespace

uint64_t KvShape::room(uint32_t layer) const {
  const uint64_t window = windows.empty() ? 0 : windows[layer];
  return window == 0 ? context : std::min(context, 2 * window + chunk);
}

KvCache::KvCache(const KvShape& shape) : shape_(shape), first_(shape.layers, 0) {
  SLUICE_CHECK(shape.windows.empty() || shape.windows.size() == shape.layers);
  uint64_t offset = 0;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    offsets_.push_back(offset);
    offset += layer_bytes(shape, layer);
  }
  layout(arena_, shape);
  arena_.allocate("the key/value cache");
  base_ = layout(arena_, shape);
}

uint64_t KvCache::bytes(const KvShape& shape) {
  Arena measure;
  layout(measure, shape);
  return measure.bytes();
}

void KvCache::make_room(uint32_t layer, uint64_t position, uint32_t tokens) {
  uint64_t& first = first_[layer];
  const uint64_t room = shape_.room(layer);
  if (position == 0) first = 0;  // of a session that begins, or begins anew
  SLUICE_CHECK(position >= first);
  if (position + tokens - first <= room) return;
  const uint64_t window = shape_.windows.empty() ? 0 : shape_.windows[layer];
  SLUICE_CHECK(window > 0 && tokens <= shape_.chunk && position - first >= window);
  // What the first of the new tokens sees of the old: one less than a window.
  const uint64_t kept_from = position - (window - 1);
  const uint64_t row_bytes = shape_.row_bytes();
  for (uint32_t which = 0; which < 2; ++which) {
    for (uint32_t kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
      std::byte* rows = head(layer, which, kv_head);
      std::memmove(rows, rows + (kept_from - first) * row_bytes, (window - 1) * row_bytes);
    }
  }
  first = kept_from;
}

std::byte* KvCache::head(uint32_t layer, uint32_t which, uint32_t kv_head) const {
  return base_ + offsets_[layer] +
         (uint64_t{which} * shape_.kv_heads + kv_head) * head_bytes(shape_, layer);
}

const std::byte* KvCache::keys(uint32_t layer, uint32_t kv_head, uint64_t position) const {
  return head(layer, 0, kv_head) + (position - first_[layer]) * shape_.row_bytes();
}

const std::byte* KvCache::values(uint32_t layer, uint32_t kv_head, uint64_t position) const {
  return head(layer, 1, kv_head) + (position - first_[layer]) * shape_.row_bytes();
}

std::byte* KvCache::index_row(uint32_t layer) const {
  return base_ + all_layers_bytes(shape_) + layer * shape_.context * shape_.index_row_bytes();
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
            head(layer, which, kv_head) + (position - first_[layer]) * shape_.row_bytes());
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
