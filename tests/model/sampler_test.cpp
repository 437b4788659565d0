#include "model/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "io/error.h"

namespace sluice {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<double> frequencies(const SamplingOptions& options, const std::vector<float>& logits,
                                int draws) {
  Sampler sampler(options, static_cast<uint32_t>(logits.size()));
  std::vector<double> share(logits.size());
  for (int i = 0; i < draws; ++i) share[sampler.sample(logits)] += 1.0 / draws;
  return share;
}

std::vector<uint32_t> ids_drawn(const SamplingOptions& options, const std::vector<float>& logits) {
  const std::vector<double> share = frequencies(options, logits, 5000);
  std::vector<uint32_t> ids;
  for (uint32_t id = 0; id < share.size(); ++id) {
    if (share[id] > 0) ids.push_back(id);
  }
  return ids;
}

std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::vector<float> random_logits(uint32_t seed, size_t count) {
  std::mt19937 random(seed);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = static_cast<float>(random() % 2000) / 200.0f;
  return logits;
}

std::vector<uint32_t> sequence(const SamplingOptions& options, const std::vector<float>& logits) {
  Sampler sampler(options, static_cast<uint32_t>(logits.size()));
  std::vector<uint32_t> ids;
  for (int i = 0; i < 500; ++i) ids.push_back(sampler.sample(logits));
  return ids;
}

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Sampler, DrawsInProportionToProbability) {
  const std::vector<double> p = {0.5, 0.25, 0.125, 0.0625, 0.0625};
  constexpr int kDraws = 100'000;
  const std::vector<double> share = frequencies({.seed = 7}, logits_of(p), kDraws);
  // Five standard deviations of a share; the seed is fixed, so this passes always or never.
  for (size_t id = 0; id < p.size(); ++id) {
    EXPECT_NEAR(share[id], p[id], 5 * std::sqrt(p[id] * (1 - p[id]) / kDraws)) << id;
  }
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  const std::vector<float> logits = logits_of({0.6, 0.3, 0.1});
  constexpr int kDraws = 100'000;
  for (const float temperature : {0.5f, 2.0f}) {
    std::vector<double> p;
    double total = 0;
    for (const float logit : logits) total += p.emplace_back(std::exp(double{logit} / temperature));
    const auto share = frequencies({.temperature = temperature, .seed = 3}, logits, kDraws);
    for (size_t id = 0; id < p.size(); ++id) {
      const double expected = p[id] / total;
      EXPECT_NEAR(share[id], expected, 5 * std::sqrt(expected * (1 - expected) / kDraws));
    }
  }
}

TEST(Sampler, SuccessiveDrawsAreIndependent) {
  Sampler sampler({.seed = 11}, 2);
  const std::vector<float> logits = {0, 0};
  constexpr int kDraws = 100'000;
  int same = 0;
  uint32_t last = sampler.sample(logits);
  for (int i = 0; i < kDraws; ++i) {
    const uint32_t now = sampler.sample(logits);
    same += now == last;
    last = now;
  }
  EXPECT_NEAR(same, kDraws / 2, 5 * std::sqrt(kDraws / 4));
}

TEST(Sampler, NeighbouringSeedsAreIndependent) {
  const std::vector<float> logits(16, 0.0f);
  int same = 0;
  for (uint64_t seed = 0; seed < 16'000; ++seed) {
    Sampler a({.seed = seed}, 16);
    Sampler b({.seed = seed + 1}, 16);
    same += a.sample(logits) == b.sample(logits);
  }
  EXPECT_NEAR(same, 1000, 5 * std::sqrt(1000.0));
}

// These ids are part of the contract: a seed gives the same text on every machine and version.
TEST(Sampler, ASeedAlwaysGivesTheSameIds) {
  Sampler sampler({.seed = 42}, 1000);
  const std::vector<float> logits(1000, 0.0f);
  std::vector<uint32_t> ids;
  for (int i = 0; i < 8; ++i) ids.push_back(sampler.sample(logits));
  EXPECT_THAT(ids, ElementsAre(343, 955, 486, 67, 676, 67, 195, 734));
}

TEST(Sampler, TemperatureZeroIsTheArgmaxWithTheLowestIdOnTies) {
  Sampler sampler({.temperature = 0}, 4);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 3, -1}), 1u);
  EXPECT_EQ(sampler.sample(std::vector<float>{-5, -kInfinity, -2, -3}), 2u);
}

TEST(Sampler, ATinyTemperatureIsTheArgmaxToo) {
  const auto logits = random_logits(1, 100);
  Sampler greedy({.temperature = 0}, 100);
  EXPECT_THAT(ids_drawn({.temperature = 1e-30f, .top_k = 1}, logits),
              ElementsAre(greedy.sample(logits)));
  EXPECT_THAT(ids_drawn({.temperature = 1e-45f}, {0.0f, 1.0f, 0.5f}), ElementsAre(1));
}

