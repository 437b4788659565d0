// What is said of a round, against sums done by hand.
#include "bench/replay_figures.h"

#include <gtest/gtest.h>

namespace sluice::bench {
namespace {

// Two tokens of two layers; an expert of 1 MB, a miss of 2 MB, 2 MB of stand-ins a layer.
constexpr Weights kWeights{.expert_bytes = 1e6, .miss_bytes = 2e6, .trunk_bytes = 2e6};
constexpr Ceilings kCeilings{.disk = 1, .memory = 10};

Round plain_round() {
  Round round{.looks_ahead = false,
              .seconds = 0.02,
              .tokens = 2,
              .steps = 4,
              .experts = 32,
              .stream = {},
              .misses = {4, 0, 0, 0}};
  round.stream.cache.hits = 28;
  round.stream.cache.misses = 4;
  round.stream.reads.bytes_demanded = 8'000'000;
  return round;
}

Round plain_with(const std::vector<uint32_t>& misses) {
  Round round = plain_round();
  round.misses = misses;
  return round;
}

TEST(ReplayFigures, WithoutLookAhead) {
  Series series;
  add_figures(plain_round(), plain_round(), kCeilings, kWeights, series);
  const auto only = [&](const char* name) { return series.at(name).at(0); };
  EXPECT_DOUBLE_EQ(only("tokens_per_second"), 100);
  EXPECT_DOUBLE_EQ(only("hit_rate"), 28.0 / 32);
  EXPECT_DOUBLE_EQ(only("ahead_rate"), 0);
  EXPECT_DOUBLE_EQ(only("disk_gb_per_second"), 0.4);
  EXPECT_DOUBLE_EQ(only("memory_gb_per_second"), 2);       // 40 MB
  EXPECT_DOUBLE_EQ(only("io_floor_ms_per_token"), 4);      // 8 ms
  EXPECT_DOUBLE_EQ(only("memory_floor_ms_per_token"), 2);  // 4 ms
  EXPECT_DOUBLE_EQ(only("time_over_floors"), 20.0 / 8);
  EXPECT_DOUBLE_EQ(only("time_over_pipeline"), 20.0 / (8 + 1 + 1 + 1));
  EXPECT_DOUBLE_EQ(only("time_over_own_reads"), 20.0 / 8);
  EXPECT_DOUBLE_EQ(only("time_over_plain"), 1);
}

TEST(ReplayFigures, WithLookAheadTheFloorStaysThatOfTheMisses) {
  Round ahead = plain_round();
  ahead.seconds = 0.01;
  ahead.misses = {1, 0, 0, 0};
  ahead.stream.cache = {
      .hits = 30, .in_flight_hits = 1, .misses = 1, .speculative_loads = 4, .speculative_used = 3};
  ahead.stream.reads.bytes_demanded = 2'000'000;
  ahead.stream.reads.bytes_speculated = 8'000'000;
  Series series;
  add_figures(ahead, plain_round(), kCeilings, kWeights, series);
  const auto only = [&](const char* name) { return series.at(name).at(0); };
  EXPECT_DOUBLE_EQ(only("hit_rate"), 28.0 / 32);  // what was read ahead is no hit
  EXPECT_DOUBLE_EQ(only("ahead_rate"), 3.0 / 32);
  EXPECT_DOUBLE_EQ(only("ahead_used"), 0.75);
  EXPECT_DOUBLE_EQ(only("time_over_floors"), 10.0 / 8);
  EXPECT_DOUBLE_EQ(only("time_over_demanded"), 10.0 / 4);  // the memory's floor is the larger
  EXPECT_DOUBLE_EQ(only("time_over_own_reads"), 1);
  EXPECT_DOUBLE_EQ(only("time_over_plain"), 0.5);
}

TEST(ReplayFigures, NothingMissedNeedsNoDisk) {
  Round round = plain_round();
  round.misses = {0, 0, 0, 0};
  round.stream.reads.bytes_demanded = 0;
  Series series;
  add_figures(round, round, {.disk = 0, .memory = 10}, kWeights, series);
  EXPECT_DOUBLE_EQ(series.at("time_over_floors").at(0), 20.0 / 4);
  EXPECT_DOUBLE_EQ(series.at("time_over_pipeline").at(0), 20.0 / 4);
}

// Layers of 1 ms; a miss takes 2 ms. Without look-ahead they wait for all of it, with it for what
// the layer before did not hide: 1 ms of the first miss, and of the two that follow it nothing more
// than the disk's own time.
TEST(ReplayFigures, LookAheadHidesWhatTheLayerBeforeLasts) {
  Round round = plain_round();
  round.misses = {0, 1, 2, 0};
  const auto pipeline_ms = [&](bool looks_ahead) {
    round.looks_ahead = looks_ahead;
    Series series;
    add_figures(round, plain_with(round.misses), kCeilings, kWeights, series);
    return 20.0 / series.at("time_over_pipeline").at(0);
  };
  EXPECT_DOUBLE_EQ(pipeline_ms(false), 1 + 2 + 4 + 1);
  EXPECT_DOUBLE_EQ(pipeline_ms(true), 2 + 4 + 1);
}

}  // namespace
}  // namespace sluice::bench
