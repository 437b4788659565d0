// Element by element over Lanes: norm, rope, softmax, sigmoid, swiglu, sums, quantizing.
#pragma once

#include "kernels/lanes.h"

namespace sluice::kernels {
namespace {

// The last two halvings of a sum.
inline float sum(Lanes a) {
  const __m128 four = quarter(a);
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// Calls block(i, get, put) for every 16 of n elements from i on; get and put load and store Lanes,
// only the first lanes where fewer are left.
template <typename Block>
inline void for_each_block(size_t n, Block block) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    block(
        i, [](const float* from) { return load(from); }, [](float* to, Lanes a) { store(to, a); });
  }
  if (const size_t rest = n - i; rest > 0) {
    block(
        i, [rest](const float* from) { return load_first(from, rest); },
        [rest](float* to, Lanes a) { store_first(to, a, rest); });
  }
}

// exp_f32 of scalar.cpp, step by step.
inline Lanes exp_lanes(Lanes x) {
  x = minimum(splat(kExpHighest), maximum(splat(kExpLowest), x));
  const Lanes shifted = fma(x, splat(kExpLog2E), splat(kExpShift));
  const Lanes n = shifted - splat(kExpShift);
  Lanes r = fma(n, splat(-kExpLn2High), x);
  r = fma(n, splat(-kExpLn2Low), r);
  Lanes p = splat(kExpTaylor[0]);
  for (int i = 1; i < 8; ++i) p = fma(p, r, splat(kExpTaylor[i]));
  const auto power_of_two = [](Integers e) {
    return from_bits(shift_left<23>(e + splat_integer(127)));
  };
  const Integers exponent = bits_of(shifted) - bits_of(splat(kExpShift));
  const Integers half = shift_right_signed<1>(exponent);
  return p * power_of_two(half) * power_of_two(exponent - half);
}

inline void rms_norm(const float* x, const float* weight, uint32_t n, float epsilon, float* y) {
  Lanes squares = splat(0);
  for_each_block(n, [&](size_t i, auto get, auto) {
    const Lanes a = get(x + i);
    squares = squares + a * a;
  });
  const __m128 mean = _mm_set_ss(sum(squares) / static_cast<float>(n) + epsilon);
  const Lanes inverse = splat(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(mean)));
  for_each_block(
      n, [&](size_t i, auto get, auto put) { put(y + i, get(x + i) * inverse * get(weight + i)); });
}

inline void rope_halves(float* x, uint32_t heads, uint32_t head_dim, uint32_t dim, const float* cos,
                        const float* sin) {
  for (uint32_t head = 0; head < heads; ++head) {
    float* first = x + size_t{head} * head_dim;
    float* second = first + dim / 2;
    for_each_block(dim / 2, [&](size_t i, auto get, auto put) {
      const Lanes a = get(first + i), b = get(second + i), c = get(cos + i), s = get(sin + i);
      put(first + i, fma(a, c, -(b * s)));
      put(second + i, fma(b, c, a * s));
    });
  }
}

// Neighbours are taken apart into two small arrays and put together again around the same lanes.
inline void rope_pairs(float* x, uint32_t heads, uint32_t head_dim, uint32_t dim, const float* cos,
                       const float* sin) {
  for (uint32_t head = 0; head < heads; ++head) {
    float* pairs = x + size_t{head} * head_dim;
    for_each_block(dim / 2, [&](size_t i, auto get, auto put) {
      const size_t count = dim / 2 - i < kLanes ? dim / 2 - i : kLanes;
      float first[kLanes], second[kLanes];
      for (size_t j = 0; j < count; ++j) {
        first[j] = pairs[2 * (i + j)];
        second[j] = pairs[2 * (i + j) + 1];
      }
      const Lanes a = get(first), b = get(second), c = get(cos + i), s = get(sin + i);
      put(first, fma(a, c, -(b * s)));
      put(second, fma(b, c, a * s));
      for (size_t j = 0; j < count; ++j) {
        pairs[2 * (i + j)] = first[j];
        pairs[2 * (i + j) + 1] = second[j];
      }
    });
  }
}

inline float first_lane(Lanes a) {
  float lanes[kLanes];
  store(lanes, a);
  return lanes[0];
}

// sink: one more term of the sum, of which nothing comes out; null: none.
inline void softmax_beside(const float* sink, float* x, uint32_t n) {
  const size_t whole = n - n % kLanes;
  Lanes largest_so_far = splat(x[0]);
  for (size_t i = 0; i < whole; i += kLanes) largest_so_far = maximum(load(x + i), largest_so_far);
  float largest = largest_lane(largest_so_far);
  for (size_t i = whole; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  if (sink != nullptr && *sink > largest) largest = *sink;
  Lanes total = splat(0);
  for_each_block(n, [&](size_t i, auto get, auto put) {
    put(x + i, exp_lanes(get(x + i) - splat(largest)));
    total = total + get(x + i);  // loaded again, because lanes behind the end must add 0
  });
  float terms = sum(total);
  if (sink != nullptr) terms += first_lane(exp_lanes(splat(*sink - largest)));
  const Lanes divisor = splat(terms);
  for_each_block(n, [&](size_t i, auto get, auto put) { put(x + i, get(x + i) / divisor); });
}

inline void softmax(float* x, uint32_t n) { softmax_beside(nullptr, x, n); }

inline void sigmoid(float* x, uint32_t n) {
  for_each_block(n, [&](size_t i, auto get, auto put) {
    put(x + i, splat(1) / (splat(1) + exp_lanes(-get(x + i))));
  });
}

inline void swiglu(const float* gate, const float* up, uint32_t n, float* out) {
  for_each_block(n, [&](size_t i, auto get, auto put) {
    const Lanes g = get(gate + i);
    put(out + i, g / (splat(1) + exp_lanes(-g)) * get(up + i));
  });
}

// Loads the first count ≤ 16 floats, and zeros behind them.
inline Lanes load_at_most(const float* from, size_t count) {
  return count == kLanes ? load(from) : load_first(from, count);
}

inline void swiglu_clamped(const float* pairs, uint32_t n, float limit, float alpha, float* out) {
  for_each_block(n, [&](size_t i, auto, auto put) {
    const size_t count = 2 * (n - i < kLanes ? n - i : kLanes);
    const size_t low = count < kLanes ? count : kLanes;
    const Lanes a = load_at_most(pairs + 2 * i, low);
    const Lanes b = count > low ? load_at_most(pairs + 2 * i + low, count - low) : splat(0);
    const Lanes gate = minimum(splat(limit), firsts_of_pairs(a, b));
    const Lanes up = maximum(splat(-limit), minimum(splat(limit), seconds_of_pairs(a, b)));
    put(out + i, gate / (splat(1) + exp_lanes(-(splat(alpha) * gate))) * (up + splat(1)));
  });
}

inline void relu_squared(float* x, uint32_t n) {
  for_each_block(n, [&](size_t i, auto get, auto put) {
    const Lanes positive = maximum(splat(0), get(x + i));
    put(x + i, positive * positive);
  });
}

inline void add(const float* x, uint32_t n, float* y) {
  for_each_block(n, [&](size_t i, auto get, auto put) { put(y + i, get(y + i) + get(x + i)); });
}

inline void add_scaled(float factor, const float* x, uint32_t n, float* y) {
  for_each_block(n, [&](size_t i, auto get, auto put) {
    put(y + i, fma(splat(factor), get(x + i), get(y + i)));
  });
}

}  // namespace
}  // namespace sluice::kernels
