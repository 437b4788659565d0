// Lanes as one zmm register. See lanes.h; avx2_lanes.h defines the same names.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/unroll.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kLanes = 16;

// Accumulators of one matmul tile: 4 rows of 4 vectors fill half of the 32 registers. Of short rows
// 2 and 8 vectors, which stay in the first-level cache: the rows are what must be converted.
constexpr uint32_t kTileRows = 4;
constexpr uint32_t kWideTileRows = 2, kWideTileVectors = 8, kWideTileMostCols = 512;
// Registers of attention's sums of values.
constexpr uint32_t kValueSums = 16;
// Vectors that share one decoding of TurboQuant codes.
constexpr uint32_t kCodeVectors = 8;

struct Lanes {
  __m512 v;
};
struct Integers {  // 16 int32
  __m512i v;
};

inline __mmask16 first_lanes(size_t count) {
  return static_cast<__mmask16>((uint32_t{1} << count) - 1);
}

// *_first: the first count < 16 lanes; what lies behind them in memory is not touched, and a load
// gives zeros there.
inline Lanes splat(float value) { return {_mm512_set1_ps(value)}; }
inline Lanes load(const float* from) { return {_mm512_loadu_ps(from)}; }
inline Lanes load_first(const float* from, size_t count) {
  return {_mm512_maskz_loadu_ps(first_lanes(count), from)};
}
inline void store(float* to, Lanes a) { _mm512_storeu_ps(to, a.v); }
// Two lanes each, at places that lie `stride` floats apart.
inline void store_pairs(float* to, size_t stride, Lanes a) {
  const __m128 parts[4] = {_mm512_castps512_ps128(a.v), _mm512_extractf32x4_ps(a.v, 1),
                           _mm512_extractf32x4_ps(a.v, 2), _mm512_extractf32x4_ps(a.v, 3)};
  for (size_t i = 0; i < 4; ++i) {
    _mm_storel_pi(reinterpret_cast<__m64*>(to + 2 * i * stride), parts[i]);
    _mm_storeh_pi(reinterpret_cast<__m64*>(to + (2 * i + 1) * stride), parts[i]);
  }
}
inline void store_first(float* to, Lanes a, size_t count) {
  _mm512_mask_storeu_ps(to, first_lanes(count), a.v);
}

// Loaded once, although several products use it: GCC 12 otherwise loads it for each.
inline Lanes in_register(Lanes a) {
  __asm__("" : "+v"(a.v));
  return a;
}

