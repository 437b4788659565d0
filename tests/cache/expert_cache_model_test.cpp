// ExpertCache against the dumbest correct model: a map of what is in memory and a list of what may
// be evicted, in order. Random demands, prefetches, failures, pins and releases must leave both
// alike.
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <random>
#include <vector>

#include "cache/expert_cache.h"

namespace sluice {
namespace {

#if defined(SLUICE_SANITIZED)
constexpr int kOperations = 30'000;
#else
constexpr int kOperations = 300'000;
#endif

using Outcome = ExpertCache::Outcome;
using Key = std::pair<uint32_t, uint32_t>;

struct Resident {
  bool ready = false;
  bool pinned = false;
  bool by_prefetch = false;  // and not demanded so far
  uint32_t leases = 0;
  uint64_t used_at = 0;  // the last of all leases
};

// Loads that failed and are waited for: out of the map, yet in a slot.
struct Model {
  uint32_t slots = 0;
  uint32_t max_pinned = 0;
  std::map<Key, Resident> residents;
  std::list<std::pair<Key, uint64_t>> evictable;  // with the last use, or 0; the next to go first
  uint64_t leases = 0;
  uint32_t failed = 0;
  CacheStatistics statistics;

  bool make_room() {
    if (residents.size() + failed < slots) return true;
    if (evictable.empty()) return false;
    residents.erase(evictable.front().first);
    evictable.pop_front();
    ++statistics.evictions;
    return true;
  }

  Outcome acquire(Key key) {
    auto found = residents.find(key);
    Outcome outcome = Outcome::miss;
    if (found == residents.end()) {
      if (!make_room()) return Outcome::full;
      found = residents.emplace(key, Resident{}).first;
      ++statistics.misses;
      ++statistics.bytes_missed;
    } else if (found->second.ready) {
      outcome = Outcome::hit;
      keep_from_eviction(key);
      ++statistics.hits;
    } else {
      outcome = Outcome::in_flight;
      ++statistics.in_flight_hits;
    }
    ++statistics.bytes_demanded;
    statistics.speculative_used += found->second.by_prefetch;
    statistics.bytes_foreseen += found->second.by_prefetch;
    found->second.by_prefetch = false;
    ++found->second.leases;
    found->second.used_at = ++leases;
    return outcome;
  }

  Outcome prefetch(Key key) {
    const auto found = residents.find(key);
    if (found != residents.end()) return found->second.ready ? Outcome::hit : Outcome::in_flight;
    if (!make_room()) return Outcome::full;
    residents[key] = {
        .ready = false, .pinned = false, .by_prefetch = true, .leases = 1, .used_at = ++leases};
    ++statistics.speculative_loads;
    ++statistics.bytes_speculated;
    return Outcome::miss;
  }

  void keep_from_eviction(Key key) {
    evictable.remove_if([key](const auto& entry) { return entry.first == key; });
  }

  // In the order of the last lease, however long that took; the cold ones in front.
  void became_idle(Key key, Retention retention) {
    if (retention == Retention::cold) {
      evictable.push_front({key, 0});
      return;
    }
    const uint64_t used_at = residents.at(key).used_at;
    const auto later = std::find_if(evictable.begin(), evictable.end(),
                                    [used_at](auto& entry) { return entry.second > used_at; });
    evictable.insert(later, {key, used_at});
  }

  void release(Key key, Retention retention) {
    Resident& resident = residents.at(key);
    if (--resident.leases == 0 && resident.ready && !resident.pinned) became_idle(key, retention);
  }

  void complete(Key key) {
    Resident& resident = residents.at(key);
    resident.ready = true;
    if (resident.leases == 0) became_idle(key, Retention::keep);
  }

  // Returns the leases that wait for the failed load.
  uint32_t fail(Key key) {
    ++statistics.failures;
    const uint32_t waiting = residents.at(key).leases;
    residents.erase(key);
    if (waiting > 0) ++failed;
    return waiting;
  }

  bool pin(Key key) {
    const auto found = residents.find(key);
    if (found == residents.end() || !found->second.ready) return false;
    if (found->second.pinned) return true;
    if (pinned() == max_pinned) return false;
    keep_from_eviction(key);
    found->second.pinned = true;
    return true;
  }

  uint32_t pinned() const {
    return static_cast<uint32_t>(std::count_if(residents.begin(), residents.end(),
                                               [](auto& entry) { return entry.second.pinned; }));
  }

  uint32_t leased() const {
    const auto leased = std::count_if(residents.begin(), residents.end(),
                                      [](auto& entry) { return entry.second.leases > 0; });
    return static_cast<uint32_t>(leased) + failed;
  }
};

void expect_equal(const CacheStatistics& a, const CacheStatistics& b) {
  EXPECT_EQ(a.hits, b.hits);
  EXPECT_EQ(a.in_flight_hits, b.in_flight_hits);
  EXPECT_EQ(a.misses, b.misses);
  EXPECT_EQ(a.evictions, b.evictions);
  EXPECT_EQ(a.failures, b.failures);
  EXPECT_EQ(a.speculative_loads, b.speculative_loads);
  EXPECT_EQ(a.speculative_used, b.speculative_used);
  EXPECT_EQ(a.bytes_demanded, b.bytes_demanded);
  EXPECT_EQ(a.bytes_missed, b.bytes_missed);
  EXPECT_EQ(a.bytes_speculated, b.bytes_speculated);
  EXPECT_EQ(a.bytes_foreseen, b.bytes_foreseen);
}

class Walk {
 public:
  Walk(uint32_t seed, uint32_t layers, uint32_t experts, uint32_t slots)
      : random_(seed),
        layers_(layers),
        experts_(experts),
        cache_({.layers = layers,
                .experts = experts,
                .slot_bytes = 4096,
                .budget_bytes = slots * uint64_t{4096},
                .expert_bytes = 1,
                .policy = "lru",
                .max_pinned_share = 0.3}) {
    model_.slots = cache_.slots();
    model_.max_pinned = static_cast<uint32_t>(0.3 * cache_.slots());
  }

