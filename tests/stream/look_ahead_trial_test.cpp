#include "stream/look_ahead_trial.h"

#include <gtest/gtest.h>

#include <array>
#include <map>

namespace sluice {
namespace {

constexpr uint32_t kExperts = 6;
constexpr uint32_t kTrial = LookAheadTrial::kBlock * LookAheadTrial::kBlocks;

// What a token takes without look-ahead, with half of its experts, with all.
struct Times {
  double none = 1, half = 1, all = 1;
  double of(uint32_t experts) const {
    return experts == 0 ? none : experts == kExperts ? all : half;
  }
};

// Returns how many tokens looked ahead for how many experts.
std::map<uint32_t, uint32_t> run(LookAheadTrial& trial, uint32_t tokens, const Times& times) {
  std::map<uint32_t, uint32_t> counts;
  for (uint32_t i = 0; i < tokens; ++i) {
    const uint32_t experts = trial.experts();
    ++counts[experts];
    trial.token(times.of(experts), 1);
  }
  return counts;
}

TEST(LookAheadTrial, TriesAllWaysAlike) {
  LookAheadTrial trial(kExperts);
  EXPECT_EQ(trial.experts(), 0u);
  const std::map<uint32_t, uint32_t> alike = {
      {0, kTrial / 3}, {kExperts / 2, kTrial / 3}, {kExperts, kTrial / 3}};
  EXPECT_EQ(run(trial, kTrial, {}), alike);
}

TEST(LookAheadTrial, HalfOfAnOddNumberIsTheLargerHalf) {
  LookAheadTrial trial(5);
  const Times times{.none = 1, .half = 0.9, .all = 0.95};
  run(trial, kTrial, times);
  EXPECT_EQ(trial.experts(), 3u);
}

TEST(LookAheadTrial, KeepsTheFastestWayUntilTheNextTrial) {
  LookAheadTrial trial(kExperts);
  const auto kept = [&](const Times& times) {
    run(trial, kTrial, times);
    return run(trial, LookAheadTrial::kKeptTokens, times);
  };
  using Counts = std::map<uint32_t, uint32_t>;
  const uint32_t all_tokens = LookAheadTrial::kKeptTokens;
  EXPECT_EQ(kept({.none = 1, .half = 0.9, .all = 0.8}), (Counts{{kExperts, all_tokens}}));
  // The lower ranks stopped paying: the next trial finds out.
  EXPECT_EQ(kept({.none = 1, .half = 0.9, .all = 0.95}), (Counts{{kExperts / 2, all_tokens}}));
  EXPECT_EQ(kept({.none = 1, .half = 1.1, .all = 1.2}), (Counts{{0, all_tokens}}));
}

TEST(LookAheadTrial, DoesNoMoreThanWhatGains) {
  LookAheadTrial trial(kExperts);
  run(trial, kTrial, {});
  EXPECT_EQ(trial.experts(), 0u);
  LookAheadTrial half(kExperts);
  run(half, kTrial, {.none = 1, .half = 0.9, .all = 0.899});
  EXPECT_EQ(half.experts(), kExperts / 2);
}

TEST(LookAheadTrial, IsNotMisledByASlowDriftOrAFewSlowTokens) {
  const Times times{.none = 1, .half = 0.95, .all = 0.9};
  LookAheadTrial trial(kExperts);
  for (uint32_t i = 0; i < kTrial; ++i) {
    const double drift = 1 - 0.005 * i;            // the cache fills
    const double stumble = i % 24 == 16 ? 50 : 0;  // only tokens with look-ahead for all
    trial.token(times.of(trial.experts()) * drift + stumble, 1);
  }
  EXPECT_EQ(trial.experts(), kExperts);
}

TEST(LookAheadTrial, DoesNotTakeAFillingCacheForAGain) {
  LookAheadTrial trial(kExperts);
  for (uint32_t i = 0; i < kTrial; ++i) trial.token(1 - 0.005 * i, 1);
  EXPECT_EQ(trial.experts(), 0u);
}

TEST(LookAheadTrial, DoesNotTryWhileNothingIsMissed) {
  LookAheadTrial trial(kExperts);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(trial.experts(), 0u);
    trial.token(1, 0);
  }
}

}  // namespace
}  // namespace sluice