inline Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Lanes operator-(Lanes a) { return {_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))}; }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// b where either is NaN.
inline Lanes maximum(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Lanes minimum(Lanes a, Lanes b) { return {_mm512_min_ps(a.v, b.v)}; }
inline float largest_lane(Lanes a) { return _mm512_reduce_max_ps(a.v); }

// Of 16 pairs, a holding eight and b the others: the first, or the second, of each.
inline Lanes firsts_of_pairs(Lanes a, Lanes b) {
  const __m512i from = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return {_mm512_permutex2var_ps(a.v, from, b.v)};
}
inline Lanes seconds_of_pairs(Lanes a, Lanes b) {
  const __m512i from = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return {_mm512_permutex2var_ps(a.v, from, b.v)};
}

inline Integers splat_integer(int32_t value) { return {_mm512_set1_epi32(value)}; }
inline Integers operator+(Integers a, Integers b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline Integers operator-(Integers a, Integers b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline Integers operator&(Integers a, Integers b) { return {_mm512_and_si512(a.v, b.v)}; }
inline Integers maximum(Integers a, Integers b) { return {_mm512_max_epi32(a.v, b.v)}; }
inline int32_t largest_lane(Integers a) { return _mm512_reduce_max_epi32(a.v); }
template <int kCount>
inline Integers shift_left(Integers a) {
  return {_mm512_slli_epi32(a.v, kCount)};
}
template <int kCount>
inline Integers shift_right_signed(Integers a) {
  return {_mm512_srai_epi32(a.v, kCount)};
}
inline Integers bits_of(Lanes a) { return {_mm512_castps_si512(a.v)}; }
inline Lanes from_bits(Integers a) { return {_mm512_castsi512_ps(a.v)}; }
inline Lanes to_floats(Integers a) { return {_mm512_cvtepi32_ps(a.v)}; }
// To nearest even. Requires: magnitudes below 2^31.
inline Integers round_to_integers(Lanes a) { return {_mm512_cvtps_epi32(a.v)}; }
inline int32_t sum_of_lanes(Integers a) { return _mm512_reduce_add_epi32(a.v); }

// 16 halves as floats, exactly, and back, to nearest even.
inline Lanes widen_f16(__m256i halves) { return {_mm512_cvtph_ps(halves)}; }
inline Lanes widen_bf16(__m256i halves) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
}
inline __m256i narrow_f16(Lanes a) {
  return _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline __m256i load_halves_first(const std::byte* from, size_t count) {
  return _mm256_maskz_loadu_epi16(first_lanes(count), from);
}
inline void store_halves_first(std::byte* to, __m256i halves, size_t count) {
  _mm256_mask_storeu_epi16(to, first_lanes(count), halves);
}

// The lanes after the first two halvings of a sum.
inline __m128 quarter(Lanes a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// The sums of a tile's registers, [row][vector], to y of the first row and vector. Each halving
// pairs registers, so that its additions are of whole ones.
inline void store_sums(const Lanes (&of)[2][8], float* y, size_t y_stride) {
  constexpr uint32_t kOrder[16] = {0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};
  __m512 all[16], a[8], b[4], c[2];
  SLUICE_UNROLL
  for (uint32_t i = 0; i < 16; ++i) all[kOrder[i]] = of[i % 2][i / 2].v;
  SLUICE_UNROLL
  for (int i = 0; i < 8; ++i) {
    a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(all[i], all[i + 8], 0b01'00'01'00),
                         _mm512_shuffle_f32x4(all[i], all[i + 8], 0b11'10'11'10));
  }
  SLUICE_UNROLL
  for (int i = 0; i < 4; ++i) {
    b[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[i], a[i + 4], 0b10'00'10'00),
                         _mm512_shuffle_f32x4(a[i], a[i + 4], 0b11'01'11'01));
  }
  SLUICE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const __m512d first = _mm512_castps_pd(b[i]), second = _mm512_castps_pd(b[i + 2]);
    c[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(first, second)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(first, second)));
  }
  // Lane i is now the sum of all[kOrder[i]].
  store_pairs(y, y_stride,
              {_mm512_add_ps(_mm512_shuffle_ps(c[0], c[1], 0b10'00'10'00),
                             _mm512_shuffle_ps(c[0], c[1], 0b11'01'11'01))});
}

// Stage kDistance = 1, 2, 4 or 8 of a Walsh–Hadamard transform within the register: a + b and a - b
// for every two lanes that far apart. Products with ±1 are exact, so fma rounds as the sum does.
template <uint32_t kDistance>
inline Lanes butterfly(Lanes a) {
  __m512 partner;
  __mmask16 second;
  if constexpr (kDistance == 1) {
    partner = _mm512_permute_ps(a.v, 0b10'11'00'01);
    second = 0xaaaa;
  } else if constexpr (kDistance == 2) {
    partner = _mm512_permute_ps(a.v, 0b01'00'11'10);
    second = 0xcccc;
  } else if constexpr (kDistance == 4) {
    partner = _mm512_shuffle_f32x4(a.v, a.v, 0b10'11'00'01);
    second = 0xf0f0;
  } else {
    partner = _mm512_shuffle_f32x4(a.v, a.v, 0b01'00'11'10);
    second = 0xff00;
  }
  const __m512 sign = _mm512_mask_blend_ps(second, _mm512_set1_ps(1), _mm512_set1_ps(-1));
  return {_mm512_fmadd_ps(a.v, sign, partner)};
}

// a + number where value ≥ edge.
inline Integers add_where_at_least(Lanes value, Lanes edge, Integers a, Integers number) {
  return {
      _mm512_mask_add_epi32(a.v, _mm512_cmp_ps_mask(value.v, edge.v, _CMP_GE_OQ), a.v, number.v)};
}
// Requires: every lane is in [0, 255].
inline __m128i narrow_to_bytes(Integers a) { return _mm512_cvtepi32_epi8(a.v); }

// values[index & 15], values [16].
inline Lanes look_up(const float* values, Integers indices) {
  return {_mm512_permutexvar_ps(indices.v, _mm512_loadu_ps(values))};
}
// For each lane one of the eight words, word[lane] of [0, 8), shifted right by shift[lane].
inline Integers shifted_words(const std::byte* words, const uint32_t* word, const uint32_t* shift) {
  const __m256i eight = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
  const __m512i spread =
      _mm512_permutexvar_epi32(_mm512_loadu_si512(word), _mm512_castsi256_si512(eight));
  return {_mm512_srlv_epi32(spread, _mm512_loadu_si512(shift))};
}
inline Integers widen_words(__m256i words) { return {_mm512_cvtepu16_epi32(words)}; }
inline Integers widen_bytes(__m128i bytes) { return {_mm512_cvtepu8_epi32(bytes)}; }
inline Integers widen_bytes(const uint8_t* from) {
  return widen_bytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// 2^(s - 127) of bytes s: they are the exponents' bits; 0 needs the denormal 2^-127, and 255 a NaN,
// which both have the highest bit of the mantissa set.
inline Lanes powers_of_two(__m128i bytes) {
  const __m512i exponents = _mm512_cvtepu8_epi32(bytes);
  const __mmask16 special = _mm512_testn_epi32_mask(
      _mm512_add_epi32(exponents, _mm512_set1_epi32(1)), _mm512_set1_epi32(0xfe));
  const __m512i bits = _mm512_slli_epi32(exponents, 23);
  return {
      _mm512_castsi512_ps(_mm512_mask_or_epi32(bits, special, bits, _mm512_set1_epi32(0x400000)))};
}

}  // namespace
}  // namespace sluice::kernels
