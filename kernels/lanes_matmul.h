// Matrices of plain floats over Lanes: their formats, conversions, and dot products in tiles.
#pragma once

#include "kernels/lanes.h"
#include "kernels/lanes_elementwise.h"
#include "kernels/unroll.h"

namespace sluice::kernels {
namespace {

// The formats: `whole` gives 16 weights as floats, `first` the first count < 16 and zeros.
inline __m256i load_halves(const std::byte* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
struct F32Weights {
  static constexpr size_t kBytes = 4;
  static Lanes whole(const std::byte* from) { return load(reinterpret_cast<const float*>(from)); }
  static Lanes first(const std::byte* from, size_t count) {
    return load_first(reinterpret_cast<const float*>(from), count);
  }
};
struct F16Weights {
  static constexpr size_t kBytes = 2;
  static Lanes whole(const std::byte* from) { return widen_f16(load_halves(from)); }
  static Lanes first(const std::byte* from, size_t count) {
    return widen_f16(load_halves_first(from, count));
  }
};
struct Bf16Weights {
  static constexpr size_t kBytes = 2;
  static Lanes whole(const std::byte* from) { return widen_bf16(load_halves(from)); }
  static Lanes first(const std::byte* from, size_t count) {
    return widen_bf16(load_halves_first(from, count));
  }
};

// The sums of four registers. The last two halvings become additions of whole registers once the
// four are interleaved.
inline __m128 sum_each(Lanes a, Lanes b, Lanes c, Lanes d) {
  const __m128 a4 = quarter(a), b4 = quarter(b), c4 = quarter(c), d4 = quarter(d);
  const __m128 ab =
      _mm_add_ps(_mm_unpacklo_ps(a4, b4), _mm_unpackhi_ps(a4, b4));  // a02 b02 a13 b13
  const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c4, d4), _mm_unpackhi_ps(c4, d4));
  return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}

constexpr size_t kLineBytes = 64;  // of a cache
// What comes so much later is asked for, into the first cache and before into the second one. By
// measurement, bench/RESULTS.md.
constexpr size_t kAheadBytes = 512, kFarAheadBytes = 16384;

// kRows rows times kVectors vectors, one accumulator each, so that every load serves several.
// x and y: the first vector's; y at the first row. With one vector, which leaves most time to
// memory, what comes later is asked for, as the rows' streams are short.
template <typename Weights, uint32_t kRows, uint32_t kVectors>
inline void tile(const std::byte* weights, uint32_t cols, const float* x, size_t x_stride, float* y,
                 size_t y_stride) {
  const size_t row_bytes = size_t{cols} * Weights::kBytes;
  Lanes lanes[kRows][kVectors];
  SLUICE_UNROLL
  for (auto& row : lanes) {
    SLUICE_UNROLL
    for (Lanes& a : row) a = splat(0);
  }
  const auto accumulate = [&](auto weights_of_row, auto inputs_of_vector) {
    Lanes w[kRows];
    SLUICE_UNROLL
    for (uint32_t r = 0; r < kRows; ++r) w[r] = weights_of_row(weights + r * row_bytes);
    SLUICE_UNROLL
    for (uint32_t v = 0; v < kVectors; ++v) {
      const Lanes input = in_register(inputs_of_vector(x + v * x_stride));
      SLUICE_UNROLL
      for (uint32_t r = 0; r < kRows; ++r) lanes[r][v] = fma(w[r], input, lanes[r][v]);
    }
  };
  size_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    if (kVectors == 1 && kRows > 1 && i * Weights::kBytes % kLineBytes == 0) {
      SLUICE_UNROLL
      for (uint32_t r = 0; r < kRows; ++r) {
        const std::byte* at = weights + r * row_bytes + i * Weights::kBytes;
        _mm_prefetch(at + kFarAheadBytes, _MM_HINT_T1);
        _mm_prefetch(at + kAheadBytes, _MM_HINT_T0);
      }
    }
    accumulate([i](const std::byte* row) { return Weights::whole(row + i * Weights::kBytes); },
               [i](const float* vector) { return load(vector + i); });
  }
  if (const size_t rest = cols - i; rest > 0) {
    accumulate(
        [i, rest](const std::byte* row) { return Weights::first(row + i * Weights::kBytes, rest); },
        [i, rest](const float* vector) { return load_first(vector + i, rest); });
  }
  if constexpr (kRows == kWideTileRows && kVectors == kWideTileVectors) {
    return store_sums(lanes, y, y_stride);
  }
  SLUICE_UNROLL
  for (uint32_t v = 0; v < kVectors; ++v) {
    if constexpr (kRows == 4) {
      _mm_storeu_ps(y + v * y_stride, sum_each(lanes[0][v], lanes[1][v], lanes[2][v], lanes[3][v]));
    } else {
      SLUICE_UNROLL
      for (uint32_t r = 0; r < kRows; ++r) y[v * y_stride + r] = sum(lanes[r][v]);
    }
  }
}

