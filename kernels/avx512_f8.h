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

// Rows multiplied at once: four chains of additions.
constexpr uint32_t kF8Rows = 4;

// The values / 256 of codes without their sign, as the upper and the lower byte of a BF16. 0x7f is
// NaN. Lower bytes are those of codes below 64: of the others only the four lowest bits matter, so
// that 64 may stand for 32.
struct F8Table {
  alignas(64) uint8_t upper[128];
  alignas(64) uint8_t lower[64];
  // Where the code comes from that becomes byte i of a register: after the bytes of BF16 are put
  // together, which works within quarters of a register, the lower halves of its words of 32 bits
  // are 16 successive values, and so are the upper ones.
  alignas(64) uint8_t order[64];

  constexpr F8Table() : upper(), lower(), order() {
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
      if (code < 64) lower[code] = static_cast<uint8_t>(bits);
    }
    for (uint32_t i = 0; i < 64; ++i) {
      const uint32_t half = i % 16 / 8, pair = i % 8 / 2;
      order[i] = static_cast<uint8_t>(32 * half + 16 * (i % 2) + 4 * (i / 16) + pair);
    }
  }
};

// Codes as floats by lookups of their two upper bytes: vpermi2b takes the lowest seven bits of each
// byte as an index, vpermb, which costs half of its shuffles, the lowest six. All shuffles share
// one port; so what a shift or a mask can do is not one. A conversion from F16 would be one more.
class F8Decoder {
 public:
  // out[i]: the values / 256 of codes 16 i to 16 i + 15.
  void widen(F8Codes codes, Lanes (&out)[kF8Codes / kLanes]) {
    constexpr int kSecondAndThirdToo = 0xf8;  // a | (b & c)
    const __m512i ordered = _mm512_permutexvar_epi8(load(kTable.order), codes.v);
    const __m512i magnitude =
        _mm512_permutex2var_epi8(load(kTable.upper), ordered, load(kTable.upper + 64));
    const __m512i upper = _mm512_ternarylogic_epi32(
        magnitude, ordered, _mm512_set1_epi8(static_cast<char>(0x80)), kSecondAndThirdToo);
    const __m512i below_64 = _mm512_ternarylogic_epi32(ordered, _mm512_srli_epi16(ordered, 1),
                                                       _mm512_set1_epi8(0x20), kSecondAndThirdToo);
    const __m512i lower = _mm512_permutexvar_epi8(below_64, load(kTable.lower));
    const auto widen = [](__m512i pairs, Lanes& lower_halves, Lanes& upper_halves) {
      const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xffff0000));
      lower_halves.v = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
      upper_halves.v = _mm512_castsi512_ps(_mm512_and_si512(pairs, mask));
    };
    widen(_mm512_unpacklo_epi8(lower, upper), out[0], out[1]);
    widen(_mm512_unpackhi_epi8(lower, upper), out[2], out[3]);
  }
  // Whether some code was NaN and did not become one.
  bool missed_nan() const { return false; }

 private:
  static constexpr F8Table kTable{};
  static __m512i load(const uint8_t* from) { return _mm512_load_si512(from); }
};

}  // namespace
}  // namespace sluice::kernels
