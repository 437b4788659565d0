// TurboQuant words of 16 rows as codebook numbers in ymm registers, for lanes_integer.h, and the
// inputs they are multiplied with. avx512_codes.h defines the same names.
//
// vpmaddwd multiplies 16-bit words and adds two products without loss: the codebook's bytes
// (code_bytes.h), widened, times the inputs as they are.
#pragma once

#include "kernels/avx2_lanes.h"
#include "kernels/code_bytes.h"

namespace sluice::kernels {
namespace {

// 4 codebook numbers in each lane, as pairs of words; 0 where a slot of the word has no code.
struct Quad {
  __m256i low_01, low_23;    // of lanes 0 to 7
  __m256i high_01, high_23;  // of lanes 8 to 15
};

// Four bytes a lane, of lanes 0 to 7 and of lanes 8 to 15.
inline Quad widen(__m256i low, __m256i high) {
  const __m256i first = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1));
  const __m256i second = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1));
  return {_mm256_shuffle_epi8(low, first), _mm256_shuffle_epi8(low, second),
          _mm256_shuffle_epi8(high, first), _mm256_shuffle_epi8(high, second)};
}

// The inputs of one vector from some column on, as 16-bit words.
struct Inputs {
  const std::byte* words;

  Inputs from(ptrdiff_t column) const { return {words + 2 * column}; }
};

inline Inputs inputs_of(const QuantizedVectors& x, uint32_t vector, uint32_t) {
  return {x.values + 2 * (size_t{vector} * x.value_stride)};
}

// Where quantize puts a vector's inputs.
struct InputStore {
  std::byte* row;

  void put(size_t column, Integers a) const {
    // Packing works within the halves of a register: words 0-3, 8-11 and 4-7, 12-15 come out.
    const __m256i packed = _mm256_packs_epi32(a.low, a.high);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + 2 * column),
                        _mm256_permute4x64_epi64(packed, 0b11'01'10'00));
  }
  void clear_padding(uint32_t cols) const {
    __builtin_memset(row + 2 * size_t{cols}, 0, 2 * ((size_t{cols} + 63) / 64 * 64 - cols));
  }
};

inline InputStore input_store(const QuantizedVectors& out, uint32_t vector, uint32_t) {
  return {out.values + 2 * (size_t{vector} * out.value_stride)};
}

// The inputs of one group with zeros on both sides, where a word reaches into its neighbours.
class Window {
 public:
  Inputs fill(Inputs inputs, uint32_t group) {
    for (uint32_t i = 0; i < 2 * group; i += 32) {
      const auto* from = reinterpret_cast<const __m256i*>(inputs.words + i);
      _mm256_store_si256(reinterpret_cast<__m256i*>(words_ + kMargin + i),
                         _mm256_loadu_si256(from));
    }
    return {words_ + kMargin};
  }

 private:
  static constexpr uint32_t kMargin = 2 * 32;  // bytes; more than a word's codes
  static constexpr uint32_t kLargestGroup = 2 * 128;

  alignas(32) std::byte words_[kMargin + kLargestGroup + kMargin] = {};
};

// Σ byte * input, of each lane's row. A group's sum stays below 128 * 255 * 32512 < 2^31.
struct DotProduct {
  __m256i low = _mm256_setzero_si256();
  __m256i high = _mm256_setzero_si256();
};

inline void add_products(DotProduct& dot, Quad quad, Inputs inputs) {
  int32_t first, second;
  __builtin_memcpy(&first, inputs.words, sizeof(first));
  __builtin_memcpy(&second, inputs.words + 4, sizeof(second));
  const __m256i x01 = _mm256_set1_epi32(first), x23 = _mm256_set1_epi32(second);
  const auto add = [](__m256i sum, __m256i codes, __m256i x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(codes, x));
  };
  dot.low = add(add(dot.low, quad.low_01, x01), quad.low_23, x23);
  dot.high = add(add(dot.high, quad.high_01, x01), quad.high_23, x23);
}

// Σ quantized * input = 2 Σ byte * input - correction, which is offset * Σ input. Only the result
// must fit 32 bits.
inline Integers finish(const DotProduct& dot, Integers correction) {
  return {_mm256_sub_epi32(_mm256_slli_epi32(dot.low, 1), correction.low),
          _mm256_sub_epi32(_mm256_slli_epi32(dot.high, 1), correction.high)};
}

// out[k]: word k of the four at rows[r] + offset, of all 16 rows r. Rows r and r+4 share a register
// before, so that transposing within its halves leaves the rows in order.
inline void transpose_words(const std::byte* const (&rows)[16], size_t offset, Integers (&out)[4]) {
  const auto two_rows = [&](int row) {
    const auto from_row = [&](int r) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + offset));
    };
    return _mm256_set_m128i(from_row(row + 4), from_row(row));
  };
  const auto eight_rows = [&](int row, __m256i(&words)[4]) {
    const __m256i a = two_rows(row), b = two_rows(row + 1);
    const __m256i c = two_rows(row + 2), d = two_rows(row + 3);
    const __m256i ab01 = _mm256_unpacklo_epi32(a, b), ab23 = _mm256_unpackhi_epi32(a, b);
    const __m256i cd01 = _mm256_unpacklo_epi32(c, d), cd23 = _mm256_unpackhi_epi32(c, d);
    words[0] = _mm256_unpacklo_epi64(ab01, cd01);
    words[1] = _mm256_unpackhi_epi64(ab01, cd01);
    words[2] = _mm256_unpacklo_epi64(ab23, cd23);
    words[3] = _mm256_unpackhi_epi64(ab23, cd23);
  };
  __m256i low[4], high[4];
  eight_rows(0, low);
  eight_rows(8, high);
  for (int k = 0; k < 4; ++k) out[k] = {low[k], high[k]};
}

