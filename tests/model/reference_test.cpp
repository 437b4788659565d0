// The reference forward pass against the original implementation's logits and hidden states.

#include "tests/reference/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <vector>

#include "io/error.h"
#include "tests/reference/deepseek.h"

namespace sluice::reference {
namespace {

const std::string kGoldens = SLUICE_TEST_DATA "/goldens/";

// The goldens were computed in float32, whose rounding is all that may differ from double
// precision: on values up to about 6, sums of a few hundred terms over three layers leave some
// 5e-6.
constexpr double kTolerance = 1e-5;

std::vector<double> golden(const std::string& name, const std::string& tensor) {
  return read_all_values(kGoldens + name + "/golden.safetensors", tensor);
}

std::vector<uint32_t> golden_ids(const std::string& name) {
  const std::vector<double> values = golden(name, "input_ids");
  return {values.begin(), values.end()};
}

double largest_difference(const Matrix& ours, const double* theirs) {
  const Eigen::Map<const Matrix> map(theirs, ours.rows(), ours.cols());
  return (ours - map).cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
}

class Reference : public testing::TestWithParam<const char*> {};

TEST_P(Reference, GivesTheHiddenStatesAndLogitsOfTheOriginalAtEveryPosition) {
  const std::vector<double> states = golden(GetParam(), "hidden_states");
  const std::vector<double> logits = golden(GetParam(), "logits");
  const Output output = run(kGoldens + GetParam(), golden_ids(GetParam()));
  const auto layer_size = static_cast<size_t>(output.hidden_states.front().size());
  ASSERT_EQ(layer_size * output.hidden_states.size(), states.size());
  for (size_t layer = 0; layer < output.hidden_states.size(); ++layer) {
    EXPECT_LT(largest_difference(output.hidden_states[layer], states.data() + layer * layer_size),
              kTolerance)
        << "after layer " << layer;
  }
  ASSERT_EQ(static_cast<size_t>(output.logits.size()), logits.size());
  EXPECT_LT(largest_difference(output.logits, logits.data()), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Goldens, Reference,
                         testing::Values("qwen3", "qwen3_moe", "tq3_qwen3_moe", "tq4_qwen3_moe",
                                         "tq3a_tq2e_qwen3_moe", "tq3_qwen3_moe_h12",
                                         "tq3_qwen3_moe_h20_h28", "tq3_qwen3_moe_blockwise"),
                         [](const auto& instance) { return std::string(instance.param); });

// The original left five choices between equal scores of 0 to the order in which a partial sort
// happened to leave them. With those made as it made them, all the rest is the original's.
TEST(ReferenceDeepseekV32, GivesTheLogitsOfTheOriginalWhereEqualScoresFellAsTheyDid) {
  struct Passed {
    uint32_t layer, token, position;
  };
  constexpr std::array kPassed = {Passed{1, 8, 3},  Passed{1, 10, 3}, Passed{1, 10, 5},
                                  Passed{1, 28, 7}, Passed{2, 8, 6},  Passed{2, 9, 5}};
  const auto choose = [&](uint32_t layer, uint32_t token, Vector scores, uint32_t count) {
    for (const Passed& passed : kPassed) {
      if (passed.layer != layer || passed.token != token) continue;
      EXPECT_EQ(scores(passed.position), 0);
      scores(passed.position) = -1e-12;  // behind the others of 0
    }
    return highest_then_earliest(scores, count);
  };
  const std::vector<double> logits = golden("deepseek_v32", "logits");
  const Matrix ours =
      run_deepseek_v32(kGoldens + "deepseek_v32", golden_ids("deepseek_v32"), choose);
  ASSERT_EQ(static_cast<size_t>(ours.size()), logits.size());
  EXPECT_LT(largest_difference(ours, logits.data()), kTolerance);
}

TEST(ReferenceChoices, AreDistinctExpertsWithWeightsThatFallAndSumToOne) {
  const Output output = run(kGoldens + "qwen3_moe", golden_ids("qwen3_moe"));
  ASSERT_EQ(output.choices.size(), 3u);
  for (const auto& layer : output.choices) {
    ASSERT_EQ(static_cast<Eigen::Index>(layer.size()), output.logits.rows());
    for (const std::vector<Choice>& token : layer) {
      ASSERT_EQ(token.size(), 2u);
      EXPECT_NE(token[0].expert, token[1].expert);
      EXPECT_GE(token[0].weight, token[1].weight);
      EXPECT_NEAR(token[0].weight + token[1].weight, 1, 1e-12);
    }
  }
}

TEST(ReferenceChoices, AreEmptyForDenseModels) {
  for (const auto& layer : run(kGoldens + "qwen3", {1, 2, 3}).choices) EXPECT_TRUE(layer.empty());
}

TEST(ReferenceInput, TokensOutsideTheVocabularyAreRefused) {
  EXPECT_THROW(run(kGoldens + "qwen3", {257}), Error);
}

// Rows of a Hadamard matrix are orthogonal for every order of table.
TEST(ReferenceHadamard, MatricesAreOrthonormal) {
  for (const uint64_t n : {1u, 64u, 96u, 160u, 224u, 288u, 2880u}) {
    const Matrix h = hadamard_matrix(n);
    EXPECT_LT((h * h.transpose() - Matrix::Identity(h.rows(), h.rows())).cwiseAbs().maxCoeff(),
              1e-12)
        << n;
  }
}

TEST(ReferenceHadamard, RunsAreTheLargestThatDivideTheDimension) {
  const std::vector<uint64_t> dimensions = {2048, 768, 2880, 7168, 11008, 13824, 97, 288};
  std::vector<uint64_t> runs;
  std::transform(dimensions.begin(), dimensions.end(), std::back_inserter(runs), hadamard_run);
  EXPECT_THAT(runs, testing::ElementsAre(2048, 768, 320, 7168, 256, 1536, 1, 96));
}

}  // namespace
}  // namespace sluice::reference