  void run(int operations) {
    for (int i = 0; i < operations && !testing::Test::HasFailure(); ++i) {
      step();
      EXPECT_EQ(cache_.leased(), model_.leased());
      if (i % 64 == 0) compare();
    }
    compare();
  }

 private:
  struct Held {
    Key key;
    uint32_t slot;
    bool failed;  // its load failed: the slot is nobody's
  };

  uint32_t below(size_t limit) {
    return std::uniform_int_distribution<uint32_t>(0, static_cast<uint32_t>(limit) - 1)(random_);
  }

  // Some experts are wanted far more often than others, as in real routers.
  Key random_key() {
    const uint32_t expert = std::min(below(experts_), below(experts_));
    return {below(layers_), expert};
  }

  void step() {
    const uint32_t dice = below(100);
    if (dice < 35) {
      demand(random_key());
    } else if (dice < 45) {
      speculate(random_key());
    } else if (dice < 75 && !held_.empty()) {
      let_go(below(held_.size()));
    } else if (dice < 97 && !loading_.empty()) {
      end_load(below(loading_.size()), /*fails=*/below(10) == 0);
    } else if (dice >= 99 && below(50) == 0) {
      const Key key = random_key();
      EXPECT_EQ(cache_.pin({key.first, key.second}), model_.pin(key));
    }
  }

  void demand(Key key) {
    const Outcome expected = model_.acquire(key);
    const ExpertCache::Lease lease = cache_.acquire({key.first, key.second});
    ASSERT_EQ(lease.outcome, expected);
    if (expected == Outcome::full) return;
    held_.push_back({key, lease.slot, false});
    if (expected == Outcome::miss) loading_.push_back({key, lease.slot, false});
    EXPECT_EQ(cache_.key_of(lease.slot), (ExpertKey{key.first, key.second}));
    EXPECT_EQ(cache_.ready(lease.slot), expected == Outcome::hit);
  }

  void speculate(Key key) {
    const Outcome expected = model_.prefetch(key);
    const ExpertCache::Lease lease = cache_.prefetch({key.first, key.second});
    ASSERT_EQ(lease.outcome, expected);
    if (expected != Outcome::miss) return;
    held_.push_back({key, lease.slot, false});
    loading_.push_back({key, lease.slot, false});
  }

  void let_go(uint32_t index) {
    const Held held = held_[index];
    held_.erase(held_.begin() + index);
    EXPECT_EQ(cache_.failed(held.slot), held.failed);
    const Retention retention = below(4) == 0 ? Retention::cold : Retention::keep;
    cache_.release(held.slot, retention);
    if (!held.failed) {
      model_.release(held.key, retention);
    } else if (std::none_of(held_.begin(), held_.end(),
                            [&](const Held& other) { return other.slot == held.slot; })) {
      --model_.failed;
    }
  }

  void end_load(uint32_t index, bool fails) {
    const Held load = loading_[index];
    loading_.erase(loading_.begin() + index);
    if (!fails) {
      model_.complete(load.key);
      cache_.complete(load.slot);
      return;
    }
    uint32_t waiting = model_.fail(load.key);
    cache_.fail(load.slot);
    for (Held& held : held_) {
      if (held.slot != load.slot) continue;
      held.failed = true;
      --waiting;
    }
    EXPECT_EQ(waiting, 0u);
  }

  void compare() {
    cache_.check_invariants();
    expect_equal(cache_.statistics(), model_.statistics);
    EXPECT_EQ(cache_.pinned(), model_.pinned());
    const size_t used = model_.residents.size() + model_.failed;
    EXPECT_EQ(cache_.available(), cache_.slots() - used + model_.evictable.size());
    for (uint32_t layer = 0; layer < layers_; ++layer) {
      for (uint32_t expert = 0; expert < experts_; ++expert) {
        const auto found = model_.residents.find({layer, expert});
        const bool resident = found != model_.residents.end() && found->second.ready;
        EXPECT_EQ(cache_.resident({layer, expert}), resident) << layer << "." << expert;
      }
    }
  }

  std::mt19937 random_;
  uint32_t layers_;
  uint32_t experts_;
  ExpertCache cache_;
  Model model_;
  std::vector<Held> held_;     // leases
  std::vector<Held> loading_;  // loads under way
};

TEST(ExpertCacheModel, AgreesWithTheModelForEverySequenceOfOperations) {
  struct Shape {
    uint32_t layers, experts, slots;
  };
  const Shape shapes[] = {{1, 4, 1}, {2, 4, 2}, {2, 8, 7}, {3, 8, 24}, {4, 16, 20}, {8, 16, 50}};
  uint32_t seed = 1;
  for (const Shape& shape : shapes) {
    for (int repeat = 0; repeat < 2 && !HasFailure(); ++repeat, ++seed) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << shape.layers << " layers × "
                                      << shape.experts << " experts, " << shape.slots << " slots");
      Walk(seed, shape.layers, shape.experts, shape.slots).run(kOperations);
    }
  }
}

}  // namespace
}  // namespace sluice
