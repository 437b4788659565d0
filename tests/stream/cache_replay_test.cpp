#include "stream/cache_replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "io/error.h"

namespace sluice {
namespace {

DemandSequence sequence_of(const std::vector<std::vector<uint32_t>>& records, uint32_t experts) {
  Trace trace;
  for (const auto& record : records) trace.add(0, record);
  return demand_sequence(trace, {.layers = {0}, .experts = experts});
}

// Tokens that pass two layers; some experts are wanted more often than candidates.
DemandSequence random_sequence(uint32_t seed, uint32_t experts, uint32_t tokens, uint32_t k) {
  std::mt19937 random(seed);
  Trace trace;
  for (uint32_t token = 0; token < tokens; ++token) {
    for (const uint32_t layer : {3u, 7u}) {
      std::vector<uint32_t> chosen;
      while (chosen.size() < k) {
        const auto expert = static_cast<uint32_t>(std::min(random() % experts, random() % experts));
        if (std::ranges::find(chosen, expert) == chosen.end()) chosen.push_back(expert);
      }
      trace.add(layer, chosen);
    }
  }
  return demand_sequence(trace, {.layers = {3, 7}, .experts = experts});
}

// The most hits by trying every eviction there is.
uint64_t best_hits(const DemandSequence& sequence, uint32_t slots) {
  using Contents = std::set<uint32_t>;
  std::map<Contents, uint64_t> reached = {{{}, 0}};  // with the most hits on the way
  for (size_t i = 0; i < sequence.records(); ++i) {
    std::map<Contents, uint64_t> next;
    for (const auto& [contents, hits] : reached) {
      Contents record, candidates;
      uint64_t found = 0;
      for (const ExpertKey key : sequence.record(i)) {
        record.insert(key.expert);
        found += contents.contains(key.expert);
      }
      std::ranges::set_union(contents, record, std::inserter(candidates, candidates.end()));
      const std::vector<uint32_t> list(candidates.begin(), candidates.end());
      for (uint32_t kept = 0; kept < 1u << list.size(); ++kept) {
        Contents after;
        for (uint32_t j = 0; j < list.size(); ++j) {
          if ((kept >> j & 1u) != 0) after.insert(list[j]);
        }
        if (after.size() > slots) continue;
        uint64_t& most = next[after];
        most = std::max(most, hits + found);
      }
    }
    reached = std::move(next);
  }
  uint64_t most = 0;
  for (const auto& [contents, hits] : reached) most = std::max(most, hits);
  return most;
}

TEST(Replay, CountsAsLruDoesByHand) {
  const DemandSequence sequence = sequence_of({{0}, {1}, {2}, {0}, {2}, {1}}, 3);
  const CacheStatistics two = replay(sequence, {.slots = 2, .policy = "lru"});
  EXPECT_EQ(two.hits, 1u);  // 2, right after 0 took 1's slot
  EXPECT_EQ(two.misses, 5u);
  EXPECT_EQ(two.evictions, 3u);
  const CacheStatistics all = replay(sequence, {.slots = 3, .policy = "lru"});
  EXPECT_EQ(all.hits, 3u);
  EXPECT_EQ(all.misses, 3u);
}

TEST(Replay, NeverEvictsWhatTheRecordAtHandNeeds) {
  // 0 is the oldest when 2 comes in, and is wanted beside it.
  const DemandSequence sequence = sequence_of({{0}, {1}, {2, 0}}, 3);
  EXPECT_EQ(replay(sequence, {.slots = 2, .policy = "lru"}).hits, 1u);
}

TEST(Replay, KeepsPins) {
  const DemandSequence sequence = sequence_of({{0}, {1}, {2}, {3}, {0}, {1}, {2}, {0}}, 4);
  const CacheStatistics none = replay(sequence, {.slots = 2, .policy = "lru"});
  EXPECT_EQ(none.hits, 0u);
  const CacheStatistics pinned =
      replay(sequence, {.slots = 2, .policy = "lru", .pins = {{0, 0}, {0, 1}}});
  EXPECT_EQ(pinned.hits, 3u);  // 60 % of two slots are one: expert 0 alone
  EXPECT_EQ(pinned.pinned_hits, 3u);
}

TEST(Replay, GoesOnWherePinsLeaveLessThanARecordNeeds) {
  const DemandSequence sequence = sequence_of({{2, 3, 4}, {5, 0, 6}, {2, 3, 4}}, 8);
  const CacheStatistics statistics =
      replay(sequence, {.slots = 4, .policy = "lru", .pins = {{0, 0}, {0, 1}}});
  EXPECT_EQ(statistics.hits + statistics.misses, 9u);
  EXPECT_EQ(statistics.pinned_hits, 1u);
}

TEST(OptimalHits, AreTheMostThatAnyEvictionsGive) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    std::vector<std::vector<uint32_t>> records;
    for (int i = 0; i < 12; ++i) {
      std::vector<uint32_t> record = {static_cast<uint32_t>(random() % 6)};
      const auto other = static_cast<uint32_t>(random() % 6);
      if (other != record.front()) record.push_back(other);
      records.push_back(record);
    }
    const DemandSequence sequence = sequence_of(records, 6);
    for (const uint32_t slots : {1u, 2u, 3u, 4u}) {
      EXPECT_EQ(optimal_hits(sequence, slots), best_hits(sequence, slots))
          << "seed " << seed << ", " << slots << " slots";
    }
  }
}

