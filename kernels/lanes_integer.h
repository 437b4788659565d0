// TurboQuant and MXFP4 matrices times integer vectors over Integers: 16 rows side by side, one in
// each lane.
//
// The words of 16 rows are transposed, so that a register holds the same word of every row. A
// word's codes are taken four at a time (a quad): each lane then has four bytes of codebook, which
// are multiplied with the same four inputs and added up in the lane. Every lane thus gathers its
// own row's exact sum; nothing is ever added across lanes, and the float step of a group is one fma
// for 16 rows.
//
// A 3-bit word has ten codes: two quads and a half, the rest of the third being 0. Where a group
// begins or ends inside a word (3 bits, ternary), the word is taken for both groups, and the inputs
// outside the group are 0 (Window).
#pragma once

#include "kernels/lanes.h"
#include "kernels/lanes_codebook.h"
#include "kernels/lanes_transpose.h"

#if defined(__AVX512F__)
#include "kernels/avx512_codes.h"
#elif defined(__AVX2__)
#include "kernels/avx2_codes.h"
#endif

namespace sluice::kernels {
namespace {

constexpr uint32_t kBlockRows = 16;

// Up to 16 rows. Missing ones repeat the last, and their results are not stored.
struct RowBlock {
  const std::byte* words[kBlockRows];
  const std::byte* scales[kBlockRows];
  const std::byte* next_words;  // the following block's, to prefetch
  uint32_t count;
};

// The scales of 16 rows, one group after the other; several groups are transposed at once.
template <typename Scales>
class RowScales {
 public:
  Lanes at(const std::byte* const (&rows)[kBlockRows], uint32_t group) {
    if (group % kGroups == 0) transpose(rows, size_t{group} * Scales::kBytes, columns_);
    return Scales::of(columns_[group % kGroups]);
  }