TEST(Sampler, TopKKeepsTheLikeliestAndOfEqualsTheLowestIds) {
  EXPECT_THAT(ids_drawn({.top_k = 2}, {1, 3, 2, 0}), ElementsAre(1, 2));
  EXPECT_THAT(ids_drawn({.top_k = 2}, {1, 2, 1, 1}), ElementsAre(0, 1));
  EXPECT_THAT(ids_drawn({.top_k = 1}, {1, 1, 1, 1}), ElementsAre(0));
  // Also where all weights but one are 0.
  EXPECT_THAT(ids_drawn({.temperature = 1e-3f, .top_k = 3}, {-9, 9, -8, -7}), ElementsAre(1));
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  const std::vector<float> logits = logits_of({0.1, 0.5, 0.15, 0.25});
  EXPECT_THAT(ids_drawn({.top_p = 0}, logits), ElementsAre(1));  // the likeliest always stays
  EXPECT_THAT(ids_drawn({.top_p = 0.01f}, logits), ElementsAre(1));
  EXPECT_THAT(ids_drawn({.top_p = 0.49f}, logits), ElementsAre(1));
  EXPECT_THAT(ids_drawn({.top_p = 0.51f}, logits), ElementsAre(1, 3));
  EXPECT_THAT(ids_drawn({.top_p = 0.76f}, logits), ElementsAre(1, 2, 3));
  EXPECT_THAT(ids_drawn({.top_p = 0.95f}, logits), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(ids_drawn({.top_p = 0.5f}, {0, 0, 0, 0}), ElementsAre(0, 1));
}

TEST(Sampler, TopPCountsWhatTopKHasLeft) {
  const std::vector<float> logits = logits_of({0.4, 0.3, 0.2, 0.1});
  // 0.4 is 0.57 of the two that are left.
  EXPECT_THAT(ids_drawn({.top_k = 2, .top_p = 0.56f}, logits), ElementsAre(0));
  EXPECT_THAT(ids_drawn({.top_p = 0.56f}, logits), ElementsAre(0, 1));
}

TEST(Sampler, MinPIsAShareOfTheHighestProbability) {
  const std::vector<float> logits = logits_of({0.08, 0.5, 0.3, 0.12});
  EXPECT_THAT(ids_drawn({.min_p = 0.2f}, logits), ElementsAre(1, 2, 3));
  EXPECT_THAT(ids_drawn({.min_p = 0.5f}, logits), ElementsAre(1, 2));
  EXPECT_THAT(ids_drawn({.min_p = 1.0f}, logits), ElementsAre(1));
  // After the temperature, as the reference does it.
  EXPECT_THAT(ids_drawn({.temperature = 0.1f, .min_p = 0.2f}, logits), ElementsAre(1));
}

TEST(Sampler, FiltersThatDropNothingChangeNothing) {
  const auto logits = random_logits(2, 300);
  const auto plain = sequence({.seed = 5}, logits);
  EXPECT_EQ(sequence({.top_k = 300, .seed = 5}, logits), plain);
  EXPECT_EQ(sequence({.top_k = 1000, .seed = 5}, logits), plain);
  EXPECT_EQ(sequence({.min_p = 1e-9f, .seed = 5}, logits), plain);
  EXPECT_EQ(sequence({.repetition_penalty = 1.0f, .penalty_window = 0, .seed = 5}, logits), plain);
  EXPECT_NE(sequence({.seed = 6}, logits), plain);
}

TEST(Sampler, TopKEqualsForbiddingTheRest) {
  const std::vector<float> logits = {0.5f, 2.0f, 1.0f, -1.0f, 1.5f, 0.0f};
  Sampler top({.top_k = 3, .seed = 9}, 6);
  Sampler forbidding({.seed = 9}, 6);
  const std::vector<uint32_t> rest = {0, 3, 5};
  for (int i = 0; i < 500; ++i) ASSERT_EQ(top.sample(logits), forbidding.sample(logits, rest));
}

TEST(Sampler, ForbiddenIdsAreNeverChosen) {
  const std::vector<uint32_t> forbidden = {1, 1, 99};
  Sampler greedy({.temperature = 0}, 3);
  EXPECT_EQ(greedy.sample(std::vector<float>{0, 5, 1}, forbidden), 2u);
  Sampler sampler({}, 3);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_NE(sampler.sample(std::vector<float>{0, 5, 1}, forbidden), 1u);
  }
}

