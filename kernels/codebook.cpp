// Codebooks of TurboQuant matrices, words per row and the integers that lose least; and MXFP4's.
#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

#include "kernels/kernels.h"

namespace sluice::kernels {
namespace {

constexpr int kLargest = 255;  // of |quantized|: its byte is at most (255 + 255) / 2

enum class Parity { even, odd };

// One way to round the centroids, and the step that suits it best.
struct Rounding {
  int quantized[16] = {};
  double step = 0;
  double error = 0;
};

// The nearest integer of that parity, at most kLargest in magnitude.
int round_to(Parity parity, double value) {
  const int nearest = parity == Parity::even ? 2 * static_cast<int>(std::lround(value / 2))
                                             : 2 * static_cast<int>(std::floor(value / 2)) + 1;
  const int largest = parity == Parity::even ? kLargest - 1 : kLargest;
  return std::clamp(nearest, -largest, largest);
}

// Rounds every centroid at `trial_step`, then fits the step to those integers by weighted least
// squares.
Rounding fit(const float* values, const double* weights, uint32_t length, Parity parity,
             double trial_step) {
  Rounding result;
  double product = 0, square = 0;
  for (uint32_t i = 0; i < length; ++i) {
    const double value = values[i];
    result.quantized[i] = round_to(parity, value / trial_step);
    product += weights[i] * result.quantized[i] * value;
    square += weights[i] * result.quantized[i] * result.quantized[i];
  }
  result.step = product > 0 ? product / square : trial_step;
  for (uint32_t i = 0; i < length; ++i) {
    const double difference = result.quantized[i] * result.step - static_cast<double>(values[i]);
    result.error += weights[i] * difference * difference;
  }
  return result;
}

// The best rounding of one parity. The rounding of a centroid v changes exactly where v / step
// passes a number of the other parity. Between two neighbouring such steps nothing changes, so one
// trial in each interval meets every rounding there is.
Rounding best_rounding(const float* values, const double* weights, uint32_t length, Parity parity,
                       double largest) {
  const double smallest_step = largest / (kLargest + 1);
  std::array<double, size_t{16} * (kLargest + 1)> edges;
  size_t edge_count = 0;
  edges[edge_count++] = smallest_step;
  for (uint32_t i = 0; i < length; ++i) {
    for (int k = parity == Parity::even ? 1 : 2; k <= kLargest; k += 2) {
      const double edge = std::abs(static_cast<double>(values[i])) / k;
      if (edge > smallest_step) edges[edge_count++] = edge;
    }
  }
  std::sort(edges.begin(), edges.begin() + edge_count);
  Rounding best = fit(values, weights, length, parity, largest / (kLargest - 1));
  for (size_t i = 0; i + 1 < edge_count; ++i) {
    const Rounding trial = fit(values, weights, length, parity, 0.5 * (edges[i] + edges[i + 1]));
    if (trial.error < best.error) best = trial;
  }
  return best;
}

}  // namespace

uint32_t row_words(uint32_t cols, uint32_t codebook_length) {
  const auto words = [cols](uint32_t per_word) {
    return cols / per_word + (cols % per_word != 0 ? 1 : 0);
  };
  switch (codebook_length) {
    case 3:
      return words(20);
    case 4:
      return words(16);
    case 8:
      return words(10);
    case 16:
      return words(8);
    default:
      assert(codebook_length == 256);
      return words(4);
  }
}

const Codebook& mxfp4_codebook() {
  static constexpr Codebook kCodebook = [] {
    constexpr float kMagnitudes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    Codebook codebook{};
    codebook.length = 16;
    codebook.step = 0.25f;  // halves would do, but not as numbers that are all even or all odd
    for (uint32_t i = 0; i < 8; ++i) {
      codebook.values[i] = kMagnitudes[i];
      codebook.values[i + 8] = -kMagnitudes[i];
      codebook.quantized[i] = static_cast<int16_t>(4 * kMagnitudes[i]);
      codebook.quantized[i + 8] = static_cast<int16_t>(-codebook.quantized[i]);
    }
    return codebook;
  }();
  return kCodebook;
}

bool is_uniform(const float* values, uint32_t length) {
  if (length != 256) return false;
  const float step = values[128];
  if (!(step > 0)) return false;
  for (int i = 0; i < 256; ++i) {
    const float expected = static_cast<float>(2 * i - 255) * step;
    if (!std::isfinite(values[i]) || values[i] != expected) return false;
  }
  return true;
}

Codebook make_codebook(const float* values, uint32_t length) {
  Codebook codebook{};
  codebook.length = length;
  if (length == 256) {
    assert(is_uniform(values, length));
    codebook.step = values[128];
    for (uint32_t i = 0; i < 16; ++i) {
      codebook.values[i] = values[i];
      codebook.quantized[i] = static_cast<int16_t>(2 * static_cast<int>(i) - 255);
    }
    return codebook;
  }
  assert(length == 3 || length == 4 || length == 8 || length == 16);
  std::copy_n(values, length, codebook.values);

  double largest = 0;
  double weights[16] = {};
  for (uint32_t i = 0; i < length; ++i) {
    const double value = values[i];
    largest = std::max(largest, std::abs(value));
    // The floor keeps a codebook far outside the Gaussian from weighing nothing at all.
    weights[i] = std::max(std::exp(-0.5 * value * value), 1e-100);
  }
  assert(largest > 0);

  const Rounding even = best_rounding(values, weights, length, Parity::even, largest);
  const Rounding odd = best_rounding(values, weights, length, Parity::odd, largest);
  const Rounding& best = odd.error < even.error ? odd : even;
  codebook.step = static_cast<float>(best.step);
  for (uint32_t i = 0; i < length; ++i) {
    codebook.quantized[i] = static_cast<int16_t>(best.quantized[i]);
  }
  return codebook;
}

}  // namespace sluice::kernels
