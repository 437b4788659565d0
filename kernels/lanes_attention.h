// Attention of one token over Lanes. Keys and values are read from memory once for all query heads.
#pragma once

#include "kernels/lanes.h"
#include "kernels/lanes_elementwise.h"
#include "kernels/lanes_matmul.h"

namespace sluice::kernels {
namespace {

inline uint32_t value_width(const AttentionTask& task) {
  return task.value_dim > 0 ? task.value_dim : task.head_dim;
}
inline uint32_t value_stride(const AttentionTask& task) {
  return task.value_stride > 0 ? task.value_stride : value_width(task);
}

// Adds positions [t_begin, t_end) to kHeads outputs, kBlocks * 16 lanes (or the first `count` of
// 16) from lane `first` on. The accumulators live in registers meanwhile.
template <typename Values, uint32_t kHeads, uint32_t kBlocks, typename Get, typename Put,
          typename GetValues>
inline void add_values(const AttentionTask& task, uint32_t head, uint32_t t_begin, uint32_t t_end,
                       size_t first, Get get, Put put, GetValues get_values) {
  const size_t row_bytes = size_t{value_stride(task)} * Values::kBytes;
  const size_t width = value_width(task);
  float* out = task.out + size_t{head} * width + first;
  const float* weights = task.scores + size_t{head} * task.positions;
  Lanes lanes[kHeads][kBlocks];
  for (uint32_t h = 0; h < kHeads; ++h) {
    for (uint32_t b = 0; b < kBlocks; ++b) {
      lanes[h][b] = get(out + size_t{h} * width + size_t{b} * kLanes);
    }
  }
  for (size_t t = t_begin; t < t_end; ++t) {
    const std::byte* row = task.v + t * row_bytes + first * Values::kBytes;
    Lanes v[kBlocks];
    for (uint32_t b = 0; b < kBlocks; ++b) v[b] = get_values(row + b * kLanes * Values::kBytes);
    for (uint32_t h = 0; h < kHeads; ++h) {
      const Lanes p = splat(weights[size_t{h} * task.positions + t]);
      for (uint32_t b = 0; b < kBlocks; ++b) lanes[h][b] = fma(p, v[b], lanes[h][b]);
    }
  }
  for (uint32_t h = 0; h < kHeads; ++h) {
    for (uint32_t b = 0; b < kBlocks; ++b) {
      put(out + size_t{h} * width + size_t{b} * kLanes, lanes[h][b]);
    }
  }
}

template <typename Values, uint32_t kHeads>
inline void add_values_of_heads(const AttentionTask& task, uint32_t head, uint32_t t_begin,
                                uint32_t t_end) {
  constexpr uint32_t kBlocks = kHeads == 1 ? 4 : kValueSums / kHeads;
  const auto put = [](float* to, Lanes a) { store(to, a); };
  const auto get = [](const float* from) { return load(from); };
  const size_t width = value_width(task);
  size_t first = 0;
  for (; first + size_t{kBlocks} * kLanes <= width; first += size_t{kBlocks} * kLanes) {
    add_values<Values, kHeads, kBlocks>(task, head, t_begin, t_end, first, get, put, Values::whole);
  }
  for (; first + kLanes <= width; first += kLanes) {
    add_values<Values, kHeads, 1>(task, head, t_begin, t_end, first, get, put, Values::whole);
  }
  if (const size_t rest = width - first; rest > 0) {
    add_values<Values, kHeads, 1>(
        task, head, t_begin, t_end, first,
        [rest](const float* from) { return load_first(from, rest); },
        [rest](float* to, Lanes a) { store_first(to, a, rest); },
        [rest](const std::byte* from) { return Values::first(from, rest); });
  }
}

template <typename Values>
inline void attend(const AttentionTask& task) {
  // The scores are the product of the keys as a matrix with the query heads as vectors.
  const MatmulTask keys = {.row_begin = 0,
                           .row_end = task.positions,
                           .vectors = task.heads,
                           .x_stride = task.head_dim,
                           .y_stride = task.positions};
  matmul_floats<Values>(task.k, task.head_dim, keys, task.q, task.scores);
  for (uint32_t head = 0; head < task.heads; ++head) {
    float* scores = task.scores + size_t{head} * task.positions;
    for_each_block(task.positions, [&](size_t i, auto get, auto put) {
      put(scores + i, get(scores + i) * splat(task.scale));
    });
    softmax_beside(task.sinks == nullptr ? nullptr : task.sinks + head, scores, task.positions);
  }
  for_each_block(size_t{task.heads} * value_width(task),
                 [&](size_t i, auto, auto put) { put(task.out + i, splat(0)); });
  // So many positions at a time stay in the first-level cache (64 * 128 halves: 16 KiB) while all
  // heads pass over them; of wider rows fewer, but enough to outweigh loading the sums each time.
  constexpr uint32_t kValues = 64 * 128, kFewest = 16, kMost = 64;
  const uint32_t fitting = kValues / value_stride(task);
  const uint32_t positions = fitting < kFewest ? kFewest : fitting > kMost ? kMost : fitting;
  for (uint32_t t = 0; t < task.positions;) {
    const uint32_t end = task.positions - t > positions ? t + positions : task.positions;
    uint32_t head = 0;
    if constexpr (kValueSums > 8) {
      for (; task.heads - head >= 8; head += 8) add_values_of_heads<Values, 8>(task, head, t, end);
    }
    for (; task.heads - head >= 4; head += 4) add_values_of_heads<Values, 4>(task, head, t, end);
    for (; head < task.heads; ++head) add_values_of_heads<Values, 1>(task, head, t, end);
    t = end;
  }
}

inline void attention(const AttentionTask& task) {
  if (task.format == KvFormat::f16) {
    attend<F16Weights>(task);
  } else {
    attend<F32Weights>(task);
  }
}

}  // namespace
}  // namespace sluice::kernels
