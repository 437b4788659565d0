#include "cache/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST(LruPolicy, EvictsWhatWasReleasedLongestAgo) {
  const auto policy = make_policy("lru", 4);
  EXPECT_EQ(policy->victim(), kNoSlot);
  for (const uint32_t slot : {2u, 0u, 3u, 1u}) policy->insert(slot, Retention::keep);
  policy->remove(2);
  policy->insert(2, Retention::keep);
  EXPECT_EQ(policy->size(), 4u);
  EXPECT_EQ(eviction_order(*policy), (std::vector<uint32_t>{0, 3, 1, 2}));
  EXPECT_EQ(policy->size(), 0u);
}

TEST(LruPolicy, EvictsColdSlotsFirstTheLastOneLeading) {
  const auto policy = make_policy("lru", 5);
  policy->insert(0, Retention::keep);
  policy->insert(1, Retention::cold);
  policy->insert(2, Retention::cold);
  policy->insert(3, Retention::keep);
  EXPECT_EQ(eviction_order(*policy), (std::vector<uint32_t>{2, 1, 0, 3}));
}

TEST(LruPolicy, KnowsWhatItContains) {
  const auto policy = make_policy("lru", 3);
  policy->insert(1, Retention::keep);
  EXPECT_FALSE(policy->contains(0));
  EXPECT_TRUE(policy->contains(1));
  policy->remove(1);
  EXPECT_FALSE(policy->contains(1));
}

TEST(MakePolicy, ListsTheKnownNamesWhenItGetsAnother) {
  try {
    make_policy("clock", 3);
    FAIL() << "made a policy of that name";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("clock"), testing::HasSubstr("lru")));
  }
}

}  // namespace
}  // namespace sluice
