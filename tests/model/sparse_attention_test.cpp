// Attention to chosen positions, on the golden deepseek_v32. It has five choices between positions
// of equal scores, which here go to the earlier one and in the original to whichever its sort left
// in front; the tokens after them differ. So the expected logits are those of the double precision
// reference with the rule of this project, which reference_test.cpp compares with the original's.

#include <gtest/gtest.h>

#include <cmath>

#include "model/session.h"
#include "tests/model/golden_case.h"
#include "tests/reference/deepseek.h"

namespace sluice {
namespace {

class SparseAttention : public testing::Test {
 protected:
  static ModelOptions options(Compute compute) {
    ModelOptions options;
    options.compute = compute;
    options.budget.kind = BudgetRequest::Kind::all;
    options.threads = 2;
    return options;
  }

  reference::Matrix expected(const std::vector<uint32_t>& ids) const {
    const auto choose = [](uint32_t, uint32_t, const reference::Vector& scores, uint32_t count) {
      return reference::highest_then_earliest(scores, count);
    };
    return reference::run_deepseek_v32(golden_.directory, ids, choose);
  }

  static uint32_t best(const reference::Matrix& logits, Eigen::Index position) {
    Eigen::Index index = 0;
    logits.row(position).maxCoeff(&index);
    return static_cast<uint32_t>(index);
  }

  GoldenCase golden_{"deepseek_v32"};
};

TEST_F(SparseAttention, LogitsAtEveryPositionAreTheReferencesInFloat32) {
  Model model = Model::load(golden_.directory, options(Compute::f32));
  Session session(model);
  const std::vector<float> logits = prefill_logits(session, golden_.ids);
  const reference::Matrix reference = expected(golden_.ids);
  ASSERT_EQ(logits.size(), static_cast<size_t>(reference.size()));
  double worst = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(logits[i]) - reference.data()[i]));
  }
  EXPECT_LE(worst, 2e-4);
  for (size_t t = 0; t < golden_.ids.size(); ++t) {
    const auto ours = std::span(logits).subspan(t * golden_.vocabulary, golden_.vocabulary);
    EXPECT_EQ(argmax(ours), best(reference, static_cast<Eigen::Index>(t))) << "at position " << t;
  }
  RecordProperty("largest_difference", std::to_string(worst));
}

TEST_F(SparseAttention, LogitsAreTheOriginalsUpToTheFirstChoiceBetweenEqualScores) {
  constexpr size_t kFirstChoice = 8;
  Model model = Model::load(golden_.directory, options(Compute::f32));
  Session session(model);
  const std::vector<float> logits = prefill_logits(session, golden_.ids);
  for (size_t i = 0; i < kFirstChoice * golden_.vocabulary; ++i) {
    ASSERT_NEAR(static_cast<double>(logits[i]), golden_.logits[i], 2e-4);
  }
}

TEST_F(SparseAttention, GreedyDecodingTokenByTokenContinuesAsTheReferenceDoes) {
  Model model = Model::load(golden_.directory, options(Compute::f32));
  Session session(model);
  std::vector<uint32_t> ids(golden_.ids.data(), golden_.ids.data() + golden_.prompt_length);
  std::span<const float> logits = session.prefill(ids);
  while (ids.size() < golden_.ids.size()) {
    const uint32_t next = best(expected(ids), static_cast<Eigen::Index>(ids.size()) - 1);
    ASSERT_EQ(argmax(logits), next) << "at position " << ids.size();
    ids.push_back(next);
    logits = session.decode(next);
  }
}

}  // namespace
}  // namespace sluice
