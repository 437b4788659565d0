// Convolutions and recurrences of the scalar table: the loops that kernels.h states, as they are.
#pragma once

#include <cmath>
#include <cstddef>

#include "kernels/scalar_exp.h"

namespace sluice::kernels {
namespace {

inline void convolve(const ConvolutionTask& task) {
  const size_t kept = task.kernel - 1;
  for (uint32_t c = 0; c < task.channels; ++c) {
    // Row r of the inputs, counted from the oldest of the history.
    const auto input = [&](size_t r) {
      return r < kept ? task.history[r * task.stride + c] : task.x[(r - kept) * task.x_stride + c];
    };
    for (size_t t = 0; t < task.tokens; ++t) {
      float total = task.bias != nullptr ? task.bias[c] : 0.0f;
      for (size_t j = 0; j < task.kernel; ++j) {
        total = std::fma(task.weights[j * task.stride + c], input(t + j), total);
      }
      task.y[t * task.y_stride + c] = total / (1.0f + exp_f32(-total));
    }
    for (size_t r = 0; r < kept; ++r) task.history[r * task.stride + c] = input(task.tokens + r);
  }
}

// Σ_i terms[i] S_i of one value's column.
inline float sum_column(const RecurrentStep& step, const float* terms, const float* column) {
  float sums[4] = {};
  for (size_t i = 0; i < step.key_dim; ++i) {
    sums[i % 4] = std::fma(terms[i], column[i * 16], sums[i % 4]);
  }
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

template <bool kDelta>
inline void recurrent_step(const RecurrentStep& step) {
  for (size_t v = 0; v < step.value_dim; ++v) {
    float* column = step.state + v / 16 * 16 * step.key_dim + v % 16;
    float change = step.value[v];
    if (kDelta) change = change - step.decay * sum_column(step, step.key, column);
    change = step.rate * change;
    for (size_t i = 0; i < step.key_dim; ++i) {
      column[i * 16] = std::fma(step.key[i], change, step.decay * column[i * 16]);
    }
    step.out[v] = sum_column(step, step.query, column);
  }
}

inline void add_step(const RecurrentStep& step) { recurrent_step<false>(step); }
inline void delta_step(const RecurrentStep& step) { recurrent_step<true>(step); }

}  // namespace
}  // namespace sluice::kernels
