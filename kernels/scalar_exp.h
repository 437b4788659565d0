// e^x of the scalar table, which every other table repeats step by step.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/kernels.h"

namespace sluice::kernels {
namespace {

// e^x within one unit in the last place or so: 2^n * e^r with |r| ≤ ln 2 / 2, e^r by its Taylor
// series up to r^7 (the rest is below 6e-9 of it). The bounds of x are where float32 has become 0
// and infinity; NaN stays NaN. The power of two is applied in two halves, both normal numbers, so
// that only the second multiplication can round: results below the normal range are right as well.
inline float exp_f32(float x) {
  x = x < kExpLowest ? kExpLowest : x;
  x = x > kExpHighest ? kExpHighest : x;
  const float shifted = std::fma(x, kExpLog2E, kExpShift);
  const float n = shifted - kExpShift;
  float r = std::fma(n, -kExpLn2High, x);
  r = std::fma(n, -kExpLn2Low, r);
  float p = kExpTaylor[0];
  for (int i = 1; i < 8; ++i) p = std::fma(p, r, kExpTaylor[i]);
  const int32_t exponent =
      static_cast<int32_t>(std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kExpShift));
  const int32_t half = exponent >> 1;
  const auto power_of_two = [](int32_t e) {
    return std::bit_cast<float>((static_cast<uint32_t>(e) + 127) << 23);
  };
  return p * power_of_two(half) * power_of_two(exponent - half);
}

}  // namespace
}  // namespace sluice::kernels
