// Integers of affine rows times integer inputs in zmm registers, for lanes_affine.h. avx2_affine.h
// defines the same names.
//
// vpermb gives each eight bytes of a register the bytes of eight integers (as many as an integer
// has bits), and vpmultishiftqb takes them apart. As unsigned bytes they are multiplied with the
// planes of the inputs (avx512_codes.h).
#pragma once

#include "kernels/avx512_codes.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kAffineUnit = 64;  // integers of a register

template <uint32_t kBits>
struct AffineShuffle {
  alignas(64) uint8_t bytes[64];
  alignas(64) uint8_t shifts[64];

  constexpr AffineShuffle() : bytes(), shifts() {
    for (uint32_t i = 0; i < 64; ++i) {
      bytes[i] = static_cast<uint8_t>(i % 8 < kBits ? i / 8 * kBits + i % 8 : 0);
      shifts[i] = static_cast<uint8_t>(i % 8 * kBits);
    }
  }
};

template <uint32_t kBits>
constexpr char kOnes = static_cast<char>((1 << kBits) - 1);

// kUnit integers as bytes; where those are 32, the rest of the register is 0.
template <uint32_t kBits, uint32_t kUnit>
inline __m512i affine_unit(const std::byte* from) {
  static constexpr AffineShuffle<kBits> kShuffle;
  if constexpr (kUnit == 64) {
    const __m512i stored = _mm512_loadu_si512(from);
    if constexpr (kBits == 8) return stored;
    const __m512i spread = _mm512_permutexvar_epi8(_mm512_load_si512(kShuffle.bytes), stored);
    return _mm512_and_si512(
        _mm512_multishift_epi64_epi8(_mm512_load_si512(kShuffle.shifts), spread),
        _mm512_set1_epi8(kOnes<kBits>));
  } else {
    const auto constant = [](const void* place) {
      return _mm256_load_si256(static_cast<const __m256i*>(place));
    };
    const __m256i stored = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    if constexpr (kBits == 8) return _mm512_zextsi256_si512(stored);
    const __m256i spread = _mm256_permutexvar_epi8(constant(kShuffle.bytes), stored);
    return _mm512_zextsi256_si512(
        _mm256_and_si256(_mm256_multishift_epi64_epi8(constant(kShuffle.shifts), spread),
                         _mm256_set1_epi8(kOnes<kBits>)));
  }
}

using AffineDot = DotProduct;  // of one row, in all lanes

template <uint32_t kUnit>
inline __m512i input_bytes(const int8_t* from) {
  if constexpr (kUnit == 64) return _mm512_loadu_si512(from);
  return _mm512_zextsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

// The products of one row's unit with the inputs, added up over all lanes of both.
template <uint32_t kUnit>
inline void add_unit_products(DotProduct& dot, __m512i unit, Inputs inputs) {
  dot.high = _mm512_dpbusd_epi32(dot.high, unit, input_bytes<kUnit>(inputs.high));
  dot.low = _mm512_dpbusd_epi32(dot.low, unit, input_bytes<kUnit>(inputs.low));
}

// One row's exact sum, in parts. Only the sum of the parts must fit 32 bits.
struct RowParts {
  __m512i v;
};
inline RowParts row_parts(const DotProduct& dot) {
  return {_mm512_add_epi32(_mm512_slli_epi32(dot.high, 8), dot.low)};
}

// Lane r: the sum of row r's parts.
inline Integers sum_of_parts(const RowParts (&rows)[16]) {
  __m512i a[8], b[4];
  for (uint32_t i = 0; i < 8; ++i) {
    const __m512i first = rows[size_t{2} * i].v, second = rows[size_t{2} * i + 1].v;
    a[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(first, second),
                            _mm512_unpackhi_epi32(first, second));
  }
  for (uint32_t i = 0; i < 4; ++i) {  // four rows in every quarter
    const __m512i first = a[size_t{2} * i], second = a[size_t{2} * i + 1];
    b[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(first, second),
                            _mm512_unpackhi_epi64(first, second));
  }
  const auto add_quarters = [](__m512i first, __m512i second) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(first, second, 0b10'00'10'00),
                            _mm512_shuffle_i32x4(first, second, 0b11'01'11'01));
  };
  return {add_quarters(add_quarters(b[0], b[1]), add_quarters(b[2], b[3]))};
}

}  // namespace
}  // namespace sluice::kernels
