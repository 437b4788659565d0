// Matrices of F8_E4M3 with a scale for each block, times float vectors over Lanes.
//
// As an F16, the bits of an E4M3 moved to its place are the value / 256, denormals included, so
// that a conversion of the processor's own does the rest; what is lost are the NaN codes, which are
// looked for apart.
#pragma once

#include "kernels/lanes.h"
#include "kernels/lanes_codebook.h"
#include "kernels/lanes_elementwise.h"
#include "kernels/lanes_matmul.h"

namespace sluice::kernels {
namespace {

// 16 values / 256.
inline Lanes widen_f8(__m128i codes) {
  // The sign is at bit 15 then, and at bit 14, where it does not belong.
  const __m256i moved = _mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7);
  return widen_f16(_mm256_and_si256(moved, _mm256_set1_epi16(static_cast<int16_t>(0xbf80))));
}

inline __m128i load_codes_first(const std::byte* from, size_t count) {
  alignas(16) std::byte copy[16] = {};
  __builtin_memcpy(copy, from, count);
  return _mm_load_si128(reinterpret_cast<const __m128i*>(copy));
}

// The largest magnitude of a row's codes, of every 16th: NaN is the one above all numbers.
class LargestCodes {
 public:
  void add(__m128i codes) {
    largest_ = _mm_max_epu8(largest_, _mm_and_si128(codes, _mm_set1_epi8(kNaN)));
  }
  bool have_nan() const {
    return _mm_movemask_epi8(_mm_cmpeq_epi8(largest_, _mm_set1_epi8(kNaN))) != 0;
  }

 private:
  static constexpr char kNaN = 0x7f;
  __m128i largest_ = _mm_setzero_si128();
};

// The lanes of one block of columns of kRows rows times kVectors vectors.
template <uint32_t kRows, uint32_t kVectors>
struct F8Block {
  Lanes lanes[kRows][kVectors];

  // codes: row r's at codes + r * row_bytes; x: the first vector's part.
  F8Block(const std::byte* codes, size_t row_bytes, uint32_t count, const float* x, size_t x_stride,
          LargestCodes (&largest)[kRows]) {
    for (auto& row : lanes) {
      for (Lanes& a : row) a = splat(0);
    }
    const auto accumulate = [&](auto codes_of, auto inputs_of) {
      Lanes w[kRows];
      for (uint32_t r = 0; r < kRows; ++r) {
        const __m128i sixteen = codes_of(codes + r * row_bytes);
        largest[r].add(sixteen);
        w[r] = widen_f8(sixteen);
      }
      for (uint32_t v = 0; v < kVectors; ++v) {
        const Lanes input = inputs_of(x + v * x_stride);
        for (uint32_t r = 0; r < kRows; ++r) lanes[r][v] = fma(w[r], input, lanes[r][v]);
      }
    };
    size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      accumulate(
          [i](const std::byte* row) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + i));
          },
          [i](const float* vector) { return load(vector + i); });
    }
    if (const size_t rest = count - i; rest > 0) {
      accumulate([i, rest](const std::byte* row) { return load_codes_first(row + i, rest); },
                 [i, rest](const float* vector) { return load_first(vector + i, rest); });
    }
  }
};

// x and y: the first vector's; y at the first row.
template <uint32_t kRows, uint32_t kVectors>
inline void f8_tile(const Matrix& w, uint32_t row, const float* x, size_t x_stride, float* y,
                    size_t y_stride) {
  const size_t blocks = (size_t{w.cols} + w.group - 1) / w.group;
  const std::byte* codes = w.data + size_t{row} * w.cols;
  const size_t scale_bytes = float_bytes(w.scale_format);
  const std::byte* scales[kRows];
  for (uint32_t r = 0; r < kRows; ++r) {
    scales[r] = w.scales + (row + r) / w.block_rows * blocks * scale_bytes;
  }
  LargestCodes largest[kRows];
  Lanes totals[kRows][kVectors];
  for (auto& of_row : totals) {
    for (Lanes& a : of_row) a = splat(0);
  }
  for (size_t block = 0; block < blocks; ++block) {
    const size_t begin = block * w.group;
    const uint32_t count =
        w.cols - begin < w.group ? static_cast<uint32_t>(w.cols - begin) : w.group;
    const F8Block<kRows, kVectors> part(codes + begin, w.cols, count, x + begin, x_stride, largest);
    for (uint32_t r = 0; r < kRows; ++r) {
      const float scale = load_float(w.scale_format, scales[r] + block * scale_bytes);
      for (uint32_t v = 0; v < kVectors; ++v) {
        totals[r][v] = fma(part.lanes[r][v], splat(scale * 256.0f), totals[r][v]);
      }
    }
  }
  for (uint32_t r = 0; r < kRows; ++r) {
    const bool nan = largest[r].have_nan();
    for (uint32_t v = 0; v < kVectors; ++v) {
      y[v * y_stride + r] = nan ? __builtin_nanf("") : sum(totals[r][v]);
    }
  }
}

// Four rows at a time pass every vector before the next four, so memory is read once.
inline void matmul_f8(const Matrix& w, const MatmulTask& task, const float* x, float* y) {
  constexpr uint32_t kRows = 4, kVectors = 4;
  const auto input = [&](uint32_t v) { return x + size_t{v} * task.x_stride; };
  const auto output = [&](uint32_t v, uint32_t row) { return y + size_t{v} * task.y_stride + row; };
  uint32_t row = task.row_begin;
  for (; task.row_end - row >= kRows; row += kRows) {
    uint32_t v = 0;
    for (; task.vectors - v >= kVectors; v += kVectors) {
      for (uint32_t r = row; r < row + kRows; r += kTileRows) {
        f8_tile<kTileRows, kVectors>(w, r, input(v), task.x_stride, output(v, r), task.y_stride);
      }
    }
    for (; v < task.vectors; ++v) {
      f8_tile<kRows, 1>(w, row, input(v), task.x_stride, output(v, row), task.y_stride);
    }
  }
  for (; row < task.row_end; ++row) {
    for (uint32_t v = 0; v < task.vectors; ++v) {
      f8_tile<1, 1>(w, row, input(v), task.x_stride, output(v, row), task.y_stride);
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