// The codebook as the 16 entries that pshufb looks up in either half of a register.
inline __m256i codebook_entries(const Codebook& codebook) {
  alignas(16) uint8_t entries[16] = {};
  for (uint32_t i = 0; i < codebook.length; ++i) entries[i] = code_byte(codebook, i);
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(entries)));
}

template <uint32_t kLength>
class Codes {
 public:
  static constexpr uint32_t kBits = kLength == 4 ? 2 : kLength == 8 ? 3 : 4;
  static constexpr uint32_t kPerWord = 32 / kBits;
  static constexpr uint32_t kQuads = (kPerWord + 3) / 4;

  explicit Codes(const Codebook& codebook) : entries_(codebook_entries(codebook)) {}

  void quads(Integers word, Quad (&out)[kQuads]) const {
    for (uint32_t q = 0; q < kQuads; ++q) {
      out[q] = widen(look_up(word.low, q), look_up(word.high, q));
    }
  }

 private:
  // Four neighbouring codes move apart in two steps: pairs into halves of the lane, codes into
  // bytes.
  __m256i look_up(__m256i word, uint32_t q) const {
    constexpr int kPair = (1 << 2 * kBits) - 1, kCode = (1 << kBits) - 1;
    __m256i a = _mm256_srli_epi32(word, static_cast<int>(4 * kBits * q));
    a = _mm256_and_si256(a, _mm256_set1_epi32((1 << 4 * kBits) - 1));
    a = _mm256_or_si256(a, _mm256_slli_epi32(a, 16 - 2 * kBits));
    a = _mm256_and_si256(a, _mm256_set1_epi32(kPair * 0x10001));
    a = _mm256_or_si256(a, _mm256_slli_epi32(a, 8 - kBits));
    a = _mm256_and_si256(a, _mm256_set1_epi32(kCode * 0x1010101));
    if (4 * q + 4 > kPerWord) {  // pshufb gives 0 where the highest bit is set
      a = _mm256_or_si256(a, _mm256_set1_epi32(static_cast<int32_t>(0x80800000)));
    }
    return _mm256_shuffle_epi8(entries_, a);
  }

  __m256i entries_;
};

// A code of 8 bits is its byte.
template <>
class Codes<256> {
 public:
  static constexpr uint32_t kPerWord = 4;
  static constexpr uint32_t kQuads = 1;

  explicit Codes(const Codebook&) {}
  void quads(Integers word, Quad (&out)[kQuads]) const { out[0] = widen(word.low, word.high); }
};

// Ternary: 20 digits of base 3 are 5 of base 81, each a quad, and each of those two of base 9.
template <>
class Codes<3> {
 public:
  static constexpr uint32_t kPerWord = 20;
  static constexpr uint32_t kQuads = 5;

  explicit Codes(const Codebook& codebook) : entries_(codebook_entries(codebook)) {}

  void quads(Integers word, Quad (&out)[kQuads]) const {
    __m256i low = below_3_to_20(word.low), high = below_3_to_20(word.high);
    for (uint32_t q = 0; q < kQuads; ++q) {
      const __m256i first_lanes_bytes = next_quad(low);
      out[q] = widen(first_lanes_bytes, next_quad(high));
    }
  }

 private:
  // What is above 3^20 in a damaged word is dropped.
  static __m256i below_3_to_20(__m256i word) {
    const __m256i words = _mm256_set1_epi32(static_cast<int32_t>(3486784401));
    return _mm256_min_epu32(word, _mm256_sub_epi32(word, words));
  }
  // floor(a / 81), exact for every a: ceil(2^38 / 81) is too large by 23/81, and 23 < 2^(38 - 32).
  static __m256i divide_by_81(__m256i a) {
    const __m256i factor = _mm256_set1_epi64x(3393554407);
    const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(a, factor), 38);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), factor);
    return _mm256_blend_epi32(even, _mm256_srli_epi64(odd, 6), 0b10101010);
  }
  // a - b * 2^kShift - b: the remainder of a division by 2^kShift + 1.
  template <int kShift>
  static __m256i subtract_multiple(__m256i a, __m256i b) {
    return _mm256_sub_epi16(a, _mm256_add_epi16(b, _mm256_slli_epi16(b, kShift)));
  }
  // Takes the lowest four digits off `rest`.
  __m256i next_quad(__m256i& rest) const {
    const __m256i quotient = divide_by_81(rest);
    const __m256i digits = _mm256_sub_epi32(
        rest, _mm256_add_epi32(_mm256_add_epi32(quotient, _mm256_slli_epi32(quotient, 4)),
                               _mm256_slli_epi32(quotient, 6)));
    rest = quotient;
    // floor(a / 9) = a * 57 / 512 for a < 81; then floor(a / 3) = a * 11 / 32 for a < 9, in 16-bit
    // halves that hold the lower and the upper base-9 digit.
    const __m256i upper = _mm256_srli_epi32(_mm256_mullo_epi16(digits, _mm256_set1_epi32(57)), 9);
    const __m256i lower = subtract_multiple<3>(digits, upper);
    const __m256i pair = _mm256_or_si256(lower, _mm256_slli_epi32(upper, 16));
    const __m256i second = _mm256_srli_epi16(_mm256_mullo_epi16(pair, _mm256_set1_epi16(11)), 5);
    const __m256i first = subtract_multiple<1>(pair, second);
    return _mm256_shuffle_epi8(entries_, _mm256_or_si256(first, _mm256_slli_epi16(second, 8)));
  }

  __m256i entries_;
};

}  // namespace
}  // namespace sluice::kernels
