#include "cache/expert_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/error.h"

namespace sluice {
namespace {

using Outcome = ExpertCache::Outcome;

constexpr uint64_t kSlotBytes = 8192;
constexpr uint64_t kExpertBytes = 8000;

ExpertCache make_cache(uint64_t slots, double max_pinned_share = 0.6) {
  return ExpertCache({.layers = 4,
                      .experts = 8,
                      .slot_bytes = kSlotBytes,
                      .budget_bytes = slots * kSlotBytes + 100,
                      .expert_bytes = kExpertBytes,
                      .policy = "lru",
                      .max_pinned_share = max_pinned_share});
}

// Loads an expert and lets go of it: ready, unleased. Returns its slot.
uint32_t load(ExpertCache& cache, ExpertKey key) {
  const ExpertCache::Lease lease = cache.acquire(key);
  EXPECT_EQ(lease.outcome, Outcome::miss);
  cache.complete(lease.slot);
  cache.release(lease.slot);
  return lease.slot;
}

std::string error_of(const ExpertCache::Options& options) {
  try {
    ExpertCache cache(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ExpertCache, HoldsAsManySlotsAsTheBudgetPays) {
  const ExpertCache cache = make_cache(5);
  EXPECT_EQ(cache.slots(), 5u);
  EXPECT_EQ(cache.slab().size(), 5 * kSlotBytes);
  EXPECT_EQ(cache.available(), 5u);
  EXPECT_EQ(cache.slot_data(3) - cache.slot_data(0), std::ptrdiff_t{3 * kSlotBytes});
}

TEST(ExpertCache, HoldsNoMoreSlotsThanThereAreExperts) { EXPECT_EQ(make_cache(1000).slots(), 32u); }

TEST(ExpertCache, RefusesABudgetThatHoldsNoSlot) {
  const std::string error = error_of(
      {.layers = 1, .experts = 1, .slot_bytes = kSlotBytes, .budget_bytes = kSlotBytes - 1});
  EXPECT_THAT(error, testing::HasSubstr("8191"));
  EXPECT_THAT(error, testing::HasSubstr("8192"));
}

TEST(ExpertCache, RefusesMoreKeysThanItsTableMayHold) {
  const std::string error = error_of({.layers = 0xffffffff,
                                      .experts = 0xffffffff,
                                      .slot_bytes = kSlotBytes,
                                      .budget_bytes = kSlotBytes});
  EXPECT_THAT(error, testing::HasSubstr(std::to_string(kMaxExpertKeys)));
}

TEST(ExpertCache, FindsWhatWasLoaded) {
  ExpertCache cache = make_cache(2);
  const uint32_t slot = load(cache, {1, 2});
  EXPECT_TRUE(cache.resident({1, 2}));
  EXPECT_FALSE(cache.resident({2, 1}));
  EXPECT_EQ(cache.key_of(slot), (ExpertKey{1, 2}));
  const ExpertCache::Lease lease = cache.acquire({1, 2});
  EXPECT_EQ(lease.outcome, Outcome::hit);
  EXPECT_EQ(lease.slot, slot);
}

TEST(ExpertCache, DoesNotFindWhatIsStillLoading) {
  ExpertCache cache = make_cache(2);
  const uint32_t slot = cache.acquire({0, 0}).slot;
  EXPECT_FALSE(cache.resident({0, 0}));
  EXPECT_FALSE(cache.ready(slot));
  EXPECT_FALSE(cache.pin({0, 0}));
}

TEST(ExpertCache, LetsEveryDemandForALoadingExpertShareItsLoad) {
  ExpertCache cache = make_cache(1);
  const uint32_t slot = cache.acquire({0, 5}).slot;
  for (int i = 0; i < 2; ++i) {
    const ExpertCache::Lease lease = cache.acquire({0, 5});
    EXPECT_EQ(lease.outcome, Outcome::in_flight);
    EXPECT_EQ(lease.slot, slot);
  }
  cache.complete(slot);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(cache.available(), 0u) << i;
    cache.release(slot);
  }
  EXPECT_EQ(cache.available(), 1u);
  EXPECT_EQ(cache.statistics().misses, 1u);
  EXPECT_EQ(cache.statistics().in_flight_hits, 2u);
  cache.check_invariants();
}

TEST(ExpertCache, EvictsTheLeastRecentlyReleased) {
  ExpertCache cache = make_cache(2);
  load(cache, {0, 0});
  load(cache, {0, 1});
  cache.release(cache.acquire({0, 0}).slot);
  load(cache, {0, 2});
  EXPECT_TRUE(cache.resident({0, 0}));
  EXPECT_FALSE(cache.resident({0, 1}));
  EXPECT_EQ(cache.statistics().evictions, 1u);
}

TEST(ExpertCache, NeverEvictsALeasedSlot) {
  ExpertCache cache = make_cache(2);
  load(cache, {0, 0});
  const uint32_t held = cache.acquire({0, 0}).slot;
  for (uint32_t expert = 1; expert < 8; ++expert) EXPECT_NE(load(cache, {0, expert}), held);
  EXPECT_TRUE(cache.resident({0, 0}));
}

TEST(ExpertCache, SaysFullWhenEverySlotIsLeasedAndCountsNoDemand) {
  ExpertCache cache = make_cache(2);
  const uint32_t loading = cache.acquire({0, 0}).slot;
  load(cache, {0, 1});
  cache.acquire({0, 1});
  const CacheStatistics before = cache.statistics();
  EXPECT_EQ(cache.acquire({0, 2}).outcome, Outcome::full);
  EXPECT_EQ(cache.prefetch({0, 2}).outcome, Outcome::full);
  EXPECT_EQ(cache.statistics().misses, before.misses);
  EXPECT_EQ(cache.statistics().bytes_demanded, before.bytes_demanded);
  EXPECT_EQ(cache.statistics().speculative_loads, 0u);
  cache.complete(loading);
  cache.release(loading);
  EXPECT_EQ(cache.acquire({0, 2}).outcome, Outcome::miss);
  cache.check_invariants();
}

TEST(ExpertCache, ForgetsAFailedLoadAtOnceAndFreesItsSlotAfterTheLastLease) {
  ExpertCache cache = make_cache(2);
  const uint32_t slot = cache.acquire({0, 0}).slot;
  cache.acquire({0, 0});  // a second demand waits for the same load
  cache.fail(slot);
  EXPECT_TRUE(cache.failed(slot));
  EXPECT_FALSE(cache.ready(slot));
  cache.check_invariants();

  const ExpertCache::Lease again = cache.acquire({0, 0});
  EXPECT_EQ(again.outcome, Outcome::miss);
  EXPECT_NE(again.slot, slot);
  EXPECT_EQ(cache.available(), 0u);
  cache.release(slot);
  EXPECT_EQ(cache.available(), 0u);
  cache.release(slot);
  EXPECT_EQ(cache.available(), 1u);
  EXPECT_FALSE(cache.failed(slot));
  EXPECT_EQ(cache.statistics().failures, 1u);
  cache.check_invariants();
}

TEST(ExpertCache, KeepsALoadThatNobodyWaitsForAnyMore) {
  ExpertCache cache = make_cache(1);
  const uint32_t slot = cache.acquire({0, 0}).slot;
  cache.release(slot);
  EXPECT_EQ(cache.acquire({0, 1}).outcome, Outcome::full);  // its bytes are still being read
  cache.complete(slot);
  EXPECT_TRUE(cache.resident({0, 0}));
  EXPECT_EQ(cache.available(), 1u);
  cache.check_invariants();
}

TEST(ExpertCache, FreesAFailedLoadThatNobodyWaitsForAnyMore) {
  ExpertCache cache = make_cache(1);
  const uint32_t slot = cache.acquire({0, 0}).slot;
  cache.release(slot);
  cache.fail(slot);
  EXPECT_EQ(cache.available(), 1u);
  cache.check_invariants();
}

TEST(ExpertCache, MakesAPrefetchedExpertEvictableWhenItsLeaseEnds) {
  ExpertCache cache = make_cache(1);
  const ExpertCache::Lease lease = cache.prefetch({2, 3});
  EXPECT_EQ(lease.outcome, Outcome::miss);
  EXPECT_EQ(cache.leased(), 1u);
  cache.complete(lease.slot);
  EXPECT_EQ(cache.leased(), 1u);
  EXPECT_EQ(cache.acquire({0, 0}).outcome, Outcome::full);
  cache.release(lease.slot, Retention::cold);
  EXPECT_EQ(cache.leased(), 0u);
  EXPECT_TRUE(cache.resident({2, 3}));
  load(cache, {0, 0});
  EXPECT_EQ(cache.statistics().speculative_used, 0u);
}

TEST(ExpertCache, TakesNoLeaseWhenAPrefetchIsNotNeeded) {
  ExpertCache cache = make_cache(2);
  const uint32_t slot = cache.acquire({0, 0}).slot;
  EXPECT_EQ(cache.prefetch({0, 0}).outcome, Outcome::in_flight);
  cache.complete(slot);
  EXPECT_EQ(cache.prefetch({0, 0}).outcome, Outcome::hit);
  cache.release(slot);
  EXPECT_EQ(cache.leased(), 0u);
  EXPECT_EQ(cache.statistics().speculative_loads, 0u);
}

TEST(ExpertCache, CountsAPrefetchAsUsedOnceHoweverOftenItIsFound) {
  ExpertCache cache = make_cache(3);
  const uint32_t in_time = cache.prefetch({0, 0}).slot;
  cache.complete(in_time);
  const uint32_t late = cache.prefetch({0, 1}).slot;
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(cache.acquire({0, 0}).outcome, Outcome::hit);
    EXPECT_EQ(cache.acquire({0, 1}).outcome, Outcome::in_flight);
  }
  cache.complete(late);
  const uint32_t never = cache.prefetch({0, 2}).slot;
  cache.complete(never);
  cache.release(never);
  const CacheStatistics& statistics = cache.statistics();
  EXPECT_EQ(statistics.speculative_loads, 3u);
  EXPECT_EQ(statistics.speculative_used, 2u);
  EXPECT_EQ(statistics.hits, 2u);
  EXPECT_EQ(statistics.in_flight_hits, 2u);
  EXPECT_EQ(statistics.misses, 0u);
  EXPECT_EQ(statistics.bytes_speculated, 3 * kExpertBytes);
  EXPECT_EQ(statistics.bytes_foreseen, 2 * kExpertBytes);
  EXPECT_EQ(statistics.bytes_demanded, 4 * kExpertBytes);
  EXPECT_EQ(statistics.bytes_missed, 0u);
  cache.check_invariants();
}

TEST(ExpertCache, LetsADemandOutliveAFailedPrefetch) {
  ExpertCache cache = make_cache(1);
  const uint32_t slot = cache.prefetch({0, 0}).slot;
  EXPECT_EQ(cache.acquire({0, 0}).outcome, Outcome::in_flight);
  cache.fail(slot);
  EXPECT_TRUE(cache.failed(slot));
  EXPECT_EQ(cache.available(), 0u);
  cache.release(slot);  // the prefetch's
  EXPECT_EQ(cache.available(), 0u);
  cache.release(slot);
  EXPECT_EQ(cache.available(), 1u);
}

TEST(ExpertCache, CountsBytesByDemand) {
  ExpertCache cache = make_cache(2);
  load(cache, {0, 0});
  cache.release(cache.acquire({0, 0}).slot);
  cache.release(cache.acquire({0, 0}).slot);
  EXPECT_EQ(cache.statistics().hits, 2u);
  EXPECT_EQ(cache.statistics().bytes_demanded, 3 * kExpertBytes);
  EXPECT_EQ(cache.statistics().bytes_missed, kExpertBytes);
  cache.reset_statistics();
  EXPECT_EQ(cache.statistics().bytes_demanded, 0u);
}

TEST(ExpertCache, NeverEvictsAPinnedExpert) {
  ExpertCache cache = make_cache(2, 0.5);
  load(cache, {0, 0});
  EXPECT_TRUE(cache.pin({0, 0}));
  EXPECT_TRUE(cache.pin({0, 0}));  // it already is
  EXPECT_EQ(cache.pinned(), 1u);
  for (uint32_t expert = 1; expert < 8; ++expert) load(cache, {0, expert});
  EXPECT_TRUE(cache.resident({0, 0}));
  cache.release(cache.acquire({0, 0}).slot);
  EXPECT_EQ(cache.available(), 1u);
  cache.check_invariants();
}

TEST(ExpertCache, PinsNoMoreThanItsShareAndNothingThatIsAbsent) {
  ExpertCache cache = make_cache(4, 0.5);
  EXPECT_FALSE(cache.pin({0, 0}));
  for (uint32_t expert = 0; expert < 4; ++expert) load(cache, {0, expert});
  EXPECT_TRUE(cache.pin({0, 0}));
  EXPECT_TRUE(cache.pin({0, 1}));
  EXPECT_FALSE(cache.pin({0, 2}));
  EXPECT_EQ(cache.pinned(), 2u);
}

TEST(ExpertCache, RecyclesColdSlotsBeforeWarmOnes) {
  ExpertCache cache = make_cache(3);
  load(cache, {0, 0});
  load(cache, {0, 1});
  for (uint32_t expert = 2; expert < 8; ++expert) {
    const uint32_t slot = cache.acquire({0, expert}).slot;
    cache.complete(slot);
    cache.release(slot, Retention::cold);
  }
  EXPECT_TRUE(cache.resident({0, 0}));
  EXPECT_TRUE(cache.resident({0, 1}));
}

TEST(ExpertCacheDeathTest, AbortsOnMisuse) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ExpertCache cache = make_cache(2);
  const uint32_t slot = load(cache, {0, 0});
  EXPECT_DEATH(cache.release(slot), "bug in sluice");
  EXPECT_DEATH(cache.complete(slot), "bug in sluice");
  EXPECT_DEATH(cache.acquire({4, 0}), "bug in sluice");
  EXPECT_DEATH(cache.acquire({0, 8}), "bug in sluice");
}

}  // namespace
}  // namespace sluice
