// Codes of F8_E4M3 in zmm registers, for lanes_f8.h. avx2_f8.h defines the same names.
#pragma once

#include "kernels/avx512_lanes.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kF8Codes = 64;  // of a register

struct F8Codes {
  __m512i v;

  static F8Codes load(const std::byte* from) { return {_mm512_loadu_si512(from)}; }
  // The first count, and zeros.
  static F8Codes load_first(const std::byte* from, size_t count) {
    return {_mm512_maskz_loadu_epi8((uint64_t{1} << count) - 1, from)};
  }
};

// The values / 256 of codes without their sign, as the upper and the lower byte of a BF16. 0x7f is
// NaN.
struct F8Table {
  alignas(64) uint8_t upper[128];
  alignas(64) uint8_t lower[128];

  constexpr F8Table() : upper(), lower() {
    for (uint32_t code = 0; code < 128; ++code) {
      // Eighths of 2^(exponent - 14), or of 2^-14 what is denormal; as a BF16 nothing is.
      uint32_t exponent = code >> 3, mantissa = code & 7;
      uint32_t bits = 0;
      if (code == 127) {
        bits = 0x7fc0;
      } else if (exponent > 0) {
        bits = (exponent + 127 - 15) << 7 | mantissa << 4;
      } else if (mantissa > 0) {
        exponent = 127 - 14;
        for (; mantissa < 8; mantissa *= 2) --exponent;
        bits = exponent << 7 | (mantissa & 7) << 4;
      }
      upper[code] = static_cast<uint8_t>(bits >> 8);
      lower[code] = static_cast<uint8_t>(bits);
    }
  }
};

// Codes as floats by vpermi2b, which looks up the lowest seven bits of each byte; two rounds of
// interleaving, which work within quarters of a register, put the bytes of a float together. The
// codes are put beforehand where that takes them in order.
class F8Decoder {
 public:
  // out[i]: the values / 256 of codes 16 i to 16 i + 15.
  void widen(F8Codes codes, Lanes (&out)[kF8Codes / kLanes]) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i turned = _mm512_permutexvar_epi32(order, codes.v);
    const __m512i lower = _mm512_permutex2var_epi8(lower_[0], turned, lower_[1]);
    const __m512i magnitude = _mm512_permutex2var_epi8(upper_[0], turned, upper_[1]);
    constexpr int kSecondOfThirdToo = 0xf8;  // a | (b & c)
    const __m512i upper = _mm512_ternarylogic_epi32(
        magnitude, turned, _mm512_set1_epi8(static_cast<char>(0x80)), kSecondOfThirdToo);
    const auto widen = [](__m512i halves, Lanes& first, Lanes& second) {
      const __m512i zero = _mm512_setzero_si512();
      first.v = _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, halves));
      second.v = _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, halves));
    };
    widen(_mm512_unpacklo_epi8(lower, upper), out[0], out[1]);
    widen(_mm512_unpackhi_epi8(lower, upper), out[2], out[3]);
  }
  // Whether some code was NaN and did not become one.
  bool missed_nan() const { return false; }

 private:
  static constexpr F8Table kTable{};
  static __m512i load(const uint8_t* from) { return _mm512_load_si512(from); }

  __m512i upper_[2] = {load(kTable.upper), load(kTable.upper + 64)};
  __m512i lower_[2] = {load(kTable.lower), load(kTable.lower + 64)};
};

}  // namespace
}  // namespace sluice::kernels
