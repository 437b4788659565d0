// Matrices of F8_E4M3 with a scale for each block, times float vectors over Lanes.
#pragma once

#include "kernels/lanes.h"
#include "kernels/lanes_codebook.h"
#include "kernels/lanes_elementwise.h"
#include "kernels/lanes_matmul.h"

#if defined(__AVX512F__)
#include "kernels/avx512_f8.h"
#elif defined(__AVX2__)
#include "kernels/avx2_f8.h"
#endif

namespace sluice::kernels {
namespace {

// kRows rows times kVectors vectors: enough chains of additions to keep the multiplier busy, few
// enough to stay in registers. x and y: the first vector's; y at the first row.
template <uint32_t kRows, uint32_t kVectors>
class F8Rows {
 public:
  F8Rows(const Matrix& w, uint32_t row) : w_(w), codes_(w.data + size_t{row} * w.cols) {
    blocks_ = (size_t{w.cols} + w.group - 1) / w.group;
    for (uint32_t r = 0; r < kRows; ++r) {
      scales_[r] = w.scales + (row + r) / w.block_rows * blocks_ * float_bytes(w.scale_format);
    }
  }

  void multiply(const float* x, size_t x_stride, float* y, size_t y_stride) {
    Lanes totals[kRows][kVectors];
    clear(totals);
    for (size_t block = 0; block < blocks_; ++block) {
      const size_t begin = block * w_.group;
      const size_t end = w_.cols - begin < w_.group ? w_.cols : begin + w_.group;
      Lanes lanes[kRows][kVectors];
      clear(lanes);
      size_t col = begin;
      for (; col + kF8Codes <= end; col += kF8Codes) {
        for (uint32_t r = 0; r < kRows; ++r) {
          const std::byte* codes = codes_ + r * w_.cols + col;
          _mm_prefetch(codes + kFarAhead, _MM_HINT_T1);
          _mm_prefetch(codes + kAhead, _MM_HINT_T0);
          add(decoders_[r], F8Codes::load(codes), x + col, x_stride, kF8Codes, lanes[r]);
        }
      }
      if (col < end) {
        for (uint32_t r = 0; r < kRows; ++r) {
          add(decoders_[r], F8Codes::load_first(codes_ + r * w_.cols + col, end - col), x + col,
              x_stride, end - col, lanes[r]);
        }
      }
      Lanes factor = splat(0);  // rows mostly share theirs
      for (uint32_t r = 0; r < kRows; ++r) {
        if (r == 0 || scales_[r] != scales_[r - 1]) {
          const std::byte* scale = scales_[r] + block * float_bytes(w_.scale_format);
          factor = splat(load_float(w_.scale_format, scale) * 256.0f);
        }
        for (uint32_t v = 0; v < kVectors; ++v) {
          totals[r][v] = fma(lanes[r][v], factor, totals[r][v]);
        }
      }
    }
    for (uint32_t v = 0; v < kVectors; ++v) {
      float results[kRows];
      if constexpr (kRows == 4) {
        _mm_storeu_ps(results, sum_each(totals[0][v], totals[1][v], totals[2][v], totals[3][v]));
      } else {
        for (uint32_t r = 0; r < kRows; ++r) results[r] = sum(totals[r][v]);
      }
      for (uint32_t r = 0; r < kRows; ++r) {
        const bool number = results[r] == results[r] && !decoders_[r].missed_nan();
        y[v * y_stride + r] = number ? results[r] : __builtin_nanf("");
      }
    }
  }

 private:
  static constexpr uint32_t kParts = kF8Codes / kLanes;
  // What comes so much later is asked for, into the first cache and before into the second one. By
  // measurement, bench/RESULTS.md.
  static constexpr ptrdiff_t kAhead = 2048, kFarAhead = 12288;

  static void clear(Lanes (&lanes)[kRows][kVectors]) {
    for (auto& of_row : lanes) {
      for (Lanes& a : of_row) a = splat(0);
    }
  }

  // The first count of a register of codes.
  static void add(F8Decoder& decoder, F8Codes codes, const float* x, size_t x_stride, size_t count,
                  Lanes (&lanes)[kVectors]) {
    Lanes w[kParts];
    decoder.widen(codes, w);
    for (uint32_t v = 0; v < kVectors; ++v) {
      const float* inputs = x + v * x_stride;
      for (uint32_t i = 0; i < kParts; ++i) {
        const uint32_t at = i * kLanes;
        if (at + kLanes <= count) {
          lanes[v] = fma(w[i], load(inputs + at), lanes[v]);
        } else if (at < count) {
          lanes[v] = fma(w[i], load_first(inputs + at, count - at), lanes[v]);
        }
      }
    }
  }

  const Matrix& w_;
  const std::byte* codes_;
  const std::byte* scales_[kRows];
  size_t blocks_ = 0;
  F8Decoder decoders_[kRows];
};

// Rows [row, row + kRows) times all vectors.
template <uint32_t kRows>
inline void multiply_f8_rows(const Matrix& w, const MatmulTask& task, uint32_t row, const float* x,
                             float* y) {
  constexpr uint32_t kVectors = 4;
  const auto multiply = [&](auto rows, uint32_t first_row, uint32_t v) {
    rows.multiply(x + size_t{v} * task.x_stride, task.x_stride,
                  y + size_t{v} * task.y_stride + first_row, task.y_stride);
  };
  uint32_t v = 0;
  for (; task.vectors - v >= kVectors; v += kVectors) {
    for (uint32_t r = 0; r < kRows; ++r) multiply(F8Rows<1, kVectors>(w, row + r), row + r, v);
  }
  for (; v < task.vectors; ++v) multiply(F8Rows<kRows, 1>(w, row), row, v);
}

inline void matmul_f8(const Matrix& w, const MatmulTask& task, const float* x, float* y) {
  uint32_t row = task.row_begin;
  for (; task.row_end - row >= kF8Rows; row += kF8Rows) {
    multiply_f8_rows<kF8Rows>(w, task, row, x, y);
  }
  for (; row < task.row_end; ++row) multiply_f8_rows<1>(w, task, row, x, y);
}

}  // namespace
}  // namespace sluice::kernels