TEST(OptimalHits, BoundEveryPolicy) {
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    const DemandSequence sequence = random_sequence(seed, 16, 300, 3);
    for (const uint32_t slots : {3u, 6u, 12u, 24u, 32u}) {
      const uint64_t most = optimal_hits(sequence, slots);
      for (const std::string& policy : policy_names()) {
        EXPECT_LE(replay(sequence, {.slots = slots, .policy = policy}).hits, most)
            << policy << ", " << slots << " slots";
        const std::vector<ExpertKey> pins = {{0, 0}, {1, 0}, {0, 1}};
        EXPECT_LE(replay(sequence, {.slots = slots, .policy = policy, .pins = pins}).hits,
                  optimal_hits(sequence, slots, pins))
            << policy << " with pins, " << slots << " slots";
      }
    }
    // With a slot for each, only the first use of an expert misses, whatever the policy.
    EXPECT_EQ(replay(sequence, {.slots = 32, .policy = "lru"}).hits, optimal_hits(sequence, 32));
  }
}

TEST(Lfru, FindsMoreThanLruWhereATokenFlushesTheCacheAndSomeExpertsLead) {
  // Expert 0 takes part in every record of its layer; the candidates come by in turn.
  Trace trace;
  for (uint32_t token = 0; token < 400; ++token) {
    for (const uint32_t layer : {3u, 7u}) {
      trace.add(layer, std::vector<uint32_t>{0, 1 + token * 2 % 14, 2 + token * 2 % 14});
    }
  }
  const DemandSequence sequence = demand_sequence(trace, {.layers = {3, 7}, .experts = 16});
  EXPECT_EQ(replay(sequence, {.slots = 5, .policy = "lru"}).hits, 0u);
  EXPECT_GT(replay(sequence, {.slots = 5, .policy = "lfru"}).hits, 700u);
}

TEST(DemandSequence, RefusesATraceOfAnotherModel) {
  Trace trace;
  trace.add(1, std::vector<uint32_t>{5});
  EXPECT_THROW(demand_sequence(trace, {.layers = {0}, .experts = 8}), Error);
  EXPECT_THROW(demand_sequence(trace, {.layers = {1}, .experts = 5}), Error);
  EXPECT_EQ(demand_sequence(trace, {.layers = {1}, .experts = 6}).longest, 1u);
}

}  // namespace
}  // namespace sluice
