// The angles of rotary positions, each kind against its formula in double, written out here for a
// head of eight dimensions (four pairs) or on values worked out by hand.

#include "model/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace sluice {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr double kTolerance = 1e-12;  // relative; double rounds at 1e-16

RopeConfig rope(RopeScaling scaling, uint32_t dimensions = 8) {
  RopeConfig config;
  config.scaling = scaling;
  config.theta = 10000;
  config.dimensions = dimensions;
  config.max_positions = 4096;
  config.original_positions = 1024;
  config.factor = 4;
  return config;
}

void expect_radians(const RopeFrequencies& frequencies, const std::vector<double>& expected) {
  ASSERT_EQ(frequencies.radians.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(frequencies.radians[i], expected[i], kTolerance * expected[i]) << "pair " << i;
  }
}

TEST(Rope, UnstretchedFallsByPowersOfTheta) {
  const RopeFrequencies plain = rope_frequencies(rope(RopeScaling::none), 100);
  expect_radians(plain, {1, 0.1, 0.01, 0.001});
  EXPECT_EQ(plain.amplitude, 1.0);
}

TEST(Rope, LinearDividesEveryFrequency) {
  expect_radians(rope_frequencies(rope(RopeScaling::linear), 100), {0.25, 0.025, 0.0025, 0.00025});
}

TEST(Rope, DynamicRaisesThetaOnceTheContextIsLongerThanTheOriginal) {
  const RopeConfig config = rope(RopeScaling::dynamic);
  expect_radians(rope_frequencies(config, 1024), {1, 0.1, 0.01, 0.001});
  // 4 · 2048 / 1024 - 3 = 5, to the power of 8 / 6.
  const double theta = 10000 * std::pow(5.0, 8.0 / 6);
  expect_radians(rope_frequencies(config, 2048),
                 {1, std::pow(theta, -0.25), std::pow(theta, -0.5), std::pow(theta, -0.75)});
}

TEST(Rope, Llama3KeepsShortWavesStretchesLongOnesAndMixesBetween) {
  RopeConfig config = rope(RopeScaling::llama3);
  config.low_frequency_factor = 1;
  config.high_frequency_factor = 4;
  // Turns within 1024 positions: 163, 16.3, 1.63, 0.163; at most 1: stretched, at least 4: kept.
  const double turns = 1024 * 0.01 / (2 * kPi);
  const double kept = (turns - 1) / 3;
  ASSERT_GT(kept, 0.1);
  ASSERT_LT(kept, 0.9);
  expect_radians(rope_frequencies(config, 100),
                 {1, 0.1, (1 - kept) * 0.01 / 4 + kept * 0.01, 0.001 / 4});
}

// beta 32 and 1 on 1024 positions: pair 8 ln(1024 / (32 · 2π)) / (2 ln 10000) = 0.707 and 2.212.
TEST(Rope, YarnRampsFromKeptToStretched) {
  RopeConfig config = rope(RopeScaling::yarn);
  const double first = 8 * std::log(1024 / (32 * 2 * kPi)) / (2 * std::log(10000.0));
  const double last = 8 * std::log(1024 / (2 * kPi)) / (2 * std::log(10000.0));
  EXPECT_NEAR(first, 0.707, 0.001);
  EXPECT_NEAR(last, 2.212, 0.001);
  const auto ramped = [](double frequency, double stretched) {
    return stretched * frequency / 4 + (1 - stretched) * frequency;
  };
  // Truncated: from pair 0 to pair 3.
  expect_radians(rope_frequencies(config, 100),
                 {1, ramped(0.1, 1.0 / 3), ramped(0.01, 2.0 / 3), ramped(0.001, 1)});
  config.truncate = false;
  expect_radians(rope_frequencies(config, 100),
                 {1, ramped(0.1, (1 - first) / (last - first)),
                  ramped(0.01, (2 - first) / (last - first)), ramped(0.001, 1)});
}

TEST(Rope, YarnsAmplitudeComesFromTheFactorTheMscalesOrTheFile) {
  RopeConfig config = rope(RopeScaling::yarn);
  config.factor = 40;
  EXPECT_NEAR(rope_frequencies(config, 100).amplitude, 0.1 * std::log(40.0) + 1, 1e-12);
  config.mscale = 0.5;
  EXPECT_NEAR(rope_frequencies(config, 100).amplitude, 0.1 * std::log(40.0) + 1, 1e-12);
  config.mscale_all_dimensions = 2;
  EXPECT_NEAR(rope_frequencies(config, 100).amplitude,
              (0.05 * std::log(40.0) + 1) / (0.2 * std::log(40.0) + 1), 1e-12);
  config.attention_factor = 1.25;
  EXPECT_EQ(rope_frequencies(config, 100).amplitude, 1.25);
  config.attention_factor.reset();
  config.factor = 1;
  EXPECT_EQ(rope_frequencies(config, 100).amplitude, 1.0);
}

TEST(Rope, YarnIsFiniteWhereItsRampHasNoLength) {
  RopeConfig config = rope(RopeScaling::yarn, 2);
  config.beta_fast = config.beta_slow = 1;
  config.truncate = false;
  for (const uint64_t original : {uint64_t{1}, uint64_t{6}, uint64_t{1} << 27}) {
    config.original_positions = original;
    for (const double f : rope_frequencies(config, 100).radians) EXPECT_TRUE(std::isfinite(f));
  }
}

TEST(Rope, LongropeDividesByTheFactorsOfTheContextsLength) {
  RopeConfig config = rope(RopeScaling::longrope);
  config.short_factors = {1, 1, 2, 2};
  config.long_factors = {1, 2, 4, 8};
  expect_radians(rope_frequencies(config, 1024), {1, 0.1, 0.005, 0.0005});
  const RopeFrequencies longer = rope_frequencies(config, 1025);
  expect_radians(longer, {1, 0.05, 0.0025, 0.000125});
  EXPECT_NEAR(longer.amplitude, std::sqrt(1 + std::log(4.0) / std::log(1024.0)), 1e-12);
}

TEST(Rope, TablesHoldTheNearestFloatsOfEveryPosition) {
  RopeConfig config = rope(RopeScaling::yarn);
  const RopeFrequencies frequencies = rope_frequencies(config, 1 << 20);
  KvCache kv({.layers = 1, .kv_heads = 1, .head_dim = 8, .context = 1 << 20});
  std::vector<float> cos(12), sin(12);
  Activations activations;
  activations.rope_cos = cos.data();
  activations.rope_sin = sin.data();
  sluice::Run run;
  run.kv = &kv;
  run.activations = &activations;
  run.position = 1'000'000;
  run.tokens = 3;
  prepare_rope(config, run);
  for (size_t t = 0; t < 3; ++t) {
    for (size_t i = 0; i < 4; ++i) {
      const double angle = (1e6 + static_cast<double>(t)) * frequencies.radians[i];
      const double amplitude = 0.1 * std::log(4.0) + 1;
      EXPECT_NEAR(cos[t * 4 + i], amplitude * std::cos(angle), 0x1p-23);
      EXPECT_NEAR(sin[t * 4 + i], amplitude * std::sin(angle), 0x1p-23);
    }
  }
}

}  // namespace
}  // namespace sluice
