#include "model/block_formats.h"

#include <array>
#include <cmath>
#include <limits>

namespace sluice {

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::array<float, 256> e4m3_values() {
  std::array<float, 256> values{};
  for (uint32_t bits = 0; bits < 256; ++bits) values[bits] = e4m3_value(static_cast<uint8_t>(bits));
  return values;
}

}  // namespace

float e4m3_value(uint8_t bits) {
  const int exponent = bits >> 3 & 15;
  const int mantissa = bits & 7;
  if (exponent == 15 && mantissa == 7) return kNaN;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

float e2m1_value(uint8_t nibble) {
  constexpr float kMagnitudes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  const float magnitude = kMagnitudes[nibble & 7];
  return (nibble & 8) != 0 ? -magnitude : magnitude;
}

float e8m0_value(uint8_t bits) {
  return bits == 255 ? kNaN : std::ldexp(1.0f, static_cast<int>(bits) - 127);
}

void e4m3_to_f32(const std::byte* bytes, size_t n, float* out) {
  static const std::array<float, 256> values = e4m3_values();
  for (size_t i = 0; i < n; ++i) out[i] = values[static_cast<uint8_t>(bytes[i])];
}

void mxfp4_to_f32(const std::byte* blocks, const std::byte* scales, size_t count, float* out) {
  for (size_t block = 0; block < count; ++block) {
    const float scale = e8m0_value(static_cast<uint8_t>(scales[block]));
    for (uint32_t i = 0; i < kMxfp4Block / 2; ++i) {
      const auto pair = static_cast<uint8_t>(*blocks++);
      *out++ = e2m1_value(pair & 15) * scale;
      *out++ = e2m1_value(pair >> 4) * scale;
    }
  }
}

}  // namespace sluice
