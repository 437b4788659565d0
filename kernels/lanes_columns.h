// Matrices of plain floats in columns over Lanes: a register holds one input's weights of 16 rows.
//
// So a dot product's 16 lanes (kernels.h) are here 16 registers for every 16 rows: input i goes
// into register i % 16, and the registers are summed by halves in the end. They are more than there
// are, so they live in the first-level cache, and as many rows at once as fit there (16 KiB) make
// the reads of every input long.
#pragma once

#include "kernels/lanes.h"
#include "kernels/lanes_matmul.h"

namespace sluice::kernels {
namespace {

// Sixteens of rows, times vectors, that are computed at once.
constexpr uint32_t kColumnBlocks = 16;

// Rows [row, row + count), count ≤ kBlocks * 16, of kVectors vectors; x and y: the first vector's.
template <typename Weights, uint32_t kVectors>
inline void columns(const Matrix& w, uint32_t row, uint32_t count, const float* x, size_t x_stride,
                    float* y, size_t y_stride) {
  constexpr uint32_t kBlocks = kColumnBlocks / kVectors;
  Lanes lanes[kLanes][kVectors][kBlocks];
  const uint32_t whole = count / kLanes, rest = count % kLanes;
  const uint32_t blocks = whole + (rest > 0 ? 1 : 0);
  const auto for_each = [&](auto body) {
    for (uint32_t v = 0; v < kVectors; ++v) {
      for (uint32_t b = 0; b < blocks; ++b) body(v, b);
    }
  };
  for (auto& lane : lanes) {
    for_each([&](uint32_t v, uint32_t b) { lane[v][b] = splat(0); });
  }
  for (size_t i = 0; i < w.cols; ++i) {
    const std::byte* weights = w.data + (i * w.rows + row) * Weights::kBytes;
    auto& lane = lanes[i % kLanes];
    Lanes input[kVectors];
    for (uint32_t v = 0; v < kVectors; ++v) input[v] = splat(x[v * x_stride + i]);
    const auto accumulate = [&](uint32_t b, Lanes weight) {
      for (uint32_t v = 0; v < kVectors; ++v) lane[v][b] = fma(weight, input[v], lane[v][b]);
    };
    for (uint32_t b = 0; b < whole; ++b) {
      accumulate(b, Weights::whole(weights + size_t{b} * kLanes * Weights::kBytes));
    }
    if (rest > 0) {
      accumulate(whole, Weights::first(weights + size_t{whole} * kLanes * Weights::kBytes, rest));
    }
  }
  // The zeros that a short last block is padded with: they turn a sum of -0 into 0.
  for (size_t i = w.cols; i % kLanes != 0; ++i) {
    auto& lane = lanes[i % kLanes];
    for_each([&](uint32_t v, uint32_t b) { lane[v][b] = lane[v][b] + splat(0); });
  }
  for (uint32_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint32_t j = 0; j < half; ++j) {
      for_each(
          [&](uint32_t v, uint32_t b) { lanes[j][v][b] = lanes[j][v][b] + lanes[j + half][v][b]; });
    }
  }
  for_each([&](uint32_t v, uint32_t b) {
    float* to = y + v * y_stride + row + size_t{b} * kLanes;
    if (b < whole) {
      store(to, lanes[0][v][b]);
    } else {
      store_first(to, lanes[0][v][b], rest);
    }
  });
}

template <typename Weights>
inline void matmul_columns(const Matrix& w, const MatmulTask& task, const float* x, float* y) {
  const auto strips = [&](uint32_t vector, auto compute, uint32_t rows_at_once) {
    for (uint32_t row = task.row_begin; row < task.row_end;) {
      const uint32_t left = task.row_end - row;
      const uint32_t count = left < rows_at_once ? left : rows_at_once;
      compute(w, row, count, x + size_t{vector} * task.x_stride, task.x_stride,
              y + size_t{vector} * task.y_stride, task.y_stride);
      row += count;
    }
  };
  uint32_t v = 0;
  for (; task.vectors - v >= 4; v += 4) strips(v, columns<Weights, 4>, kColumnBlocks / 4 * kLanes);
  for (; v < task.vectors; ++v) strips(v, columns<Weights, 1>, kColumnBlocks * kLanes);
}

}  // namespace
}  // namespace sluice::kernels
