#include "cache/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "io/error.h"

namespace sluice {
namespace {

std::vector<uint32_t> eviction_order(Policy& policy) {
  std::vector<uint32_t> order;
  while (policy.victim() != kNoSlot) {
    order.push_back(policy.victim());
    policy.remove(order.back());
  }
  return order;
}

TEST(LruPolicy, EvictsWhatWasUsedLongestAgo) {
  const auto policy = make_policy("lru", {.slots = 4, .keys = 4});
  EXPECT_EQ(policy->victim(), kNoSlot);
  uint64_t now = 0;
  for (const uint32_t slot : {2u, 0u, 3u, 1u}) {
    policy->insert(slot, {.key = slot, .at = ++now}, Retention::keep);
  }
  policy->remove(2);
  policy->insert(2, {.key = 2, .at = ++now}, Retention::keep);
  EXPECT_EQ(policy->size(), 4u);
  EXPECT_EQ(eviction_order(*policy), (std::vector<uint32_t>{0, 3, 1, 2}));
  EXPECT_EQ(policy->size(), 0u);
}

TEST(LruPolicy, EvictsInTheOrderOfUsesWhateverTheOrderOfReleases) {
  const auto policy = make_policy("lru", {.slots = 5, .keys = 5});
  for (const uint32_t slot : {4u, 1u, 3u, 0u, 2u}) {
    policy->insert(slot, {.key = slot, .at = slot + 1}, Retention::keep);
  }
  EXPECT_EQ(eviction_order(*policy), (std::vector<uint32_t>{0, 1, 2, 3, 4}));
}

TEST(LruPolicy, EvictsColdSlotsFirstTheLastOneLeading) {
  for (const std::string& name : policy_names()) {
    const auto policy = make_policy(name, {.slots = 5, .keys = 5});
    policy->insert(0, {.key = 0, .at = 1}, Retention::keep);
    policy->insert(1, {.key = 1, .at = 2}, Retention::cold);
    policy->insert(2, {.key = 2, .at = 3}, Retention::cold);
    policy->insert(3, {.key = 3, .at = 4}, Retention::keep);
    EXPECT_EQ(eviction_order(*policy), (std::vector<uint32_t>{2, 1, 0, 3})) << name;
  }
}

TEST(LruPolicy, KnowsWhatItContains) {
  for (const std::string& name : policy_names()) {
    const auto policy = make_policy(name, {.slots = 3, .keys = 3});
    policy->insert(1, {.key = 1, .at = 1}, Retention::keep);
    EXPECT_FALSE(policy->contains(0)) << name;
    EXPECT_TRUE(policy->contains(1)) << name;
    policy->remove(1);
    EXPECT_FALSE(policy->contains(1)) << name;
  }
}

TEST(LfruPolicy, KeepsWhatIsWantedOftenEvenThroughEvictions) {
  const auto policy = make_policy("lfru", {.slots = 2, .keys = 100});
  uint64_t now = 0;
  for (int i = 0; i < 3; ++i) {  // key 7 comes and goes
    policy->insert(0, {.key = 7, .at = ++now}, Retention::keep);
    policy->remove(0);
  }
  policy->insert(0, {.key = 7, .at = ++now}, Retention::keep);
  policy->insert(1, {.key = 8, .at = ++now}, Retention::keep);
  EXPECT_EQ(policy->victim(), 1u);
}

TEST(LfruPolicy, ForgetsWhatWasWantedOftenLongAgo) {
  const auto policy = make_policy("lfru", {.slots = 2, .keys = 10});
  uint64_t now = 0;
  for (int i = 0; i < 8; ++i) {
    policy->insert(0, {.key = 1, .at = ++now}, Retention::keep);
    policy->remove(0);
  }
  policy->insert(0, {.key = 1, .at = ++now}, Retention::keep);
  policy->insert(1, {.key = 2, .at = now + 10'000}, Retention::keep);
  EXPECT_EQ(policy->victim(), 0u);
}

// What every policy is, said as simply as can be: all uses there were, and who is evictable.
struct PlainModel {
  std::string name;
  double half_life = 0;
  std::map<uint32_t, std::vector<uint64_t>> uses = {};   // of a key
  std::map<uint32_t, uint32_t> evictable = {};           // slot → key, of those that are kept
  std::vector<std::pair<uint32_t, uint32_t>> cold = {};  // slot, key; the last one goes first

  void insert(uint32_t slot, uint32_t key, uint64_t at, Retention retention) {
    if (retention == Retention::cold) {
      cold.push_back({slot, key});
    } else {
      uses[key].push_back(at);
      evictable[slot] = key;
    }
  }

  void remove(uint32_t slot) {
    evictable.erase(slot);
    std::erase_if(cold, [slot](const auto& entry) { return entry.first == slot; });
  }

  bool holds(uint32_t key) const {
    const auto here = [key](const auto& entry) { return entry.second == key; };
    return std::ranges::any_of(evictable, here) || std::ranges::any_of(cold, here);
  }

  double worth(uint32_t key) const {
    const std::vector<uint64_t>& times = uses.at(key);
    if (name == "lru") return static_cast<double>(times.back());
    double weight = 0;
    for (const uint64_t at : times) weight += std::exp2(static_cast<double>(at) / half_life);
    return weight;
  }

  void expect_victim(uint32_t victim) const {
    if (!cold.empty()) {
      EXPECT_EQ(victim, cold.back().first);
    } else if (evictable.empty()) {
      EXPECT_EQ(victim, kNoSlot);
    } else {
      ASSERT_TRUE(evictable.contains(victim));
      // Up to rounding, since the policy keeps logarithms.
      const double worth_of_victim = worth(evictable.at(victim));
      for (const auto& [slot, key] : evictable) {
        EXPECT_LE(worth_of_victim, worth(key) * (1 + 1e-9)) << "slot " << slot;
      }
    }
  }
};

class PolicyModel : public testing::TestWithParam<std::string> {};

TEST_P(PolicyModel, EvictsWhatIsWorthLeastAfterAnySequence) {
  constexpr uint32_t kSlots = 12, kKeys = 40;
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    std::mt19937 random(seed);
    const auto policy = make_policy(GetParam(), {.slots = kSlots, .keys = kKeys});
    PlainModel model{.name = GetParam(), .half_life = 2.0 * kKeys};
    for (uint64_t now = 1; now <= 4000; ++now) {
      const uint32_t slot = static_cast<uint32_t>(random()) % kSlots;
      if (policy->contains(slot)) {
        policy->remove(slot);
        model.remove(slot);
      } else {
        const uint32_t key = static_cast<uint32_t>(random()) % kKeys;
        if (model.holds(key)) continue;  // as in a cache: in one slot at most
        const Retention retention = random() % 8 == 0 ? Retention::cold : Retention::keep;
        policy->insert(slot, {.key = key, .at = now}, retention);
        model.insert(slot, key, now, retention);
      }
      ASSERT_EQ(policy->size(), model.evictable.size() + model.cold.size());
      model.expect_victim(policy->victim());
      if (HasFailure()) FAIL() << "seed " << seed << " at " << now;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, PolicyModel, testing::ValuesIn(policy_names()),
                         [](const auto& test) { return test.param; });

TEST(MakePolicy, ListsTheKnownNamesWhenItGetsAnother) {
  try {
    make_policy("clock", {.slots = 3, .keys = 3});
    FAIL() << "made a policy of that name";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("clock"), testing::HasSubstr("lru"),
                                             testing::HasSubstr("lfru")));
  }
}

}  // namespace
}  // namespace sluice
