// TurboQuant words of 16 rows as codebook bytes in a zmm register, for lanes_integer.h, and the
// inputs they are multiplied with. avx2_codes.h defines the same names.
//
// vpdpbusd multiplies unsigned bytes with signed ones. The unsigned side is the codebook, moved up
// until it is positive and halved (code_bytes.h); the signed side is a plane of the inputs' high or
// low bytes. From Σ byte * high and Σ byte * low the exact dot product follows (finish).
#pragma once

#include "kernels/avx512_lanes.h"
#include "kernels/code_bytes.h"

namespace sluice::kernels {
namespace {

// 4 codebook bytes in each lane; 0 where a slot of the word has no code.
struct Quad {
  __m512i v;
};

// The inputs of one vector from some column on: first all high bytes of the vector, then, from the
// next multiple of 64 inputs on, all low bytes. input = 256 * high + low.
struct Inputs {
  const int8_t* high;
  const int8_t* low;

  Inputs from(ptrdiff_t column) const { return {high + column, low + column}; }
};

inline size_t low_plane(uint32_t cols) { return (size_t{cols} + 63) / 64 * 64; }

inline Inputs inputs_of(const QuantizedVectors& x, uint32_t vector, uint32_t cols) {
  const std::byte* row = x.values + 2 * (size_t{vector} * x.value_stride);
  const int8_t* high = reinterpret_cast<const int8_t*>(row);
  return {high, high + low_plane(cols)};
}

// Where quantize puts a vector's inputs.
struct InputStore {
  std::byte* row;
  size_t low;

  void put(size_t column, Integers a) const {
    const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(a.v, _mm512_set1_epi32(128)), 8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row + column), _mm512_cvtepi32_epi8(high));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row + low + column), _mm512_cvtepi32_epi8(a.v));
  }
  void clear_padding(uint32_t cols) const {
    __builtin_memset(row + cols, 0, low - cols);
    __builtin_memset(row + low + cols, 0, low - cols);
  }
};

inline InputStore input_store(const QuantizedVectors& out, uint32_t vector, uint32_t cols) {
  return {out.values + 2 * (size_t{vector} * out.value_stride), low_plane(cols)};
}

// The inputs of one group with zeros on both sides, where a word reaches into its neighbours.
class Window {
 public:
  Inputs fill(Inputs inputs, uint32_t group) {
    for (uint32_t i = 0; i < group; i += 32) {
      copy(inputs.high + i, high_ + kMargin + i);
      copy(inputs.low + i, low_ + kMargin + i);
    }
    return {high_ + kMargin, low_ + kMargin};
  }

 private:
  static constexpr uint32_t kMargin = 32;  // more than a word's codes
  static constexpr uint32_t kLargestGroup = 128;

  static void copy(const int8_t* from, int8_t* to) {
    const __m256i part = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), part);
  }

  alignas(32) int8_t high_[kMargin + kLargestGroup + kMargin] = {};
  alignas(32) int8_t low_[kMargin + kLargestGroup + kMargin] = {};
};

// Σ byte * high and Σ byte * low, of each lane's row.
struct DotProduct {
  __m512i high = _mm512_setzero_si512();
  __m512i low = _mm512_setzero_si512();
};

inline void add_products(DotProduct& dot, Quad quad, Inputs inputs) {
  int32_t high, low;
  __builtin_memcpy(&high, inputs.high, sizeof(high));
  __builtin_memcpy(&low, inputs.low, sizeof(low));
  dot.high = _mm512_dpbusd_epi32(dot.high, quad.v, _mm512_set1_epi32(high));
  dot.low = _mm512_dpbusd_epi32(dot.low, quad.v, _mm512_set1_epi32(low));
}

// Σ quantized * input = 2 Σ byte * input - correction, which is offset * Σ input. Only the result
// must fit 32 bits.
inline Integers finish(const DotProduct& dot, Integers correction) {
  const __m512i doubled =
      _mm512_add_epi32(_mm512_slli_epi32(dot.high, 9), _mm512_slli_epi32(dot.low, 1));
  return {_mm512_sub_epi32(doubled, correction.v)};
}

// out[k]: word k of the four at rows[r] + offset, of all 16 rows r. Rows r, r+4, r+8, r+12 share a
// register before, so that transposing within its four parts leaves the rows in order.
inline void transpose_words(const std::byte* const (&rows)[16], size_t offset, Integers (&out)[4]) {
  const auto from_row = [&](int row) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[row] + offset));
  };
  const auto four_rows = [&](int row) {
    __m512i v = _mm512_castsi128_si512(from_row(row));
    v = _mm512_inserti32x4(v, from_row(row + 4), 1);
    v = _mm512_inserti32x4(v, from_row(row + 8), 2);
    return _mm512_inserti32x4(v, from_row(row + 12), 3);
  };
  const __m512i a = four_rows(0), b = four_rows(1), c = four_rows(2), d = four_rows(3);
  const __m512i ab01 = _mm512_unpacklo_epi32(a, b), ab23 = _mm512_unpackhi_epi32(a, b);
  const __m512i cd01 = _mm512_unpacklo_epi32(c, d), cd23 = _mm512_unpackhi_epi32(c, d);
  out[0].v = _mm512_unpacklo_epi64(ab01, cd01);
  out[1].v = _mm512_unpackhi_epi64(ab01, cd01);
  out[2].v = _mm512_unpacklo_epi64(ab23, cd23);
  out[3].v = _mm512_unpackhi_epi64(ab23, cd23);
}