TEST(Sampler, PenaltyDividesPositiveAndMultipliesNegativeLogits) {
  Sampler sampler({.temperature = 0, .repetition_penalty = 2}, 3);
  sampler.accept(0);
  EXPECT_EQ(sampler.sample(std::vector<float>{3.0f, 1.6f, 0.0f}), 1u);
  EXPECT_EQ(sampler.sample(std::vector<float>{3.0f, 1.4f, 0.0f}), 0u);
  EXPECT_EQ(sampler.sample(std::vector<float>{-1.0f, -1.9f, -9.0f}), 1u);
  EXPECT_EQ(sampler.sample(std::vector<float>{-1.0f, -2.1f, -9.0f}), 0u);
  sampler.accept(0);  // a second time counts no more
  EXPECT_EQ(sampler.sample(std::vector<float>{3.0f, 1.4f, 0.0f}), 0u);
}

TEST(Sampler, PenaltyForgetsWhatHasLeftItsWindow) {
  Sampler windowed({.temperature = 0, .repetition_penalty = 10, .penalty_window = 2}, 4);
  Sampler all({.temperature = 0, .repetition_penalty = 10, .penalty_window = 0}, 4);
  const std::vector<float> logits = {4, 3, 2, 1};
  const uint32_t accepted[] = {0, 0, 1, 2, 3};
  const uint32_t with_window[] = {1, 1, 2, 0, 0};
  const uint32_t with_all[] = {1, 1, 2, 3, 0};
  for (size_t i = 0; i < std::size(accepted); ++i) {
    windowed.accept(accepted[i]);
    all.accept(accepted[i]);
    EXPECT_EQ(windowed.sample(logits), with_window[i]) << i;
    EXPECT_EQ(all.sample(logits), with_all[i]) << i;
  }
}

TEST(Sampler, AnOverflowingPenaltyStaysComparable) {
  Sampler sampler({.temperature = 0, .repetition_penalty = 1e-30f}, 2);
  sampler.accept(0);
  EXPECT_EQ(sampler.sample(std::vector<float>{3e20f, 1.0f}), 0u);
  Sampler harsh({.repetition_penalty = 1e30f}, 2);
  harsh.accept(0);
  harsh.accept(1);
  EXPECT_LT(harsh.sample(std::vector<float>{-1e20f, -2e20f}), 2u);
}

std::string error_of(const std::vector<float>& logits, const std::vector<uint32_t>& forbidden = {},
                     float temperature = 1) {
  Sampler sampler({.temperature = temperature}, static_cast<uint32_t>(logits.size()));
  try {
    sampler.sample(logits, forbidden);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Sampler, LogitsThatAreNotFiniteAreAnError) {
  for (const float temperature : {0.0f, 1.0f}) {
    EXPECT_THAT(error_of({0, kNan, 1}, {}, temperature), HasSubstr("not finite: token 1"));
    EXPECT_THAT(error_of({0, 1, kInfinity}, {}, temperature), HasSubstr("not finite: token 2"));
    EXPECT_THAT(error_of({kNan, kNan}, {}, temperature), HasSubstr("not finite: token 0"));
    EXPECT_THAT(error_of({-kInfinity, -kInfinity}, {}, temperature),
                HasSubstr("no token may be chosen"));
    EXPECT_THAT(error_of({0, 1}, {0, 1}, temperature), HasSubstr("no token may be chosen"));
  }
}

TEST(Sampler, OptionsOutOfRangeAreErrorsNamingThem) {
  const auto option_error = [](const SamplingOptions& options) -> std::string {
    try {
      Sampler(options, 10);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(option_error({.temperature = -1}), HasSubstr("temperature is -1"));
  EXPECT_THAT(option_error({.temperature = kInfinity}), HasSubstr("temperature"));
  EXPECT_THAT(option_error({.temperature = kNan}), HasSubstr("temperature"));
  EXPECT_THAT(option_error({.top_p = -0.5f}), HasSubstr("top_p is -0.5"));
  EXPECT_THAT(option_error({.top_p = 1.5f}), HasSubstr("top_p"));
  EXPECT_THAT(option_error({.top_p = kNan}), HasSubstr("top_p"));
  EXPECT_THAT(option_error({.min_p = -0.1f}), HasSubstr("min_p"));
  EXPECT_THAT(option_error({.min_p = 1.1f}), HasSubstr("min_p"));
  EXPECT_THAT(option_error({.repetition_penalty = 0}), HasSubstr("repetition_penalty"));
  EXPECT_THAT(option_error({.repetition_penalty = kNan}), HasSubstr("repetition_penalty"));
  EXPECT_THROW(Sampler({}, 0), Error);
}

TEST(Sampler, AnIdOutsideTheVocabularyIsAnError) {
  Sampler sampler({}, 4);
  sampler.accept(3);
  EXPECT_THROW(sampler.accept(4), Error);
}

}  // namespace
}  // namespace sluice
