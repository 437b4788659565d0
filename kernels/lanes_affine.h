// Affine matrices, integer * scale + bias, times vectors of floats and of integers.
//
// Of floats: 16 integers of one row become 16 weights. Of integers: a row's integers are taken
// apart in their order and multiplied with the inputs of the same places, which leaves a group's
// sum spread over a register; those of 16 rows are added up together, so that a register holds a
// sum of every row, and the float steps are for 16 rows at once.
#pragma once

#include "kernels/affine_words.h"
#include "kernels/lanes.h"
#include "kernels/lanes_elementwise.h"
#include "kernels/lanes_integer.h"
#include "kernels/lanes_matmul.h"

#if defined(__AVX512F__)
#include "kernels/avx512_affine.h"
#elif defined(__AVX2__)
#include "kernels/avx2_affine.h"
#endif

namespace sluice::kernels {
namespace {

// One row times kVectors vectors.
template <uint32_t kBits, uint32_t kVectors>
inline void affine_row(const Matrix& w, uint32_t row, const float* x, size_t x_stride, float* y,
                       size_t y_stride) {
  const size_t groups = w.cols / w.group, step = float_bytes(w.scale_format);
  const std::byte* integers = w.data + row * (size_t{w.cols} / 8 * kBits);
  const std::byte* scales = w.scales + row * groups * step;
  const std::byte* biases = w.biases + row * groups * step;
  Lanes lanes[kVectors];
  for (Lanes& a : lanes) a = splat(0);
  for (size_t g = 0; g < groups; ++g) {
    const Lanes scale = splat(load_float(w.scale_format, scales + g * step));
    const Lanes bias = splat(load_float(w.scale_format, biases + g * step));
    const size_t begin = g * w.group;
    for (size_t col = begin; col < begin + w.group; col += kLanes) {
      const Integers sixteen = widen_words(affine_words<kBits>(integers + col / 8 * kBits));
      const Lanes weights = fma(to_floats(sixteen), scale, bias);
      for (uint32_t v = 0; v < kVectors; ++v) {
        lanes[v] = fma(weights, load(x + v * x_stride + col), lanes[v]);
      }
    }
  }
  for (uint32_t v = 0; v < kVectors; ++v) y[v * y_stride] = sum(lanes[v]);
}

template <uint32_t kBits>
inline void matmul_affine_of(const Matrix& w, const MatmulTask& task, const float* x, float* y) {
  for (uint32_t row = task.row_begin; row < task.row_end; ++row) {
    uint32_t v = 0;
    for (; task.vectors - v >= 4; v += 4) {
      affine_row<kBits, 4>(w, row, x + size_t{v} * task.x_stride, task.x_stride,
                           y + size_t{v} * task.y_stride + row, task.y_stride);
    }
    for (; v < task.vectors; ++v) {
      affine_row<kBits, 1>(w, row, x + size_t{v} * task.x_stride, task.x_stride,
                           y + size_t{v} * task.y_stride + row, task.y_stride);
    }
  }
}

inline void matmul_affine(const Matrix& w, const MatmulTask& task, const float* x, float* y) {
  switch (w.bits) {
    case 2:
      return matmul_affine_of<2>(w, task, x, y);
    case 3:
      return matmul_affine_of<3>(w, task, x, y);
    case 4:
      return matmul_affine_of<4>(w, task, x, y);
    case 5:
      return matmul_affine_of<5>(w, task, x, y);
    case 6:
      return matmul_affine_of<6>(w, task, x, y);
    default:
      return matmul_affine_of<8>(w, task, x, y);
  }
}

// Scales or biases of 16 rows, one group after the other; several groups are transposed at once.
class RowFloats {
 public:
  RowFloats(Format format, const std::byte* first, size_t row_bytes, uint32_t rows)
      : format_(format) {
    for (uint32_t r = 0; r < kBlockRows; ++r) {
      rows_[r] = first + (r < rows ? r : rows - 1) * row_bytes;
    }
  }
  Lanes at(size_t group) {
    if (group % kGroups == 0) transpose_from(group);
    return columns_[group % kGroups];
  }

 private:
  static constexpr uint32_t kGroups = 8;

  void transpose_from(size_t group) {
    if (format_ == Format::f32) {
      for (uint32_t half = 0; half < kGroups; half += 4) {
        Integers words[4];
        transpose_words(rows_, (group + half) * 4, words);
        for (uint32_t i = 0; i < 4; ++i) columns_[half + i] = from_bits(words[i]);
      }
      return;
    }
    __m256i halves[kGroups];
    transpose(rows_, group * 2, halves);
    for (uint32_t i = 0; i < kGroups; ++i) {
      columns_[i] = format_ == Format::f16 ? widen_f16(halves[i]) : widen_bf16(halves[i]);
    }
  }