// vpmultishiftqb takes eight bits from any bit of a lane pair for each byte; vpermb looks up the
// lowest six of them. The codebook fills all 64 entries by repetition, so what lies above a code's
// bits needs no masking.
template <uint32_t kLength>
class Codes {
 public:
  static constexpr uint32_t kBits = kLength == 4 ? 2 : kLength == 8 ? 3 : 4;
  static constexpr uint32_t kPerWord = 32 / kBits;
  static constexpr uint32_t kQuads = (kPerWord + 3) / 4;

  explicit Codes(const Codebook& codebook) {
    alignas(64) uint8_t entries[64];
    for (uint32_t i = 0; i < 64; ++i) entries[i] = code_byte(codebook, i % kLength);
    entries_ = _mm512_load_si512(entries);
    for (uint32_t q = 0; q < kQuads; ++q) {
      alignas(64) uint8_t shifts[64];
      for (uint32_t i = 0; i < 64; ++i) {
        shifts[i] = static_cast<uint8_t>(i % 8 / 4 * 32 + (4 * q + i % 4) * kBits % 32);
      }
      shifts_[q] = _mm512_load_si512(shifts);
    }
  }

  void quads(Integers word, Quad (&out)[kQuads]) const {
    for (uint32_t q = 0; q < kQuads; ++q) {
      const __m512i indices = _mm512_multishift_epi64_epi8(shifts_[q], word.v);
      out[q].v = 4 * q + 4 <= kPerWord
                     ? _mm512_permutexvar_epi8(indices, entries_)
                     : _mm512_maskz_permutexvar_epi8(kFirstTwo, indices, entries_);
    }
  }

 private:
  static constexpr __mmask64 kFirstTwo = 0x3333333333333333;  // of each lane's four bytes

  __m512i entries_;
  __m512i shifts_[kQuads];
};

// A code of 8 bits is its byte.
template <>
class Codes<256> {
 public:
  static constexpr uint32_t kPerWord = 4;
  static constexpr uint32_t kQuads = 1;

  explicit Codes(const Codebook&) {}
  void quads(Integers word, Quad (&out)[kQuads]) const { out[0].v = word.v; }
};

// Ternary: 20 digits of base 3 are 5 of base 81, each a quad, and each of those two of base 9,
// which vpermb turns into two codebook bytes: entries [0, 9) by the lower digit, [16, 25) by the
// upper one.
template <>
class Codes<3> {
 public:
  static constexpr uint32_t kPerWord = 20;
  static constexpr uint32_t kQuads = 5;

  explicit Codes(const Codebook& codebook) {
    alignas(64) uint8_t entries[64] = {};
    for (uint32_t i = 0; i < 9; ++i) {
      entries[i] = code_byte(codebook, i % 3);
      entries[16 + i] = code_byte(codebook, i / 3);
    }
    entries_ = _mm512_load_si512(entries);
  }

  void quads(Integers word, Quad (&out)[kQuads]) const {
    constexpr uint32_t kWords = 3486784401;  // 3^20; what is above it in a damaged word is dropped
    __m512i rest = _mm512_min_epu32(
        word.v, _mm512_sub_epi32(word.v, _mm512_set1_epi32(static_cast<int32_t>(kWords))));
    for (uint32_t q = 0; q < kQuads; ++q) {
      const __m512i quotient = divide_by_81(rest);
      const __m512i digits = _mm512_sub_epi32(
          rest, _mm512_add_epi32(_mm512_add_epi32(quotient, _mm512_slli_epi32(quotient, 4)),
                                 _mm512_slli_epi32(quotient, 6)));
      out[q].v = look_up_81(digits);
      rest = quotient;
    }
  }

 private:
  // floor(a / 81), exact for every a: ceil(2^38 / 81) is too large by 23/81, and 23 < 2^(38 - 32).
  static __m512i divide_by_81(__m512i a) {
    const __m512i factor = _mm512_set1_epi64(3393554407);
    const __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(a, factor), 38);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), factor);
    return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_srli_epi64(odd, 6));
  }
  __m512i look_up_81(__m512i digits) const {
    // floor(a / 9) = a * 57 / 512 for a < 81.
    const __m512i upper = _mm512_srli_epi32(_mm512_mullo_epi16(digits, _mm512_set1_epi32(57)), 9);
    const __m512i lower =
        _mm512_sub_epi32(digits, _mm512_add_epi32(upper, _mm512_slli_epi32(upper, 3)));
    const __m512i pair = _mm512_or_si512(lower, _mm512_slli_epi32(upper, 16));
    const __m512i indices = _mm512_or_si512(_mm512_or_si512(pair, _mm512_slli_epi32(pair, 8)),
                                            _mm512_set1_epi32(0x10001000));
    return _mm512_permutexvar_epi8(indices, entries_);
  }

  __m512i entries_;
};

}  // namespace
}  // namespace sluice::kernels
