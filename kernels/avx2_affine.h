// Integers of affine rows times integer inputs in ymm registers, for lanes_affine.h.
// avx512_affine.h defines the same names.
//
// As 16-bit words the integers are multiplied with the inputs as they are (vpmaddwd).
#pragma once

#include "kernels/affine_words.h"
#include "kernels/avx2_codes.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kAffineUnit = 32;  // integers of two registers

struct AffineUnit {
  __m256i first, second;
};

template <uint32_t kBits, uint32_t>
inline AffineUnit affine_unit(const std::byte* from) {
  return {affine_words<kBits>(from), affine_words<kBits>(from + size_t{2} * kBits)};
}

// One row's exact sum, in parts; a part adds at most 32 products of 255 * 32512.
struct RowParts {
  __m256i v = _mm256_setzero_si256();
};

using AffineDot = RowParts;

// The products of one row's unit with the inputs, added up over all lanes.
template <uint32_t>
inline void add_unit_products(RowParts& parts, AffineUnit unit, Inputs inputs) {
  const auto words = [&](size_t i) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(inputs.words + 32 * i));
  };
  const __m256i products = _mm256_add_epi32(_mm256_madd_epi16(unit.first, words(0)),
                                            _mm256_madd_epi16(unit.second, words(1)));
  parts.v = _mm256_add_epi32(parts.v, products);
}
inline RowParts row_parts(RowParts parts) { return parts; }

// Lane r: the sum of row r's parts.
inline Integers sum_of_parts(const RowParts (&rows)[16]) {
  __m256i a[8], b[4];
  for (uint32_t i = 0; i < 8; ++i) {
    const __m256i first = rows[size_t{2} * i].v, second = rows[size_t{2} * i + 1].v;
    a[i] = _mm256_add_epi32(_mm256_unpacklo_epi32(first, second),
                            _mm256_unpackhi_epi32(first, second));
  }
  for (uint32_t i = 0; i < 4; ++i) {  // four rows in either half
    const __m256i first = a[size_t{2} * i], second = a[size_t{2} * i + 1];
    b[i] = _mm256_add_epi32(_mm256_unpacklo_epi64(first, second),
                            _mm256_unpackhi_epi64(first, second));
  }
  const auto add_halves = [](__m256i first, __m256i second) {
    return _mm256_add_epi32(_mm256_permute2x128_si256(first, second, 0x20),
                            _mm256_permute2x128_si256(first, second, 0x31));
  };
  return {add_halves(b[0], b[1]), add_halves(b[2], b[3])};
}

}  // namespace
}  // namespace sluice::kernels