 private:
  static constexpr uint32_t kGroups = 16 / Scales::kBytes;
  typename Scales::Column columns_[kGroups];
};

// Adds the products of one group's words with kVectors inputs to `dots`. inputs[v]: at the group's
// first column, which is column `begin` of the row.
template <typename C, uint32_t kVectors>
inline void add_group(const RowBlock& rows, const C& codes, uint32_t begin, uint32_t group,
                      const Inputs (&inputs)[kVectors], DotProduct (&dots)[kVectors]) {
  const uint32_t first = begin / C::kPerWord;
  const uint32_t end = (begin + group - 1) / C::kPerWord + 1;
  const ptrdiff_t start =
      static_cast<ptrdiff_t>(first * C::kPerWord) - static_cast<ptrdiff_t>(begin);
  for (uint32_t word = first; word < end; word += 4) {
    Integers four[4];
    transpose_words(rows.words, size_t{word} * 4, four);
    for (uint32_t line = 0; line < 4; ++line) {  // as many bytes of the next rows as these are
      _mm_prefetch(rows.next_words + (size_t{word} + line) * 64, _MM_HINT_T0);
    }
    for (uint32_t k = 0; k < 4 && word + k < end; ++k) {
      Quad quads[C::kQuads];
      codes.quads(four[k], quads);
      const ptrdiff_t column = start + static_cast<ptrdiff_t>((word - first + k) * C::kPerWord);
      for (uint32_t v = 0; v < kVectors; ++v) {
        for (uint32_t q = 0; q < C::kQuads; ++q) {
          add_products(dots[v], quads[q], inputs[v].from(column + ptrdiff_t{4} * q));
        }
      }
    }
  }
}

// All groups of a block of rows for kVectors vectors from `vector` on; y: at the block's first row
// of the first of them.
template <typename C, typename Scales, uint32_t kVectors>
inline void multiply_block(const Matrix& w, const RowBlock& rows, const C& codes,
                           const QuantizedVectors& x, uint32_t vector, float* y, size_t y_stride) {
  constexpr bool kWordsCrossGroups = 32 % C::kPerWord != 0;
  Window windows[kWordsCrossGroups ? kVectors : 1];
  Lanes totals[kVectors];
  for (Lanes& total : totals) total = splat(0);
  const uint32_t groups = w.cols / w.group;
  const uint32_t offset = code_offset(*w.codebook);
  RowScales<Scales> scales;
  for (uint32_t g = 0; g < groups; ++g) {
    const uint32_t begin = g * w.group;
    Inputs inputs[kVectors];
    DotProduct dots[kVectors];
    for (uint32_t v = 0; v < kVectors; ++v) {
      inputs[v] = inputs_of(x, vector + v, w.cols).from(begin);
      if constexpr (kWordsCrossGroups) inputs[v] = windows[v].fill(inputs[v], w.group);
    }
    add_group<C, kVectors>(rows, codes, begin, w.group, inputs, dots);
    const Lanes weight_scale = scales.at(rows.scales, g);
    for (uint32_t v = 0; v < kVectors; ++v) {
      const size_t at = size_t{vector + v} * x.group_stride + g;
      const int32_t correction = code_correction(offset, x.sums[at]);
      const Lanes exact = to_floats(finish(dots[v], splat_integer(correction)));
      totals[v] = fma(exact, weight_scale * splat(w.codebook->step * x.scales[at]), totals[v]);
    }
  }
  for (uint32_t v = 0; v < kVectors; ++v) {
    if (rows.count == kBlockRows) {
      store(y + v * y_stride, totals[v]);
    } else {
      store_first(y + v * y_stride, totals[v], rows.count);
    }
  }
}

// As many vectors at once as there are registers for, then half as many, and so on.
template <typename C, typename Scales, uint32_t kVectors>
inline void multiply_vectors(const Matrix& w, const RowBlock& rows, const C& codes,
                             const QuantizedVectors& x, uint32_t vector, uint32_t vectors, float* y,
                             size_t y_stride) {
  for (; vectors - vector >= kVectors; vector += kVectors) {
    multiply_block<C, Scales, kVectors>(w, rows, codes, x, vector, y + vector * y_stride, y_stride);
  }
  if constexpr (kVectors > 1) {
    multiply_vectors<C, Scales, kVectors / 2>(w, rows, codes, x, vector, vectors, y, y_stride);
  }
}

template <uint32_t kLength, typename Scales = F16Scales>
inline void matmul_integer_of(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                              float* y) {
  const Codes<kLength> codes(*w.codebook);
  const size_t row_bytes = size_t{row_words(w.cols, kLength)} * 4;
  const size_t scale_bytes = w.cols / w.group * Scales::kBytes;
  for (uint32_t row = task.row_begin; row < task.row_end; row += kBlockRows) {
    RowBlock rows;
    rows.count = task.row_end - row < kBlockRows ? task.row_end - row : kBlockRows;
    for (uint32_t r = 0; r < kBlockRows; ++r) {
      const size_t existing = size_t{row} + (r < rows.count ? r : rows.count - 1);
      rows.words[r] = w.data + existing * row_bytes;
      rows.scales[r] = w.scales + existing * scale_bytes;
    }
    rows.next_words = rows.words[0] + kBlockRows * row_bytes;
    multiply_vectors<Codes<kLength>, Scales, kCodeVectors>(w, rows, codes, x, 0, task.vectors,
                                                           y + row, task.y_stride);
  }
}

inline void matmul_integer_rows(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                                float* y) {
  if (w.format == Format::mxfp4) return matmul_integer_of<16, E8m0Scales>(w, task, x, y);
  switch (w.codebook->length) {
    case 3:
      return matmul_integer_of<3>(w, task, x, y);
    case 4:
      return matmul_integer_of<4>(w, task, x, y);
    case 8:
      return matmul_integer_of<8>(w, task, x, y);
    case 16:
      return matmul_integer_of<16>(w, task, x, y);
    default:
      return matmul_integer_of<256>(w, task, x, y);
  }
}

inline void quantize(const float* x, uint32_t cols, uint32_t group, const QuantizedVectors& out,
                     uint32_t vector) {
  constexpr float kLargestInput = 32512;  // 127 * 256, see QuantizedVectors
  const InputStore inputs = input_store(out, vector, cols);
  float* scales = out.scales + size_t{vector} * out.group_stride;
  int32_t* sums = out.sums + size_t{vector} * out.group_stride;
  for (uint32_t g = 0; g < cols / group; ++g) {
    const size_t begin = size_t{g} * group, end = begin + group;
    // As integers the magnitudes order like the numbers, and a NaN is the largest of all.
    Integers magnitude = splat_integer(0);
    for (size_t i = begin; i < end; i += kLanes) {
      magnitude = maximum(magnitude, bits_of(load(x + i)) & splat_integer(0x7fffffff));
    }
    const float largest =
        _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(largest_lane(magnitude))));
    const float inverse = kLargestInput / largest;
    const bool usable = largest <= __FLT_MAX__ && inverse <= __FLT_MAX__;
    Integers total = splat_integer(0);
    for (size_t i = begin; i < end; i += kLanes) {
      const Integers rounded =
          usable ? round_to_integers(load(x + i) * splat(inverse)) : splat_integer(0);
      inputs.put(i, rounded);
      total = total + rounded;
    }
    scales[g] = largest / kLargestInput;
    sums[g] = sum_of_lanes(total);
  }
  inputs.clear_padding(cols);
}

}  // namespace
}  // namespace sluice::kernels
