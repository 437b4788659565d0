// The generator of traces: what the presets promise, and that the parameters do what they say.
#include "bench/routing_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "io/error.h"
#include "stream/cache_replay.h"

namespace sluice::bench {
namespace {

Trace first_records(const Trace& trace, size_t count) {
  Trace first;
  for (size_t i = 0; i < count; ++i) first.add(trace[i].layer, trace[i].experts);
  return first;
}

// Of an LRU cache with that share of the experts, over what comes after the first tokens.
double steady_hit_rate(const Trace& trace, const RoutingShape& shape, uint32_t warm_up_tokens,
                       double share) {
  ExpertGrid grid{.layers = std::vector<uint32_t>(shape.layers), .experts = shape.experts};
  std::iota(grid.layers.begin(), grid.layers.end(), 0u);
  const ReplayOptions options{.slots =
                                  static_cast<uint32_t>(share * static_cast<double>(grid.keys()))};
  const CacheStatistics all = replay(demand_sequence(trace, grid), options);
  const CacheStatistics before = replay(
      demand_sequence(first_records(trace, size_t{warm_up_tokens} * shape.layers), grid), options);
  const auto hits = static_cast<double>(all.hits - before.hits);
  return hits / (hits + static_cast<double>(all.misses - before.misses));
}

double hit_rate(const Routing& routing, double share) {
  const RoutingShape shape{.layers = 2, .experts = 64, .experts_per_token = 4};
  return steady_hit_rate(generate_routing(shape, routing, 400, 1), shape, 100, share);
}

std::vector<uint32_t> experts_of(const Trace& trace, size_t i) {
  return {trace[i].experts.begin(), trace[i].experts.end()};
}

TEST(RoutingGenerator, PresetsHitAsPublished) {
  constexpr uint32_t kWarmUp = 300;  // half of 35b's experts are in the cache by then
  size_t points = 0;
  for (const RoutingPreset& preset : routing_presets()) {
    const RoutingShape shape{preset.layers, preset.experts, preset.experts_per_token};
    const Trace trace = generate_routing(shape, preset.routing, kWarmUp + 200, 1);
    for (const auto& [share, published] : preset.published) {
      EXPECT_NEAR(steady_hit_rate(trace, shape, kWarmUp, share), published, 0.02)
          << preset.name << " with " << share << " of its experts";
      ++points;
    }
  }
  EXPECT_EQ(points, 5u);
}

TEST(RoutingGenerator, RecordsAreTokensOfDistinctExperts) {
  const RoutingShape shape{.layers = 3, .experts = 5, .experts_per_token = 5};
  const Trace trace = generate_routing(shape, {.skew = 1, .reuse = 0.9, .memory = 3}, 20, 7);
  ASSERT_EQ(trace.size(), 60u);
  for (size_t i = 0; i < trace.size(); ++i) {
    EXPECT_EQ(trace[i].layer, i % 3);
    EXPECT_THAT(experts_of(trace, i), testing::UnorderedElementsAre(0, 1, 2, 3, 4));
  }
}

TEST(RoutingGenerator, TheSeedDecides) {
  const RoutingShape shape{.layers = 2, .experts = 32, .experts_per_token = 4};
  const Routing routing{.skew = 1, .reuse = 0.5, .memory = 4};
  const Trace once = generate_routing(shape, routing, 50, 1);
  EXPECT_EQ(trace_text(once), trace_text(generate_routing(shape, routing, 50, 1)));
  EXPECT_NE(trace_text(once), trace_text(generate_routing(shape, routing, 50, 2)));
}

TEST(RoutingGenerator, SkewAndReuseMakeHits) {
  const double even = hit_rate({.skew = 0, .reuse = 0, .memory = 1}, 0.25);
  EXPECT_NEAR(even, 0.25, 0.04);  // every expert as likely as any other, whatever is in the cache
  EXPECT_GT(hit_rate({.skew = 1, .reuse = 0, .memory = 1}, 0.25), even + 0.1);
  EXPECT_GT(hit_rate({.skew = 0, .reuse = 0.7, .memory = 2}, 0.25), even + 0.1);
}

TEST(PredictRouting, NamesAsManyAsTheRecallSays) {
  const RoutingShape shape{.layers = 4, .experts = 64, .experts_per_token = 8};
  const Trace actual = generate_routing(shape, {.skew = 1, .reuse = 0.5, .memory = 10}, 500, 1);
  for (const double recall : {0.0, 0.3, 0.85, 1.0}) {
    const Trace predicted = predict_routing(actual, shape.experts, recall, 2);
    ASSERT_EQ(predicted.size(), actual.size());
    double right_of_first = 0, right_of_last = 0, right = 0;
    for (size_t i = 0; i < actual.size(); ++i) {
      const std::vector<uint32_t> named = experts_of(predicted, i);
      const std::vector<uint32_t> chosen = experts_of(actual, i);
      EXPECT_EQ(predicted[i].layer, actual[i].layer);
      EXPECT_EQ(std::set<uint32_t>(named.begin(), named.end()).size(), 8u);
      const auto is_right = [&](uint32_t e) { return std::ranges::count(chosen, e) > 0; };
      right += static_cast<double>(std::ranges::count_if(named, is_right));
      right_of_first += is_right(named.front());
      right_of_last += is_right(named.back());
    }
    const auto records = static_cast<double>(actual.size());
    const double fall = std::min(recall, 1 - recall) * 7 / 8;
    EXPECT_NEAR(right / records / 8, recall, 0.01);
    EXPECT_NEAR(right_of_first / records, recall + fall, 0.03);
    EXPECT_NEAR(right_of_last / records, recall - fall, 0.03);
  }
}

TEST(PredictRouting, TakesRecordsOfAlmostAllExperts) {
  const RoutingShape shape{.layers = 1, .experts = 4, .experts_per_token = 3};
  const Trace actual = generate_routing(shape, {.skew = 0, .reuse = 0, .memory = 1}, 50, 1);
  const Trace predicted = predict_routing(actual, shape.experts, 0, 1);
  for (size_t i = 0; i < predicted.size(); ++i) {
    const std::vector<uint32_t> named = experts_of(predicted, i);
    EXPECT_EQ(std::set<uint32_t>(named.begin(), named.end()).size(), 3u);
  }
}

TEST(RoutingPreset, UnknownNamesTheKnown) {
  try {
    routing_preset("7b");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("35b"));
  }
}

}  // namespace
}  // namespace sluice::bench
