#include "stream/look_ahead_trial.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

constexpr uint32_t kTrial = LookAheadTrial::kBlock * LookAheadTrial::kBlocks;

// Tokens with and without look-ahead take these times; returns how many were with.
uint32_t run(LookAheadTrial& trial, uint32_t tokens, double with, double without) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < tokens; ++i) {
    const bool on = trial.on();
    count += on;
    trial.token(on ? with : without, 1);
  }
  return count;
}

TEST(LookAheadTrial, TriesBothWaysHalfOfTheTime) {
  LookAheadTrial trial;
  EXPECT_FALSE(trial.on());
  EXPECT_EQ(run(trial, kTrial, 1, 1), kTrial / 2);
}

TEST(LookAheadTrial, KeepsTheFasterWayUntilTheNextTrial) {
  LookAheadTrial trial;
  run(trial, kTrial, 0.9, 1);
  EXPECT_EQ(run(trial, LookAheadTrial::kKeptTokens, 0.9, 1), LookAheadTrial::kKeptTokens);
  // It stopped paying: the next trial finds out.
  run(trial, kTrial, 1.1, 1);
  EXPECT_EQ(run(trial, LookAheadTrial::kKeptTokens, 1.1, 1), 0u);
}

TEST(LookAheadTrial, StaysOffWithoutAGain) {
  LookAheadTrial trial;
  run(trial, kTrial, 1, 1);
  EXPECT_FALSE(trial.on());
}

TEST(LookAheadTrial, IsNotMisledByASlowDriftOrAFewSlowTokens) {
  LookAheadTrial trial;
  for (uint32_t i = 0; i < kTrial; ++i) {
    const double drift = 1 - 0.005 * i;           // the cache fills
    const double stumble = i % 32 == 8 ? 50 : 0;  // only tokens with look-ahead
    trial.token((trial.on() ? 0.9 : 1) * drift + stumble, 1);
  }
  EXPECT_TRUE(trial.on());
}

TEST(LookAheadTrial, DoesNotTakeAFillingCacheForAGain) {
  LookAheadTrial trial;
  for (uint32_t i = 0; i < kTrial; ++i) trial.token(1 - 0.005 * i, 1);
  EXPECT_FALSE(trial.on());
}

TEST(LookAheadTrial, DoesNotTryWhileNothingIsMissed) {
  LookAheadTrial trial;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(trial.on());
    trial.token(1, 0);
  }
}

}  // namespace
}  // namespace sluice
