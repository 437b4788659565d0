// Lanes as two ymm registers. See lanes.h; avx512_lanes.h defines the same names.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kLanes = 16;

// Accumulators of one matmul tile: 1 row of 4 vectors fills half of the 16 registers; the inputs
// come from memory.
constexpr uint32_t kTileRows = 1;
// avx512_lanes.h: none here.
constexpr uint32_t kWideTileRows = 0, kWideTileVectors = 0, kWideTileMostCols = 0;
// Registers of attention's sums of values.
constexpr uint32_t kValueSums = 4;
// Vectors that share one decoding of TurboQuant codes.
constexpr uint32_t kCodeVectors = 4;

struct Lanes {
  __m256 low, high;
};
struct Integers {  // 16 int32
  __m256i low, high;
};

inline Lanes splat(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Lanes load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline void store(float* to, Lanes a) {
  _mm256_storeu_ps(to, a.low);
  _mm256_storeu_ps(to + 8, a.high);
}

// All ones in the first `count` lanes.
inline Integers first_lanes(size_t count) {
  const __m256i limit = _mm256_set1_epi32(static_cast<int32_t>(count));
  return {_mm256_cmpgt_epi32(limit, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
          _mm256_cmpgt_epi32(limit, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}
// *_first: the first count < 16 lanes; what lies behind them in memory is not touched, and a load
// gives zeros there.
inline Lanes load_first(const float* from, size_t count) {
  const Integers mask = first_lanes(count);
  if (count <= 8) return {_mm256_maskload_ps(from, mask.low), _mm256_setzero_ps()};
  return {_mm256_loadu_ps(from), _mm256_maskload_ps(from + 8, mask.high)};
}
inline void store_first(float* to, Lanes a, size_t count) {
  const Integers mask = first_lanes(count);
  _mm256_maskstore_ps(to, mask.low, a.low);
  if (count > 8) _mm256_maskstore_ps(to + 8, mask.high, a.high);
}

// As in avx512_lanes.h.
inline Lanes in_register(Lanes a) {
  __asm__("" : "+x"(a.low), "+x"(a.high));
  return a;
}

inline Lanes operator+(Lanes a, Lanes b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline Lanes operator-(Lanes a, Lanes b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline Lanes operator*(Lanes a, Lanes b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline Lanes operator/(Lanes a, Lanes b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
inline Lanes operator-(Lanes a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(a.low, sign), _mm256_xor_ps(a.high, sign)};
}
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
// b where either is NaN.
inline Lanes maximum(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Lanes minimum(Lanes a, Lanes b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
inline float largest_lane(Lanes a) {
  const __m256 eight = _mm256_max_ps(a.low, a.high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// Of 16 pairs, a holding eight and b the others: the first, or the second, of each.
template <int kSelect>
inline Lanes of_pairs(Lanes a, Lanes b) {
  // Shuffling works within the halves of a register: 0 2 8 10 and 4 6 12 14 come out.
  const auto eight = [](__m256 low, __m256 high) {
    const __m256d pairs = _mm256_castps_pd(_mm256_shuffle_ps(low, high, kSelect));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(pairs, 0b11'01'10'00));
  };
  return {eight(a.low, a.high), eight(b.low, b.high)};
}
inline Lanes firsts_of_pairs(Lanes a, Lanes b) { return of_pairs<0b10'00'10'00>(a, b); }
inline Lanes seconds_of_pairs(Lanes a, Lanes b) { return of_pairs<0b11'01'11'01>(a, b); }

inline Integers splat_integer(int32_t value) {
  return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)};
}
inline Integers operator+(Integers a, Integers b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
inline Integers operator-(Integers a, Integers b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}
inline Integers operator&(Integers a, Integers b) {
  return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)};
}
inline Integers maximum(Integers a, Integers b) {
  return {_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)};
}
inline int32_t largest_lane(Integers a) {
  const __m256i eight = _mm256_max_epi32(a.low, a.high);
  const __m128i four =
      _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0b01'00'11'10));
  return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
}
template <int kCount>
inline Integers shift_left(Integers a) {
  return {_mm256_slli_epi32(a.low, kCount), _mm256_slli_epi32(a.high, kCount)};
}
template <int kCount>
inline Integers shift_right_signed(Integers a) {
  return {_mm256_srai_epi32(a.low, kCount), _mm256_srai_epi32(a.high, kCount)};
}
inline Integers bits_of(Lanes a) {
  return {_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)};
}
inline Lanes from_bits(Integers a) {
  return {_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)};
}
inline Lanes to_floats(Integers a) {
  return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)};
}
// To nearest even. Requires: magnitudes below 2^31.
inline Integers round_to_integers(Lanes a) {
  return {_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)};
}
inline int32_t sum_of_lanes(Integers a) {
  const __m256i eight = _mm256_add_epi32(a.low, a.high);
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0b01'00'11'10));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

// 16 halves as floats, exactly, and back, to nearest even.
inline Lanes widen_f16(__m256i halves) {
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
          _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))};
}
inline Lanes widen_bf16(__m256i halves) {
  const auto widen = [](__m128i eight) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16));
  };
  return {widen(_mm256_castsi256_si128(halves)), widen(_mm256_extracti128_si256(halves, 1))};
}
inline __m256i narrow_f16(Lanes a) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return _mm256_set_m128i(_mm256_cvtps_ph(a.high, kNearest), _mm256_cvtps_ph(a.low, kNearest));
}
inline __m256i load_halves_first(const std::byte* from, size_t count) {
  alignas(32) std::byte copy[32] = {};
  __builtin_memcpy(copy, from, 2 * count);
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(copy));
}
inline void store_halves_first(std::byte* to, __m256i halves, size_t count) {
  alignas(32) std::byte copy[32];
  _mm256_store_si256(reinterpret_cast<__m256i*>(copy), halves);
  __builtin_memcpy(to, copy, 2 * count);
}

