// The forward pass in float32 against the original implementation's logits.

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "model/session.h"
#include "tests/model/golden_case.h"

namespace sluice {
namespace {

// The goldens were computed in float32 by other kernels. Logits have a spread of about 1.3; float32
// rounding over these depths leaves differences of some 1e-6, and 2e-4 is the project's bound.
constexpr double kTolerance = 2e-4;

class Golden : public testing::TestWithParam<std::string> {
 protected:
  static ModelOptions options(Compute compute) {
    ModelOptions options;
    options.compute = compute;
    options.budget.kind = BudgetRequest::Kind::all;
    options.threads = 2;
    return options;
  }

  Model load(Compute compute) { return Model::load(golden_.directory, options(compute)); }

  std::vector<float> all_logits(const ModelOptions& options) {
    Model model = Model::load(golden_.directory, options);
    Session session(model);
    return prefill_logits(session, golden_.ids);
  }

  GoldenCase golden_{GetParam()};
};

class GoldenChunks : public Golden {};
class GoldenExperts : public Golden {};

TEST_P(Golden, LogitsAtEveryPositionAreTheOriginalsInFloat32) {
  Model model = load(Compute::f32);
  Session session(model);
  const std::vector<float> logits = prefill_logits(session, golden_.ids);
  ASSERT_EQ(logits.size(), golden_.logits.size());
  double worst = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(logits[i]) - golden_.logits[i]));
  }
  EXPECT_LE(worst, kTolerance);
  for (size_t t = 0; t < golden_.ids.size(); ++t) {
    const auto ours = std::span(logits).subspan(t * golden_.vocabulary, golden_.vocabulary);
    EXPECT_EQ(argmax(ours), argmax(golden_.logits_at(t))) << "at position " << t;
  }
  RecordProperty("largest_difference", std::to_string(worst));
}

TEST_P(Golden, GreedyDecodingTokenByTokenContinuesAsTheOriginalDoes) {
  Model model = load(Compute::f32);
  Session session(model);
  const std::span<const uint32_t> prompt(golden_.ids.data(), golden_.prompt_length);
  std::span<const float> logits = session.prefill(prompt);
  for (size_t t = golden_.prompt_length; t < golden_.ids.size(); ++t) {
    const uint32_t next = argmax(logits);
    ASSERT_EQ(next, golden_.ids[t]) << "at position " << t;
    logits = session.decode(next);
  }
}

TEST_P(GoldenChunks, ChunksOfThePromptNeverChangeABit) {
  for (const Compute compute : {Compute::f32, Compute::int16}) {
    ModelOptions chunked = options(compute);
    const std::vector<float> whole = all_logits(chunked);
    for (const uint32_t chunk : {1u, 3u, 8u}) {
      chunked.prefill_chunk = chunk;
      EXPECT_TRUE(same_bits(all_logits(chunked), whole)) << "chunks of " << chunk;
    }
  }
}

TEST_P(GoldenExperts, ABudgetOfOneTokensExpertsNeverChangesABit) {
  for (const Compute compute : {Compute::f32, Compute::int16}) {
    ModelOptions least = options(compute);
    Model model = Model::load(golden_.directory, least);
    const std::vector<float> expected = all_logits(least);
    least.budget = {.kind = BudgetRequest::Kind::fixed, .bytes = model.plan().floor_bytes};
    for (const uint32_t chunk : {1u, 3u, 8u, 512u}) {
      least.prefill_chunk = chunk;
      EXPECT_TRUE(same_bits(all_logits(least), expected)) << "chunks of " << chunk;
    }
    Model small = Model::load(golden_.directory, least);
    EXPECT_EQ(small.cache_slots(), small.config().experts_per_token);
  }
}

// The default mode rounds inputs to 16 bits and centroids to 9; its error on these tiny networks is
// bounded as a share of the logits' spread.
TEST_P(Golden, DefaultComputeStaysNearTheOriginal) {
  Model model = load(Compute::int16);
  Session session(model);
  const std::vector<float> logits = prefill_logits(session, golden_.ids);
  double difference = 0, sum = 0, squares = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    difference += std::abs(static_cast<double>(logits[i]) - golden_.logits[i]);
    sum += golden_.logits[i];
    squares += golden_.logits[i] * golden_.logits[i];
  }
  const auto count = static_cast<double>(logits.size());
  const double spread = std::sqrt(squares / count - (sum / count) * (sum / count));
  EXPECT_LE(difference / count, 0.02 * spread);
  for (size_t t = 0; t < golden_.ids.size(); ++t) {
    std::vector<double> expected(golden_.logits_at(t).begin(), golden_.logits_at(t).end());
    const auto ours = std::span(logits).subspan(t * golden_.vocabulary, golden_.vocabulary);
    std::vector<double> sorted = expected;
    std::sort(sorted.rbegin(), sorted.rend());
    if (sorted[0] - sorted[1] > 0.1) {
      EXPECT_EQ(argmax(ours), argmax(expected)) << "at position " << t;
    }
  }
}

std::vector<std::string> dense_cases() {
  return {"llama", "llama3_rope", "mistral", "qwen2", "qwen3", "qwen3_5", "nemotron_h_dense"};
}

std::vector<std::string> moe_cases() {
  return {"mixtral",
          "olmoe",
          "qwen2_moe",
          "qwen3_moe",
          "glm4_moe",
          "minimax_m2",
          "gpt_oss",
          "gpt_oss_mxfp4",
          "deepseek_v2",
          "deepseek_v2_lite",
          "deepseek_v3",
          "deepseek_v3_fp8",
          "deepseek_v32_distinct",
          "qwen3_next",
          "qwen3_5_moe",
          "nemotron_h",
          "nemotron_h_latent",
          "tq3_qwen3_5_moe",
          "tq3_qwen3_moe",
          "tq4_qwen3_moe",
          "tq3a_tq2e_qwen3_moe",
          "tq3_qwen3_moe_h12",
          "tq3_qwen3_moe_h20_h28",
          "tq3_qwen3_moe_blockwise"};
}

std::string case_name(const testing::TestParamInfo<std::string>& test) { return test.param; }

INSTANTIATE_TEST_SUITE_P(Dense, Golden, testing::ValuesIn(dense_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Moe, Golden, testing::ValuesIn(moe_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Dense, GoldenChunks, testing::ValuesIn(dense_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Moe, GoldenChunks, testing::ValuesIn(moe_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Moe, GoldenExperts, testing::ValuesIn(moe_cases()), case_name);
// Its logits are compared in sparse_attention_test.cpp.
INSTANTIATE_TEST_SUITE_P(Sparse, GoldenChunks, testing::Values("deepseek_v32"), case_name);
INSTANTIATE_TEST_SUITE_P(Sparse, GoldenExperts, testing::Values("deepseek_v32"), case_name);

}  // namespace
}  // namespace sluice