  Format format_;
  const std::byte* rows_[kBlockRows];
  Lanes columns_[kGroups];
};

// Up to 16 rows from `row` on times kVectors vectors from `vector` on; y: at both. Missing rows
// repeat the last, and their results are not stored.
template <uint32_t kBits, uint32_t kUnit, uint32_t kVectors>
inline void affine_block(const Matrix& w, uint32_t row, uint32_t rows, const QuantizedVectors& x,
                         uint32_t vector, float* y, size_t y_stride) {
  const size_t groups = w.cols / w.group;
  const size_t row_bytes = size_t{w.cols} / 8 * kBits, group_bytes = size_t{w.group} / 8 * kBits;
  const size_t row_floats = groups * float_bytes(w.scale_format);
  RowFloats scales(w.scale_format, w.scales + row * row_floats, row_floats, rows);
  RowFloats biases(w.scale_format, w.biases + row * row_floats, row_floats, rows);
  const std::byte* first = w.data + row * row_bytes;
  Lanes totals[kVectors];
  for (Lanes& total : totals) total = splat(0);
  for (size_t g = 0; g < groups; ++g, first += group_bytes) {
    Inputs inputs[kVectors];
    for (uint32_t v = 0; v < kVectors; ++v) {
      inputs[v] = inputs_of(x, vector + v, w.cols).from(static_cast<ptrdiff_t>(g * w.group));
    }
    RowParts parts[kVectors][kBlockRows];
    for (uint32_t r = 0; r < kBlockRows; ++r) {
      const std::byte* integers = first + (r < rows ? r : rows - 1) * row_bytes;
      _mm_prefetch(integers + kBlockRows * row_bytes, _MM_HINT_T0);
      AffineDot dots[kVectors];
      for (uint32_t i = 0; i < w.group; i += kUnit, integers += kUnit / 8 * kBits) {
        const auto unit = affine_unit<kBits, kUnit>(integers);
        for (uint32_t v = 0; v < kVectors; ++v) {
          add_unit_products<kUnit>(dots[v], unit, inputs[v].from(i));
        }
      }
      for (uint32_t v = 0; v < kVectors; ++v) parts[v][r] = row_parts(dots[v]);
    }
    const Lanes scale = scales.at(g), bias = biases.at(g);
    for (uint32_t v = 0; v < kVectors; ++v) {
      const size_t at = size_t{vector + v} * x.group_stride + g;
      const Lanes input_scale = splat(x.scales[at]);
      const Lanes exact = to_floats(sum_of_parts(parts[v]));
      totals[v] = fma(exact, scale * input_scale, totals[v]);
      totals[v] = fma(splat(static_cast<float>(x.sums[at])), bias * input_scale, totals[v]);
    }
  }
  for (uint32_t v = 0; v < kVectors; ++v) {
    if (rows == kBlockRows) {
      store(y + v * y_stride, totals[v]);
    } else {
      store_first(y + v * y_stride, totals[v], rows);
    }
  }
}

template <uint32_t kBits, uint32_t kUnit>
inline void affine_blocks(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                          float* y) {
  constexpr uint32_t kVectors = 4;
  for (uint32_t row = task.row_begin; row < task.row_end; row += kBlockRows) {
    const uint32_t rows = task.row_end - row < kBlockRows ? task.row_end - row : kBlockRows;
    uint32_t v = 0;
    for (; task.vectors - v >= kVectors; v += kVectors) {
      affine_block<kBits, kUnit, kVectors>(w, row, rows, x, v, y + size_t{v} * task.y_stride + row,
                                           task.y_stride);
    }
    for (; v < task.vectors; ++v) {
      affine_block<kBits, kUnit, 1>(w, row, rows, x, v, y + size_t{v} * task.y_stride + row,
                                    task.y_stride);
    }
  }
}

template <uint32_t kBits>
inline void matmul_integer_affine_of(const Matrix& w, const MatmulTask& task,
                                     const QuantizedVectors& x, float* y) {
  if (w.group % kAffineUnit == 0) {
    affine_blocks<kBits, kAffineUnit>(w, task, x, y);
  } else {
    affine_blocks<kBits, 32>(w, task, x, y);
  }
}

inline void matmul_integer_affine(const Matrix& w, const MatmulTask& task,
                                  const QuantizedVectors& x, float* y) {
  switch (w.bits) {
    case 2:
      return matmul_integer_affine_of<2>(w, task, x, y);
    case 3:
      return matmul_integer_affine_of<3>(w, task, x, y);
    case 4:
      return matmul_integer_affine_of<4>(w, task, x, y);
    case 5:
      return matmul_integer_affine_of<5>(w, task, x, y);
    case 6:
      return matmul_integer_affine_of<6>(w, task, x, y);
    default:
      return matmul_integer_affine_of<8>(w, task, x, y);
  }
}

}  // namespace
}  // namespace sluice::kernels
