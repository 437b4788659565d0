// Convolutions and recurrences over Lanes: 16 channels, or 16 values of a head's state, at once.
#pragma once

#include "kernels/lanes.h"
#include "kernels/lanes_elementwise.h"

namespace sluice::kernels {
namespace {

inline void convolve(const ConvolutionTask& task) {
  const size_t kept = task.kernel - 1;
  for_each_block(task.channels, [&](size_t c, auto get, auto put) {
    // Row r of the inputs, counted from the oldest of the history.
    const auto input = [&](size_t r) {
      return get(r < kept ? task.history + r * task.stride + c
                          : task.x + (r - kept) * task.x_stride + c);
    };
    for (size_t t = 0; t < task.tokens; ++t) {
      Lanes total = task.bias != nullptr ? get(task.bias + c) : splat(0);
      for (size_t j = 0; j < task.kernel; ++j) {
        total = fma(get(task.weights + j * task.stride + c), input(t + j), total);
      }
      put(task.y + t * task.y_stride + c, total / (splat(1) + exp_lanes(-total)));
    }
    for (size_t r = 0; r < kept; ++r) {
      put(task.history + r * task.stride + c, input(task.tokens + r));
    }
  });
}

// Calls body(i, phase) for i in [0, n) ascending, phase = i mod 4 being a constant each time.
template <typename Body>
inline void for_each_phase(size_t n, Body body) {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    body(i, 0);
    body(i + 1, 1);
    body(i + 2, 2);
    body(i + 3, 3);
  }
  if (i < n) body(i, 0);
  if (i + 1 < n) body(i + 1, 1);
  if (i + 2 < n) body(i + 2, 2);
}

template <bool kDelta>
inline void recurrent_step(const RecurrentStep& step) {
  const Lanes decay = splat(step.decay);
  for_each_block(step.value_dim, [&](size_t v, auto get, auto put) {
    float* rows = step.state + v * step.key_dim;  // [key_dim, 16]
    Lanes change = get(step.value + v);
    if constexpr (kDelta) {
      Lanes seen[4] = {splat(0), splat(0), splat(0), splat(0)};
      for_each_phase(step.key_dim, [&](size_t i, int phase) {
        seen[phase] = fma(splat(step.key[i]), get(rows + i * kLanes), seen[phase]);
      });
      change = change - decay * ((seen[0] + seen[2]) + (seen[1] + seen[3]));
    }
    change = splat(step.rate) * change;
    Lanes out[4] = {splat(0), splat(0), splat(0), splat(0)};
    for_each_phase(step.key_dim, [&](size_t i, int phase) {
      const Lanes row = fma(splat(step.key[i]), change, decay * get(rows + i * kLanes));
      put(rows + i * kLanes, row);
      out[phase] = fma(splat(step.query[i]), row, out[phase]);
    });
    put(step.out + v, (out[0] + out[2]) + (out[1] + out[3]));
  });
}

inline void add_step(const RecurrentStep& step) { recurrent_step<false>(step); }
inline void delta_step(const RecurrentStep& step) { recurrent_step<true>(step); }

}  // namespace
}  // namespace sluice::kernels