// The lanes after the first two halvings of a sum.
inline __m128 quarter(Lanes a) {
  const __m256 half = _mm256_add_ps(a.low, a.high);
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// Stage kDistance = 1, 2, 4 or 8 of a Walsh–Hadamard transform within the registers: a + b and a -
// b for every two lanes that far apart. Products with ±1 are exact, so fma rounds as the sum does.
template <uint32_t kDistance>
inline Lanes butterfly(Lanes a) {
  if constexpr (kDistance == 8) {
    return {_mm256_add_ps(a.low, a.high), _mm256_sub_ps(a.low, a.high)};
  } else {
    const auto within = [](__m256 half) {
      if constexpr (kDistance == 1) {
        return _mm256_fmadd_ps(half, _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1),
                               _mm256_permute_ps(half, 0b10'11'00'01));
      } else if constexpr (kDistance == 2) {
        return _mm256_fmadd_ps(half, _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1),
                               _mm256_permute_ps(half, 0b01'00'11'10));
      } else {
        return _mm256_fmadd_ps(half, _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1),
                               _mm256_permute2f128_ps(half, half, 1));
      }
    };
    return {within(a.low), within(a.high)};
  }
}

// a + number where value ≥ edge.
inline Integers add_where_at_least(Lanes value, Lanes edge, Integers a, Integers number) {
  const auto half = [](__m256 v, __m256 e, __m256i sum, __m256i n) {
    const __m256i at_least = _mm256_castps_si256(_mm256_cmp_ps(v, e, _CMP_GE_OQ));
    return _mm256_add_epi32(sum, _mm256_and_si256(at_least, n));
  };
  return {half(value.low, edge.low, a.low, number.low),
          half(value.high, edge.high, a.high, number.high)};
}
// Requires: every lane is in [0, 255].
inline __m128i narrow_to_bytes(Integers a) {
  // Packing works within the halves of a register: words 0-3, 8-11 and 4-7, 12-15 come out.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.low, a.high), 0b11'01'10'00);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

// values[index & 15], values [16].
inline Lanes look_up(const float* values, Integers indices) {
  const __m256 first = _mm256_loadu_ps(values), second = _mm256_loadu_ps(values + 8);
  const auto pick = [&](__m256i index) {
    const __m256 is_second =
        _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));  // bit 3 as the sign
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(first, index),
                            _mm256_permutevar8x32_ps(second, index), is_second);
  };
  return {pick(indices.low), pick(indices.high)};
}
// For each lane one of the eight words, word[lane] of [0, 8), shifted right by shift[lane].
inline Integers shifted_words(const std::byte* words, const uint32_t* word, const uint32_t* shift) {
  const auto eight = [](const void* from) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
  };
  const __m256i all = eight(words);
  return {_mm256_srlv_epi32(_mm256_permutevar8x32_epi32(all, eight(word)), eight(shift)),
          _mm256_srlv_epi32(_mm256_permutevar8x32_epi32(all, eight(word + 8)), eight(shift + 8))};
}
inline Integers widen_words(__m256i words) {
  return {_mm256_cvtepu16_epi32(_mm256_castsi256_si128(words)),
          _mm256_cvtepu16_epi32(_mm256_extracti128_si256(words, 1))};
}
inline Integers widen_bytes(__m128i bytes) {
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
inline Integers widen_bytes(const uint8_t* from) {
  return widen_bytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// 2^(s - 127) of bytes s: they are the exponents' bits; 0 needs the denormal 2^-127, and 255 a NaN,
// which both have the highest bit of the mantissa set.
inline Lanes powers_of_two(__m128i bytes) {
  const __m128i special = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_setzero_si128()),
                                       _mm_cmpeq_epi8(bytes, _mm_set1_epi8(-1)));
  const Integers mantissa = widen_bytes(_mm_and_si128(special, _mm_set1_epi8(0x40)));
  return from_bits(shift_left<23>(widen_bytes(bytes)) + shift_left<16>(mantissa));
}

}  // namespace
}  // namespace sluice::kernels
