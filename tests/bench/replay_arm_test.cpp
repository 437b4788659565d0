// The replay's arms: the same sums whatever the cache, and the misses that a replay of the trace
// alone counts.
#include "bench/replay_arm.h"

#include <gtest/gtest.h>

#include <numeric>

#include "bench/bench_file.h"
#include "bench/routing_generator.h"
#include "bench/synthetic_records.h"
#include "stream/cache_replay.h"

namespace sluice::bench {
namespace {

constexpr RecordsShape kShape{.layers = 3,
                              .experts = 12,
                              .experts_per_token = 3,
                              .hidden = 128,
                              .intermediate = 64,
                              .group = 32};
constexpr uint32_t kTokens = 40;

class ReplayArmTest : public testing::Test {
 protected:
  ReplayArmTest() { write_synthetic_records(directory_.path(), kShape); }

  ReplayWork work(const ExpertLayers& layers) const {
    return {trace_, predict_routing(trace_, kShape.experts, 0.8, 2), layers};
  }

  BenchDirectory directory_{testing::TempDir()};
  Trace trace_ = generate_routing({kShape.layers, kShape.experts, kShape.experts_per_token},
                                  {.skew = 1, .reuse = 0.5, .memory = 4}, kTokens, 1);
};

TEST_F(ReplayArmTest, SumsAreTheSameWhateverTheCacheTheThreadsAndTheLookAhead) {
  ExpertLayers one(directory_.path(), {.threads = 1, .trunk_bytes = 10000});
  ExpertLayers two(directory_.path(), {.threads = 2, .trunk_bytes = 0});
  const ReplayWork work_of_one = work(one), work_of_two = work(two);
  ReplayArm all(one, work_of_one, {.slots = 36});
  ReplayArm few(two, work_of_two, {.slots = 5, .look_ahead = 2});
  const Round with_all = all.run(0, kTokens), with_few = few.run(0, kTokens);
  EXPECT_EQ(with_all.checksum, with_few.checksum);
  EXPECT_EQ(with_all.experts, uint64_t{kTokens} * 9);
  EXPECT_EQ(with_all.steps, uint64_t{kTokens} * 3);
  // Others for other tokens: the experts are told apart.
  EXPECT_NE(all.run(0, kTokens - 1).checksum, with_all.checksum);
}

TEST_F(ReplayArmTest, MissesAreThoseOfTheTrace) {
  ExpertLayers layers(directory_.path(), {.threads = 1, .trunk_bytes = 0});
  const ReplayWork all = work(layers);
  ReplayArm arm(layers, all, {.slots = 9});
  const Round round = arm.run(0, kTokens);
  const CacheStatistics expected =
      replay(demand_sequence(trace_, grid_of(layers.source())), {.slots = 9});
  EXPECT_EQ(std::accumulate(round.misses.begin(), round.misses.end(), uint64_t{0}),
            expected.misses);
  EXPECT_EQ(round.stream.cache.hits, expected.hits);
  EXPECT_EQ(round.stream.reads.bytes_demanded, expected.misses * layers.source().slot_bytes());
}

TEST_F(ReplayArmTest, WarmsUpUntilItEvictsOrHoldsAll) {
  ExpertLayers layers(directory_.path(), {.threads = 1, .trunk_bytes = 0});
  const ReplayWork all = work(layers);
  ReplayArm small(layers, all, {.slots = 9});
  const uint64_t tokens = small.warm_up();
  EXPECT_GT(tokens, 0u);
  EXPECT_LT(tokens, 10u);
  ReplayArm large(layers, all, {.slots = 36});
  EXPECT_TRUE(large.holds_all());
  EXPECT_EQ(large.warm_up(), 0u);
  EXPECT_EQ(large.run(0, kTokens).stream.cache.misses, 0u);
}

TEST_F(ReplayArmTest, ATokenLooksAheadFromEachLayerButTheLast) {
  const ExpertLayers layers(directory_.path(), {.threads = 1, .trunk_bytes = 0});
  const ReplayWork all = work(layers);
  ASSERT_EQ(all.tokens(), kTokens);
  ASSERT_EQ(all.steps(0), 3u);
  EXPECT_EQ(all.step(0, 0).next_layer, 1u);
  EXPECT_EQ(all.step(0, 0).next_predicted.size(), 3u);
  EXPECT_TRUE(all.step(0, 2).next_predicted.empty());
}

}  // namespace
}  // namespace sluice::bench
