// The randomized Hadamard transform over Lanes.
#pragma once

#include "kernels/lanes.h"
#include "kernels/lanes_elementwise.h"

namespace sluice::kernels {
namespace {

// Signs and the stages h = 1, 2, 4, 8, which stay within a register. Parts divide n, so where lanes
// are missing at its end both partners of a missing lane's pair are.
inline void rotate_within(uint32_t n, uint32_t part, const float* signs, const float* x, float* y) {
  for_each_block(n, [&](size_t i, auto get, auto put) {
    Lanes a = get(x + i) * get(signs + i);
    if (part >= 2) a = butterfly<1>(a);
    if (part >= 4) a = butterfly<2>(a);
    if (part >= 8) a = butterfly<4>(a);
    if (part >= 16) a = butterfly<8>(a);
    put(y + i, a);
  });
}

// H_m across the m parts of one run, and the factor. The signs enter as factors of ±1 of an fma,
// which rounds like the addition or subtraction that they stand for.
inline void rotate_across(const Rotation& rotation, const float* table, float* run) {
  const uint32_t m = rotation.m;
  const size_t part = rotation.run / m;
  const Lanes factor = splat(rotation.factor);
  for_each_block(part, [&](size_t i, auto get, auto put) {
    Lanes column[28];
    for (uint32_t k = 0; k < m; ++k) column[k] = get(run + k * part + i);
    for (uint32_t j = 0; j < m; ++j) {
      Lanes total = column[0] * splat(table[size_t{j} * m]);
      for (uint32_t k = 1; k < m; ++k) total = fma(column[k], splat(table[j * m + k]), total);
      put(run + j * part + i, total * factor);
    }
  });
}

inline void rotate(const Rotation& rotation, const float* signs, const float* x, float* y) {
  const uint32_t n = rotation.n;
  const uint32_t part = rotation.run / rotation.m;
  rotate_within(n, part, signs, x, y);
  for (size_t h = kLanes; h < part; h *= 2) {
    for (size_t base = 0; base < n; base += 2 * h) {
      for (size_t i = base; i < base + h; i += kLanes) {
        const Lanes a = load(y + i), b = load(y + i + h);
        store(y + i, a + b);
        store(y + i + h, a - b);
      }
    }
  }
  if (rotation.m > 1) {
    float table[28 * 28];
    for (uint32_t i = 0; i < rotation.m * rotation.m; ++i) table[i] = rotation.table[i];
    for (size_t run = 0; run < n; run += rotation.run) rotate_across(rotation, table, y + run);
  } else {
    const Lanes factor = splat(rotation.factor);
    for_each_block(n, [&](size_t i, auto get, auto put) { put(y + i, get(y + i) * factor); });
  }
}

}  // namespace
}  // namespace sluice::kernels
