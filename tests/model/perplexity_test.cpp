#include "model/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "io/error.h"
#include "tests/model/golden_case.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

std::string error_of(uint64_t tokens, const WindowOptions& options) {
  try {
    (void)Windows(tokens, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

TEST(Windows, ScoreTheSecondHalfWithoutOverlap) {
  const Windows windows(1500, {.context = 512, .stride = 0, .most = 0});
  EXPECT_EQ(windows.count(), 2u);  // the 476 tokens left are no window
  EXPECT_EQ(windows.targets(), 255u);
  EXPECT_EQ(windows.at(1).begin, 512u);
  EXPECT_EQ(windows.at(1).tokens, 512u);
  EXPECT_EQ(windows.at(1).first_target, 257u);
  const Windows odd(7, {.context = 7, .stride = 0, .most = 0});
  EXPECT_EQ(odd.at(0).first_target, 4u);
  EXPECT_EQ(odd.targets(), 3u);
}

TEST(Windows, WithAStrideEachScoresItsLastTokens) {
  const Windows windows(1000, {.context = 512, .stride = 128, .most = 0});
  EXPECT_EQ(windows.count(), 4u);  // ceil((1000 - 512) / 128)
  EXPECT_EQ(windows.targets(), 128u);
  EXPECT_EQ(windows.at(3).begin, 384u);
  // One window's targets begin where the one before ended.
  const Window first = windows.at(0);
  const Window second = windows.at(1);
  EXPECT_EQ(second.begin + second.first_target, first.begin + first.tokens);
  EXPECT_EQ(Windows(512, {.context = 512, .stride = 128, .most = 0}).count(), 1u);
}

TEST(Windows, NeverReachPastTheTextAndStopAtTheMost) {
  for (uint64_t tokens = 16; tokens < 80; ++tokens) {
    for (uint64_t stride = 0; stride < 16; ++stride) {
      const Windows windows(tokens, {.context = 16, .stride = stride, .most = 0});
      const Window last = windows.at(windows.count() - 1);
      EXPECT_LE(last.begin + last.tokens, tokens) << tokens << " " << stride;
    }
  }
  EXPECT_EQ(Windows(5000, {.context = 512, .stride = 0, .most = 3}).count(), 3u);
}

TEST(Windows, RefuseWhatCannotBeScored) {
  EXPECT_THAT(error_of(100, {.context = 512, .stride = 0, .most = 0}), HasSubstr("100 tokens"));
  EXPECT_THAT(error_of(100, {.context = 3, .stride = 0, .most = 0}), HasSubstr("too short"));
  EXPECT_THAT(error_of(100, {.context = 50, .stride = 50, .most = 0}), HasSubstr("stride of 50"));
}

TEST(NegativeLogLikelihood, IsTheSoftmaxsAndSurvivesLargeLogits) {
  EXPECT_NEAR(negative_log_likelihood(std::vector<float>(8, 3.0f), 5), std::log(8.0), 1e-12);
  const std::vector<float> large = {10000.0f, 9999.0f};
  EXPECT_NEAR(negative_log_likelihood(large, 1), 1 + std::log1p(std::exp(-1.0)), 1e-12);
}

TEST(NegativeLogLikelihood, RefusesLogitsThatAreNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_THROW(negative_log_likelihood(std::vector<float>{1, infinity}, 0), Error);
  EXPECT_THROW(negative_log_likelihood(std::vector<float>{1, std::nanf("")}, 0), Error);
  EXPECT_THROW(negative_log_likelihood(std::vector<float>{std::nanf(""), 1}, 0), Error);
}

TEST(CompareLogits, IsZeroForTheSameUpToAConstant) {
  const std::vector<float> a = {0.5f, -1.0f, 2.0f};
  EXPECT_EQ(compare_logits(a, a).divergence, 0);
  EXPECT_TRUE(compare_logits(a, a).same_top);
  const std::vector<float> shifted = {1.5f, 0.0f, 3.0f};
  EXPECT_NEAR(compare_logits(a, shifted).divergence, 0, 1e-15);
}

TEST(CompareLogits, IsTheDivergenceFromTheReference) {
  // p = (3/4, 1/4), q = (1/4, 3/4): KL = 1/2 ln 3; and not symmetric in general.
  const std::vector<float> p = {std::log(3.0f), 0};
  const std::vector<float> q = {0, std::log(3.0f)};
  EXPECT_NEAR(compare_logits(p, q).divergence, 0.5 * std::log(3.0), 1e-7);
  EXPECT_FALSE(compare_logits(p, q).same_top);
  // p = (3/4, 1/4) against (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2).
  const std::vector<float> even = {0, 0};
  EXPECT_NEAR(compare_logits(p, even).divergence, 0.75 * std::log(1.5) + 0.25 * std::log(0.5),
              1e-7);
}

TEST(LikelihoodSum, GivesPerplexityAndItsStandardError) {
  LikelihoodSum sum;
  EXPECT_TRUE(std::isnan(sum.perplexity()));
  sum.add(1);
  EXPECT_TRUE(std::isnan(sum.perplexity_error()));
  sum.add(2);
  sum.add(3);
  EXPECT_EQ(sum.tokens(), 3u);
  EXPECT_NEAR(sum.perplexity(), std::exp(2.0), 1e-12);
  // The variance of the three is 2/3, of their mean 2/3 / (3 - 1).
  EXPECT_NEAR(sum.perplexity_error(), std::exp(2.0) * std::sqrt(1.0 / 3), 1e-12);
}

TEST(DivergenceSum, FindsRanksAgreementAndTheWorst) {
  DivergenceSum sum;
  EXPECT_EQ(sum.summary().tokens, 0u);
  for (uint32_t i = 0; i < 200; ++i) {
    const uint32_t value = i * 77 % 200;  // 0...199 in some order
    sum.add({.position = 1000 + i, .id = i, .logits = {}},
            {.divergence = value + 1.0, .same_top = i % 4 != 0});
  }
  const DivergenceSummary summary = sum.summary();
  EXPECT_EQ(summary.tokens, 200u);
  EXPECT_DOUBLE_EQ(summary.mean, 100.5);
  EXPECT_EQ(summary.median, 100);
  EXPECT_EQ(summary.percentile_99, 198);
  EXPECT_DOUBLE_EQ(summary.top_agreement, 0.75);
  EXPECT_EQ(summary.worst, 200);
  EXPECT_EQ(summary.worst_id * 77 % 200, 199u);
  EXPECT_EQ(summary.worst_position, 1000 + summary.worst_id);
}

// Whole windows of a model, with the original implementation's logits as judge.
class RunWindows : public testing::Test {
 protected:
  RunWindows() : golden_("qwen3_moe"), model_(load()), session_(model_) {}

  Model load() const {
    ModelOptions options;
    options.compute = Compute::f32;
    return Model::load(golden_.directory, options);
  }
  std::vector<double> likelihoods(const EvaluationText& text, const WindowOptions& options) {
    std::vector<double> all;
    const WindowCalls calls = {.token =
                                   [&](const ScoredToken& token) {
                                     EXPECT_EQ(token.id, text.ids[token.position]);
                                     all.push_back(negative_log_likelihood(token.logits, token.id));
                                   },
                               .window = {},
                               .progress = {},
                               .should_stop = {}};
    const Windows windows(text.ids.size(), options);
    EXPECT_EQ(run_windows(session_, text, windows, calls), windows.count());
    return all;
  }

  GoldenCase golden_;
  Model model_;
  Session session_;
};

TEST_F(RunWindows, ScoresWhatTheReferencePredicts) {
  const uint64_t n = golden_.ids.size();
  const auto scored = likelihoods({.ids = golden_.ids, .beginning_token = {}},
                                  {.context = n, .stride = 0, .most = 0});
  ASSERT_EQ(scored.size(), n - n / 2 - 1);
  for (size_t i = 0; i < scored.size(); ++i) {
    const size_t target = n / 2 + 1 + i;
    const auto logits = golden_.logits_at(target - 1);
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit);
    // The logits are within 2e-4 of the reference's, and so are log-probabilities within twice
    // that.
    EXPECT_NEAR(scored[i], std::log(sum) - logits[golden_.ids[target]], 4e-4) << i;
  }
}

TEST_F(RunWindows, EachWindowBeginsAnew) {
  std::vector<uint32_t> twice = golden_.ids;
  twice.insert(twice.end(), golden_.ids.begin(), golden_.ids.end());
  const WindowOptions options = {.context = golden_.ids.size(), .stride = 0, .most = 0};
  const auto once = likelihoods({.ids = golden_.ids, .beginning_token = {}}, options);
  auto expected = once;
  expected.insert(expected.end(), once.begin(), once.end());
  EXPECT_EQ(likelihoods({.ids = twice, .beginning_token = {}}, options), expected);
}

TEST_F(RunWindows, ABeginningTokenTakesTheFirstTokensPlace) {
  const WindowOptions options = {.context = golden_.ids.size(), .stride = 0, .most = 0};
  std::vector<uint32_t> replaced = golden_.ids;
  replaced.front() = 7;
  EXPECT_EQ(likelihoods({.ids = golden_.ids, .beginning_token = 7}, options),
            likelihoods({.ids = replaced, .beginning_token = {}}, options));
  EXPECT_NE(likelihoods({.ids = golden_.ids, .beginning_token = 7}, options),
            likelihoods({.ids = golden_.ids, .beginning_token = {}}, options));
}

TEST_F(RunWindows, AStrideScoresTheLastTokensOfEveryWindow) {
  const uint64_t n = golden_.ids.size();
  const WindowOptions whole = {.context = n, .stride = n - 1, .most = 0};
  const auto all = likelihoods({.ids = golden_.ids, .beginning_token = {}}, whole);
  EXPECT_EQ(all.size(), n - 1);
  const auto last = likelihoods({.ids = golden_.ids, .beginning_token = {}},
                                {.context = n, .stride = 3, .most = 0});
  EXPECT_EQ(last, std::vector<double>(all.end() - 3, all.end()));
}

TEST_F(RunWindows, StopsWithTheWindowsThatAreComplete) {
  std::vector<uint32_t> ids;
  for (int i = 0; i < 5; ++i) ids.insert(ids.end(), golden_.ids.begin(), golden_.ids.end());
  const EvaluationText text = {.ids = ids, .beginning_token = {}};
  const Windows windows(ids.size(), {.context = golden_.ids.size(), .stride = 0, .most = 0});
  uint64_t complete = 0;
  uint64_t tokens = 0;
  const WindowCalls calls = {.token = [&](const ScoredToken&) { ++tokens; },
                             .window = [&](uint64_t done) { complete = done; },
                             .progress = {},
                             .should_stop = [&] { return complete == 2; }};
  EXPECT_EQ(run_windows(session_, text, windows, calls), 2u);
  EXPECT_EQ(tokens, 2 * windows.targets());
}

TEST(TokenizeText, FindsWhatStandsBeforeEveryText) {
  const Tokenizer plain = Tokenizer::load(SLUICE_TEST_DATA "/../../tools/demo/sluice-demo-tq3");
  const EvaluationText text = tokenize_text(plain, "Once upon a time");
  EXPECT_FALSE(text.beginning_token.has_value());
  EXPECT_EQ(text.ids, plain.encode("Once upon a time", false));

  for (const char* name : {"small_llama3", "small_spm_legacy"}) {
    SCOPED_TRACE(name);
    const Tokenizer with = Tokenizer::load(std::string(SLUICE_TEST_DATA "/tokenizers/") + name);
    const EvaluationText begun = tokenize_text(with, "Once upon a time");
    ASSERT_TRUE(begun.beginning_token.has_value());
    EXPECT_TRUE(with.is_special(*begun.beginning_token));
    EXPECT_EQ(begun.ids.front(), *begun.beginning_token);
  }
}

}  // namespace
}  // namespace sluice
