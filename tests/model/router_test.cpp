// Which experts a router chooses and how it weighs them, against the formulas in double.

#include "model/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

struct Choice {
  std::vector<uint32_t> experts;
  std::vector<float> weights;
};

Choice choose(const RouterRule& rule, std::vector<float> logits) {
  std::vector<float> by_score(rule.experts);
  std::vector<uint32_t> order(rule.experts);
  Choice choice{std::vector<uint32_t>(rule.experts_per_token),
                std::vector<float>(rule.experts_per_token)};
  rule.choose(kernels::table(), logits.data(), by_score.data(), order.data(), choice.experts.data(),
              choice.weights.data());
  return choice;
}

RouterRule rule(RouterScore score, uint32_t experts, uint32_t experts_per_token) {
  RouterRule rule;
  rule.score = score;
  rule.experts = experts;
  rule.experts_per_token = experts_per_token;
  return rule;
}

constexpr double kTolerance = 1e-6;  // some roundings of weights at most about 1

const std::vector<float> kLogits = {0.5f, -1.0f, 2.0f, 0.25f, 1.5f, -3.0f};

double exponentials(std::initializer_list<double> logits) {
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit);
  return sum;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TEST(Router, SoftmaxWeighsWithTheShareOfAllExperts) {
  RouterRule softmax = rule(RouterScore::softmax, 6, 2);
  const Choice choice = choose(softmax, kLogits);
  EXPECT_THAT(choice.experts, ElementsAre(2u, 4u));
  const double all = exponentials({0.5, -1, 2, 0.25, 1.5, -3});
  EXPECT_NEAR(choice.weights[0], std::exp(2.0) / all, kTolerance);
  EXPECT_NEAR(choice.weights[1], std::exp(1.5) / all, kTolerance);
  softmax.limits.normalize = true;
  EXPECT_NEAR(choose(softmax, kLogits).weights[1], std::exp(1.5) / exponentials({2, 1.5}),
              kTolerance);
}

TEST(Router, ChosenSoftmaxWeighsAmongTheChosenHoweverUnlikelyAllAre) {
  const Choice choice = choose(rule(RouterScore::chosen_softmax, 6, 3), kLogits);
  EXPECT_THAT(choice.experts, ElementsAre(2u, 4u, 0u));
  for (size_t j = 0; j < 3; ++j) {
    const double logit = kLogits[choice.experts[j]];
    EXPECT_NEAR(choice.weights[j], std::exp(logit) / exponentials({2, 1.5, 0.5}), kTolerance);
  }
}

TEST(Router, SigmoidChoosesWithTheCorrectionAndWeighsWithoutIt) {
  RouterRule corrected = rule(RouterScore::sigmoid, 6, 2);
  corrected.correction = {0, 0.9f, 0, 0, -0.5f, 0};
  const Choice choice = choose(corrected, kLogits);
  EXPECT_THAT(choice.experts, ElementsAre(1u, 2u));  // 0.27 + 0.9, 0.88
  EXPECT_NEAR(choice.weights[0], sigmoid(-1), kTolerance);
  EXPECT_NEAR(choice.weights[1], sigmoid(2), kTolerance);
  corrected.limits.normalize = true;
  corrected.limits.scale = 1.5f;
  EXPECT_NEAR(choose(corrected, kLogits).weights[0], 1.5 * sigmoid(-1) / (sigmoid(-1) + sigmoid(2)),
              kTolerance);
}

TEST(Router, GroupsAreJudgedByTheirBestTwoAndTheOthersLeftOut) {
  RouterRule grouped = rule(RouterScore::sigmoid, 6, 2);
  grouped.limits.groups = 3;
  grouped.limits.groups_per_token = 1;
  // Pairs (0, 1), (2, 3), (4, 5): the second sums highest though the best expert is of the third.
  const std::vector<float> logits = {1.0f, 1.0f, 1.5f, 1.25f, 3.0f, -4.0f};
  EXPECT_THAT(choose(grouped, logits).experts, ElementsAre(2u, 3u));
  grouped.best_of_group = 1;
  EXPECT_THAT(choose(grouped, logits).experts, ElementsAre(4u, 5u));
  grouped.limits.groups_per_token = 2;
  EXPECT_THAT(choose(grouped, logits).experts, ElementsAre(4u, 2u));
}

TEST(Router, AGroupStaysChosenWhenItsCorrectedScoresAreNegative) {
  RouterRule grouped = rule(RouterScore::sigmoid, 4, 2);
  grouped.limits.groups = 2;
  grouped.limits.groups_per_token = 1;
  grouped.correction = {-5, -5, -2, -2};
  EXPECT_THAT(choose(grouped, {1, 1, 0, 1}).experts, ElementsAre(3u, 2u));
}

TEST(Router, TakesTheLowerNumberOfEqualExperts) {
  EXPECT_THAT(choose(rule(RouterScore::softmax, 5, 3), {1, 2, 1, 2, 1}).experts,
              ElementsAre(1u, 3u, 0u));
}

// A model whose experts were numbered anew must give the same bits.
TEST(Router, WeighsTheSameHoweverTheExpertsAreNumbered) {
  constexpr uint32_t kCount = 37;
  std::vector<float> logits(kCount), turned(kCount);
  for (uint32_t e = 0; e < kCount; ++e) {
    logits[e] = std::sin(static_cast<float>(e * e + 1)) * 3;
    turned[e * 5 % kCount] = logits[e];
  }
  for (const RouterScore score :
       {RouterScore::softmax, RouterScore::chosen_softmax, RouterScore::sigmoid}) {
    RouterRule any = rule(score, kCount, 6);
    any.limits.normalize = true;
    const Choice first = choose(any, logits), second = choose(any, turned);
    for (size_t j = 0; j < 6; ++j) {
      EXPECT_EQ(second.experts[j], first.experts[j] * 5 % kCount);
      EXPECT_EQ(second.weights[j], first.weights[j]);
    }
  }
}

TEST(Router, ChoosesExpertsOfThisLayerWhateverTheLogits) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const RouterScore score :
       {RouterScore::softmax, RouterScore::chosen_softmax, RouterScore::sigmoid}) {
    RouterRule any = rule(score, 6, 4);
    any.limits = {.normalize = true, .groups = 3, .groups_per_token = 2, .scale = 1};
    for (const std::vector<float>& logits :
         {std::vector<float>(6, nan), std::vector<float>(6, -infinity),
          std::vector<float>{infinity, nan, -infinity, 0, nan, infinity}}) {
      const std::vector<uint32_t> experts = choose(any, logits).experts;
      EXPECT_EQ(std::set(experts.begin(), experts.end()).size(), 4u);
      EXPECT_LT(*std::max_element(experts.begin(), experts.end()), 6u);
    }
  }
}

TEST(Router, AllExpertsMayBeChosen) {
  const Choice choice = choose(rule(RouterScore::softmax, 6, 6), kLogits);
  EXPECT_THAT(choice.experts, ElementsAreArray({2, 4, 0, 3, 1, 5}));
  EXPECT_NEAR(std::accumulate(choice.weights.begin(), choice.weights.end(), 0.0), 1.0, kTolerance);
}

}  // namespace
}  // namespace sluice