// Four rows at a time pass every vector before the next four, so memory is read once.
template <typename Weights>
inline void matmul_floats(const std::byte* data, uint32_t cols, const MatmulTask& task,
                          const float* x, float* y) {
  constexpr uint32_t kRows = 4;
  const size_t row_bytes = size_t{cols} * Weights::kBytes;
  uint32_t row = task.row_begin;
  for (; task.row_end - row >= kRows; row += kRows) {
    const std::byte* weights = data + row * row_bytes;
    uint32_t v = 0;
    const auto multiply = [&]<uint32_t kTile, uint32_t kVectors>() {
      for (; task.vectors - v >= kVectors; v += kVectors) {
        for (uint32_t r = 0; r < kRows; r += kTile) {
          tile<Weights, kTile, kVectors>(weights + r * row_bytes, cols,
                                         x + size_t{v} * task.x_stride, task.x_stride,
                                         y + size_t{v} * task.y_stride + row + r, task.y_stride);
        }
      }
    };
    if constexpr (kWideTileRows > 0) {
      if (cols <= kWideTileMostCols) {
        multiply.template operator()<kWideTileRows, kWideTileVectors>();
      }
    }
    multiply.template operator()<kTileRows, 4>();
    for (; v < task.vectors; ++v) {
      tile<Weights, kRows, 1>(weights, cols, x + size_t{v} * task.x_stride, task.x_stride,
                              y + size_t{v} * task.y_stride + row, task.y_stride);
    }
  }
  for (; row < task.row_end; ++row) {
    for (uint32_t v = 0; v < task.vectors; ++v) {
      tile<Weights, 1, 1>(data + row * row_bytes, cols, x + size_t{v} * task.x_stride,
                          task.x_stride, y + size_t{v} * task.y_stride + row, task.y_stride);
    }
  }
}

inline void to_f16(const float* x, size_t n, std::byte* out) {
  const size_t whole = n - n % kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2 * i), narrow_f16(load(x + i)));
  }
  if (const size_t rest = n - whole; rest > 0) {
    store_halves_first(out + 2 * whole, narrow_f16(load_first(x + whole, rest)), rest);
  }
}

template <typename Weights>
inline void widen(const std::byte* x, size_t n, float* out) {
  const size_t whole = n - n % kLanes;
  for (size_t i = 0; i < whole; i += kLanes)
    store(out + i, Weights::whole(x + i * Weights::kBytes));
  if (const size_t rest = n - whole; rest > 0) {
    store_first(out + whole, Weights::first(x + whole * Weights::kBytes, rest), rest);
  }
}

inline void to_f32(Format format, const std::byte* x, size_t n, float* out) {
  switch (format) {
    case Format::f16:
      return widen<F16Weights>(x, n, out);
    case Format::bf16:
      return widen<Bf16Weights>(x, n, out);
    default:
      return widen<F32Weights>(x, n, out);
  }
}

}  // namespace
}  // namespace sluice::kernels
