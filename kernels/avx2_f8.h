// Codes of F8_E4M3 in ymm registers, for lanes_f8.h. avx512_f8.h defines the same names.
#pragma once

#include "kernels/avx2_lanes.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kF8Codes = 32;  // of a register

struct F8Codes {
  __m256i v;

  static F8Codes load(const std::byte* from) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))};
  }
  // The first count, and zeros.
  static F8Codes load_first(const std::byte* from, size_t count) {
    alignas(32) std::byte copy[32] = {};
    __builtin_memcpy(copy, from, count);
    return {_mm256_load_si256(reinterpret_cast<const __m256i*>(copy))};
  }
};

// Rows multiplied at once.
constexpr uint32_t kF8Rows = 2;

// As an F16, the bits of a code moved to its place are the value / 256, denormals included, so that
// a conversion of the processor's own does the rest; what is lost are the NaN codes, which are
// looked for apart.
class F8Decoder {
 public:
  // out[i]: the values / 256 of codes 16 i to 16 i + 15. Interleaved with zeros a code is the upper
  // byte of a word, whose bits below the sign belong one place lower in an F16. Interleaving works
  // within halves of a register: so theirs are put beforehand where it takes them in order.
  void widen(F8Codes codes, Lanes (&out)[kF8Codes / kLanes]) {
    largest_ = _mm256_max_epu8(largest_, _mm256_and_si256(codes.v, _mm256_set1_epi8(kNaN)));
    const __m256i halves = _mm256_permute4x64_epi64(codes.v, 0b11'01'10'00);
    const auto widen = [](__m256i words) {
      return widen_f16(_mm256_and_si256(_mm256_srai_epi16(words, 1),
                                        _mm256_set1_epi16(static_cast<int16_t>(0xbf80))));
    };
    out[0] = widen(_mm256_unpacklo_epi8(_mm256_setzero_si256(), halves));
    out[1] = widen(_mm256_unpackhi_epi8(_mm256_setzero_si256(), halves));
  }
  // Whether some code was NaN and did not become one: among magnitudes it is above all numbers.
  bool missed_nan() const {
    return _mm256_movemask_epi8(_mm256_cmpeq_epi8(largest_, _mm256_set1_epi8(kNaN))) != 0;
  }

 private:
  static constexpr char kNaN = 0x7f;
  __m256i largest_ = _mm256_setzero_si256();
};

}  // namespace
}  // namespace sluice::kernels
