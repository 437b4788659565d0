// TurboQuant matrices times integer vectors over Integers: 16 rows side by side, one in each lane.
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

#if defined(__AVX512F__)
#include "kernels/avx512_codes.h"
#elif defined(__AVX2__)
#include "kernels/avx2_codes.h"
#endif

namespace sluice::kernels {
namespace {

constexpr uint32_t kBlockRows = 16;
constexpr uint32_t kScaleGroups = 8;  // whose scales are transposed at once

// Up to 16 rows. Missing ones repeat the last, and their results are not stored.
struct RowBlock {
  const std::byte* words[kBlockRows];
  const std::byte* scales[kBlockRows];
  const std::byte* next_words;  // the following block's, to prefetch
  uint32_t count;
};

// out[g]: the F16 scales of group g of the eight at `offset`, of all 16 rows in order.
inline void transpose_scales(const std::byte* const (&rows)[kBlockRows], size_t offset,
                             __m256i (&out)[kScaleGroups]) {
  __m256i a[8], b[8];
  for (uint32_t r = 0; r < 8; ++r) {
    const auto from_row = [&](uint32_t row) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[row] + offset));
    };
    a[r] = _mm256_set_m128i(from_row(r + 8), from_row(r));
  }
  for (uint32_t r = 0; r < 4; ++r) {  // b[r], b[r+4]: groups 0-3 and 4-7 of rows 2r and 2r+1
    b[r] = _mm256_unpacklo_epi16(a[size_t{2} * r], a[size_t{2} * r + 1]);
    b[r + 4] = _mm256_unpackhi_epi16(a[size_t{2} * r], a[size_t{2} * r + 1]);
  }
  for (uint32_t half = 0; half < 8; half += 4) {  // a[half + g/2*2 ...]: four rows, two groups each
    for (uint32_t r = 0; r < 2; ++r) {
      a[half + r] = _mm256_unpacklo_epi32(b[half + 2 * r], b[half + 2 * r + 1]);
      a[half + r + 2] = _mm256_unpackhi_epi32(b[half + 2 * r], b[half + 2 * r + 1]);
    }
  }
  for (uint32_t g = 0; g < 8; g += 2) {
    out[g] = _mm256_unpacklo_epi64(a[g], a[g + 1]);
    out[g + 1] = _mm256_unpackhi_epi64(a[g], a[g + 1]);
  }
}

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
template <typename C, uint32_t kVectors>
inline void multiply_block(const Matrix& w, const RowBlock& rows, const C& codes,
                           const QuantizedVectors& x, uint32_t vector, float* y, size_t y_stride) {
  constexpr bool kWordsCrossGroups = 32 % C::kPerWord != 0;
  Window windows[kWordsCrossGroups ? kVectors : 1];
  Lanes totals[kVectors];
  for (Lanes& total : totals) total = splat(0);
  const uint32_t groups = w.cols / w.group;
  const uint32_t offset = code_offset(*w.codebook);
  __m256i scales[kScaleGroups];
  for (uint32_t g = 0; g < groups; ++g) {
    if (g % kScaleGroups == 0) transpose_scales(rows.scales, size_t{g} * 2, scales);
    const uint32_t begin = g * w.group;
    Inputs inputs[kVectors];
    DotProduct dots[kVectors];
    for (uint32_t v = 0; v < kVectors; ++v) {
      inputs[v] = inputs_of(x, vector + v, w.cols).from(begin);
      if constexpr (kWordsCrossGroups) inputs[v] = windows[v].fill(inputs[v], w.group);
    }
    add_group<C, kVectors>(rows, codes, begin, w.group, inputs, dots);
    const Lanes weight_scale = widen_f16(scales[g % kScaleGroups]);
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
template <typename C, uint32_t kVectors>
inline void multiply_vectors(const Matrix& w, const RowBlock& rows, const C& codes,
                             const QuantizedVectors& x, uint32_t vector, uint32_t vectors, float* y,
                             size_t y_stride) {
  for (; vectors - vector >= kVectors; vector += kVectors) {
    multiply_block<C, kVectors>(w, rows, codes, x, vector, y + vector * y_stride, y_stride);
  }
  if constexpr (kVectors > 1) {
    multiply_vectors<C, kVectors / 2>(w, rows, codes, x, vector, vectors, y, y_stride);
  }
}

template <uint32_t kLength>
inline void matmul_integer_of(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                              float* y) {
  const Codes<kLength> codes(*w.codebook);
  const size_t row_bytes = size_t{row_words(w.cols, kLength)} * 4;
  const size_t scale_bytes = size_t{w.cols / w.group} * 2;
  for (uint32_t row = task.row_begin; row < task.row_end; row += kBlockRows) {
    RowBlock rows;
    rows.count = task.row_end - row < kBlockRows ? task.row_end - row : kBlockRows;
    for (uint32_t r = 0; r < kBlockRows; ++r) {
      const size_t existing = size_t{row} + (r < rows.count ? r : rows.count - 1);
      rows.words[r] = w.data + existing * row_bytes;
      rows.scales[r] = w.scales + existing * scale_bytes;
    }
    rows.next_words = rows.words[0] + kBlockRows * row_bytes;
    multiply_vectors<Codes<kLength>, kCodeVectors>(w, rows, codes, x, 0, task.vectors, y + row,
                                                   task.y_stride);
  }
}

inline void matmul_integer_rows(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                                float* y) {
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
