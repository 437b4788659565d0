// Matrices of F8_E4M3 with a scale for each block, times float vectors over Lanes.
#pragma once

#include "kernels/lanes.h"
#include "kernels/lanes_codebook.h"
#include "kernels/lanes_elementwise.h"

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
          Lanes w[kParts];
          const std::byte* codes = codes_ + r * w_.cols + col;
          _mm_prefetch(codes + kAhead, _MM_HINT_T0);
          decoders_[r].widen(F8Codes::load(codes), w);
          for (uint32_t v = 0; v < kVectors; ++v) {
            const float* inputs = x + v * x_stride + col;
            for (uint32_t i = 0; i < kParts; ++i) {
              lanes[r][v] = fma(w[i], load(inputs + size_t{i} * kLanes), lanes[r][v]);
            }
          }
        }
      }
      if (col < end) add_rest(col, end, x, x_stride, lanes);
      for (uint32_t r = 0; r < kRows; ++r) {
        const std::byte* scale = scales_[r] + block * float_bytes(w_.scale_format);
        const Lanes factor = splat(load_float(w_.scale_format, scale) * 256.0f);
        for (uint32_t v = 0; v < kVectors; ++v) {
          totals[r][v] = fma(lanes[r][v], factor, totals[r][v]);
        }
      }
    }
    for (uint32_t r = 0; r < kRows; ++r) {
      for (uint32_t v = 0; v < kVectors; ++v) {
        const float result = sum(totals[r][v]);
        const bool number = result == result && !decoders_[r].missed_nan();
        y[v * y_stride + r] = number ? result : __builtin_nanf("");
      }
    }
  }

 private:
  static constexpr uint32_t kParts = kF8Codes / kLanes;
  // Beyond what processors prefetch of themselves, which ends with the page.
  static constexpr ptrdiff_t kAhead = 4096;

  static void clear(Lanes (&lanes)[kRows][kVectors]) {
    for (auto& of_row : lanes) {
      for (Lanes& a : of_row) a = splat(0);
    }
  }

  // Columns [col, end), less than a register of codes.
  void add_rest(size_t col, size_t end, const float* x, size_t x_stride,
                Lanes (&lanes)[kRows][kVectors]) {
    for (uint32_t r = 0; r < kRows; ++r) {
      Lanes w[kParts];
      decoders_[r].widen(F8Codes::load_first(codes_ + r * w_.cols + col, end - col), w);
      size_t at = col;
      for (uint32_t i = 0; at < end; ++i, at += kLanes) {
        for (uint32_t v = 0; v < kVectors; ++v) {
          const float* from = x + v * x_stride + at;
          const Lanes input = end - at >= kLanes ? load(from) : load_first(from, end - at);
          lanes[r][v] = fma(w[i], input, lanes[r][v]);
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

inline void matmul_f8(const Matrix& w, const MatmulTask& task, const float* x, float* y) {
  constexpr uint32_t kVectors = 4;
  const auto multiply = [&](auto rows, uint32_t row, uint32_t v) {
    rows.multiply(x + size_t{v} * task.x_stride, task.x_stride, y + size_t{v} * task.y_stride + row,
                  task.y_stride);
  };
  for (uint32_t row = task.row_begin; row < task.row_end; row += 2) {
    const bool two = task.row_end - row >= 2;
    uint32_t v = 0;
    for (; task.vectors - v >= kVectors; v += kVectors) {
      multiply(F8Rows<1, kVectors>(w, row), row, v);
      if (two) multiply(F8Rows<1, kVectors>(w, row + 1), row + 1, v);
    }
    for (; v < task.vectors; ++v) {
      if (two) {
        multiply(F8Rows<2, 1>(w, row), row, v);
      } else {
        multiply(F8Rows<1, 1>(w, row), row, v);
      }
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
