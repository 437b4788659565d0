#include "stream/trace_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace sluice {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;

// Three tokens through layers 0 and 4.
DemandSequence three_tokens() {
  Trace trace;
  const auto add = [&](uint32_t layer, std::vector<uint32_t> experts) {
    trace.add(layer, experts);
  };
  add(0, {0, 1}), add(4, {3, 2});
  add(0, {1, 0}), add(4, {3, 0});
  add(0, {2, 1}), add(4, {1, 0});
  return demand_sequence(trace, {.layers = {0, 4}, .experts = 4});
}

TEST(TraceStatistics, CountUses) {
  EXPECT_THAT(count_uses(three_tokens()), ElementsAre(2, 3, 1, 0, 2, 1, 1, 2));
}

TEST(TraceStatistics, PutTheHottestFirstAndTheUnusedNowhere) {
  const auto hottest = hottest_experts(three_tokens(), 100);
  EXPECT_THAT(hottest,
              ElementsAre(ExpertKey{0, 1}, ExpertKey{0, 0}, ExpertKey{1, 0}, ExpertKey{1, 3},
                          ExpertKey{0, 2}, ExpertKey{1, 1}, ExpertKey{1, 2}));
  EXPECT_THAT(hottest_experts(three_tokens(), 2), ElementsAre(ExpertKey{0, 1}, ExpertKey{0, 0}));
}

TEST(TraceStatistics, ChainExpertsThatAreUsedTogether) {
  EXPECT_THAT(co_activation_order(three_tokens(), 0), ElementsAre(1, 0, 2, 3));
  Trace trace;  // two groups that never mix
  for (int i = 0; i < 5; ++i) trace.add(0, std::vector<uint32_t>{1, 3, 5});
  for (int i = 0; i < 4; ++i) trace.add(0, std::vector<uint32_t>{0, 2, 4});
  const auto order = co_activation_order(demand_sequence(trace, {.layers = {0}, .experts = 7}), 0);
  EXPECT_THAT(order, ElementsAre(1, 3, 5, 0, 2, 4, 6));
}

TEST(TraceStatistics, MeasureTheOverlapOfTokens) {
  EXPECT_THAT(token_overlap(three_tokens()), ElementsAre(DoubleEq(0.75), DoubleEq(0.5)));
}

TEST(TraceStatistics, FindTokensAndTheirWorkingSets) {
  EXPECT_THAT(records_of_tokens(three_tokens()),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3), ElementsAre(4, 5)));
  Trace trace;
  for (uint32_t i = 0; i < 8; ++i) trace.add(0, std::vector<uint32_t>{0u, 1u + i % 2});
  const auto sets = working_sets(demand_sequence(trace, {.layers = {0}, .experts = 4}));
  ASSERT_EQ(sets.size(), 2u);
  EXPECT_EQ(sets[0].tokens, 1u);
  EXPECT_EQ(sets[0].experts, 2.0);
  EXPECT_EQ(sets[1].tokens, 2u);
  EXPECT_EQ(sets[1].experts, 3.0);
}

// A prompt of two tokens, layer by layer, then one that was generated.
TEST(TraceStatistics, CountTheTokensOfAPromptOnce) {
  Trace trace;
  for (const uint32_t expert : {0u, 1u}) trace.add(0, std::vector<uint32_t>{expert});
  for (const uint32_t expert : {2u, 3u}) trace.add(4, std::vector<uint32_t>{expert});
  trace.add(0, std::vector<uint32_t>{0});
  trace.add(4, std::vector<uint32_t>{2});
  const DemandSequence sequence = demand_sequence(trace, {.layers = {0, 4}, .experts = 4});
  EXPECT_THAT(records_of_tokens(sequence),
              ElementsAre(ElementsAre(0, 2), ElementsAre(1, 3), ElementsAre(4, 5)));
  EXPECT_EQ(working_sets(sequence).at(0).experts, 2.0);
}

}  // namespace
}  // namespace sluice
