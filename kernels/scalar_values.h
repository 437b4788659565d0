// Numbers as the scalar table reads them: lanes and their sum, conversions, a dot product of plain
// floats. For scalar.cpp alone.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/kernels.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kLanes = 16;

struct Lanes {
  float lane[kLanes] = {};
};

// Adds the lanes by halves.
inline float sum(Lanes lanes) {
  for (uint32_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint32_t j = 0; j < half; ++j) lanes.lane[j] += lanes.lane[j + half];
  }
  return lanes.lane[0];
}

inline uint16_t f16_from_f32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t half;
  if (magnitude > 0x7f800000) {  // NaN: made quiet, the payload's upper bits kept
    half = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  } else if (magnitude >= 0x47800000) {  // 65536 and more
    half = 0x7c00;
  } else if (magnitude < 0x33000000) {  // less than half of the smallest denormal
    half = 0;
  } else if (magnitude < 0x38800000) {  // below 2^-14: a denormal, in units of 2^-24
    const uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    const uint32_t shift = 126 - (magnitude >> 23);
    const uint32_t odd = (mantissa >> shift) & 1;
    half = (mantissa + (1u << (shift - 1)) - 1 + odd) >> shift;
  } else {  // the exponent's bias changes from 127 to 15; rounding up may carry into infinity
    const uint32_t rebiased = magnitude - (112u << 23);
    half = (rebiased + 0xfff + ((rebiased >> 13) & 1)) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

inline float f32_from_f16(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  uint32_t exponent = (half >> 10) & 0x1f;
  uint32_t mantissa = half & 0x3ff;
  if (exponent == 31) {  // infinity, or a NaN, which becomes quiet
    const uint32_t quiet = mantissa != 0 ? 0x400000 : 0;
    return std::bit_cast<float>(sign | 0x7f800000 | quiet | (mantissa << 13));
  }
  if (exponent == 0) {
    if (mantissa == 0) return std::bit_cast<float>(sign);
    exponent = 1;  // denormal: shift the leading one into its place
    while ((mantissa & 0x400) == 0) {
      mantissa <<= 1;
      --exponent;
    }
    mantissa &= 0x3ff;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// The value / 256 of an E4M3 that is no NaN: as an F16 its bits are that.
inline float e4m3_over_256(uint8_t code) {
  return f32_from_f16(static_cast<uint16_t>((code & 0x80) << 8 | (code & 0x7f) << 7));
}
inline bool is_e4m3_nan(uint8_t code) { return (code & 0x7f) == 0x7f; }
inline float f32_from_e4m3(uint8_t code) {
  return is_e4m3_nan(code) ? std::bit_cast<float>(0x7fc00000u) : e4m3_over_256(code) * 256.0f;
}

// 2^(bits - 127), 255: NaN.
inline float f32_from_e8m0(uint8_t bits) {
  const bool special = bits == 0 || bits == 255;  // the denormal 2^-127, and NaN
  return std::bit_cast<float>((uint32_t{bits} << 23) | (special ? 0x400000u : 0u));
}

template <typename T>
inline T read(const std::byte* from, size_t index) {
  T value;
  std::memcpy(&value, from + index * sizeof(T), sizeof(T));
  return value;
}

inline float element(Format format, const std::byte* data, size_t index) {
  switch (format) {
    case Format::f16:
      return f32_from_f16(read<uint16_t>(data, index));
    case Format::bf16:
      return std::bit_cast<float>(static_cast<uint32_t>(read<uint16_t>(data, index)) << 16);
    default:
      return read<float>(data, index);
  }
}

// The weights lie at first, first + stride, ...
inline float dot(Format format, const std::byte* weights, size_t first, const float* x, uint32_t n,
                 size_t stride = 1) {
  Lanes lanes;
  for (uint32_t i = 0; i < n; i += kLanes) {
    for (uint32_t j = 0; j < kLanes; ++j) {
      const float w = i + j < n ? element(format, weights, first + (i + j) * stride) : 0.0f;
      const float value = i + j < n ? x[i + j] : 0.0f;
      lanes.lane[j] = std::fma(w, value, lanes.lane[j]);
    }
  }
  return sum(lanes);
}

}  // namespace
}  // namespace sluice::kernels
