#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sluice {

namespace {

constexpr double kTurn = 2 * std::numbers::pi;

std::vector<double> plain(double theta, uint32_t dimensions) {
  std::vector<double> radians(dimensions / 2);
  for (uint32_t i = 0; i < radians.size(); ++i) {
    radians[i] = std::pow(theta, -2.0 * i / dimensions);
  }
  return radians;
}

double dynamic_theta(const RopeConfig& rope, uint64_t context) {
  const double length = static_cast<double>(context) / static_cast<double>(rope.original_positions);
  if (length <= 1 || rope.dimensions <= 2) return rope.theta;
  const double exponent = rope.dimensions / (rope.dimensions - 2.0);
  return rope.theta * std::pow(rope.factor * length - (rope.factor - 1), exponent);
}

void stretch_llama3(const RopeConfig& rope, std::vector<double>& radians) {
  const double low = rope.low_frequency_factor;
  const double high = rope.high_frequency_factor;
  for (double& f : radians) {
    const double turns = static_cast<double>(rope.original_positions) * f / kTurn;
    const double kept = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    f = (1 - kept) * f / rope.factor + kept * f;
  }
}

// The pair, counted in dimensions, that turns so often within the original positions.
double yarn_dimension(const RopeConfig& rope, double turns) {
  return rope.dimensions *
         std::log(static_cast<double>(rope.original_positions) / (turns * kTurn)) /
         (2 * std::log(rope.theta));
}

void stretch_yarn(const RopeConfig& rope, std::vector<double>& radians) {
  double first = yarn_dimension(rope, rope.beta_fast);
  double last = yarn_dimension(rope, rope.beta_slow);
  if (rope.truncate) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, rope.dimensions - 1.0);
  if (first == last) last += 0.001;  // a step instead of a ramp
  for (size_t i = 0; i < radians.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
    radians[i] = ramp * radians[i] / rope.factor + (1 - ramp) * radians[i];
  }
}

double yarn_scale(const RopeConfig& rope, double mscale) {
  return rope.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1;
}

double yarn_amplitude(const RopeConfig& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.mscale > 0 && rope.mscale_all_dimensions > 0) {
    return yarn_scale(rope, rope.mscale) / yarn_scale(rope, rope.mscale_all_dimensions);
  }
  return yarn_scale(rope, 1);
}

double longrope_amplitude(const RopeConfig& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.factor <= 1 || rope.original_positions <= 1) return 1;
  return std::sqrt(1 +
                   std::log(rope.factor) / std::log(static_cast<double>(rope.original_positions)));
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeConfig& rope, uint64_t context) {
  RopeFrequencies result;
  const bool dynamic = rope.scaling == RopeScaling::dynamic;
  result.radians = plain(dynamic ? dynamic_theta(rope, context) : rope.theta, rope.dimensions);
  switch (rope.scaling) {
    case RopeScaling::none:
    case RopeScaling::dynamic:
      break;
    case RopeScaling::linear:
      for (double& f : result.radians) f /= rope.factor;
      break;
    case RopeScaling::llama3:
      stretch_llama3(rope, result.radians);
      break;
    case RopeScaling::yarn:
      stretch_yarn(rope, result.radians);
      result.amplitude = yarn_amplitude(rope);
      break;
    case RopeScaling::longrope: {
      const auto& factors =
          context > rope.original_positions ? rope.long_factors : rope.short_factors;
      for (size_t i = 0; i < result.radians.size(); ++i) result.radians[i] /= factors[i];
      result.amplitude = longrope_amplitude(rope);
      break;
    }
  }
  return result;
}

double yarn_score_factor(const RopeConfig& rope) {
  if (rope.scaling != RopeScaling::yarn) return 1;
  const double scale = yarn_scale(rope, rope.mscale_all_dimensions);
  return scale * scale;
}

void prepare_rope(const RopeConfig& rope, Run& run) {
  const RopeFrequencies frequencies = rope_frequencies(rope, run.kv->shape().context);
  const size_t half = frequencies.radians.size();
  for (uint32_t t = 0; t < run.tokens; ++t) {
    const auto position = static_cast<double>(run.position + t);
    for (size_t i = 0; i < half; ++i) {
      const double angle = position * frequencies.radians[i];
      run.activations->rope_cos[t * half + i] =
          static_cast<float>(frequencies.amplitude * std::cos(angle));
      run.activations->rope_sin[t * half + i] =
          static_cast<float>(frequencies.amplitude * std::sin(angle));
    }
  }
}

}  // namespace sluice
