// A checkpoint whose experts, projections and embeddings are stored in a format with scales gives
// what the same weights give as plain F32, streams with one token's experts, and repacks.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "io/error.h"
#include "model/repack.h"
#include "model/session.h"
#include "tests/io/temporary_directory.h"
#include "tests/model/golden_case.h"
#include "tests/model/stored_checkpoint.h"

namespace sluice {
namespace {

struct Case {
  std::string name;
  StoredPlan plan;
};
void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

Store affine(uint64_t bits, uint64_t group, DType scales) {
  return [=](const std::vector<double>& weights, uint64_t rows, uint64_t cols) {
    return store_affine(weights, rows, cols, bits, std::min(group, cols), scales);
  };
}
Store mxfp4(bool blocks) {
  return [=](const std::vector<double>& weights, uint64_t rows, uint64_t cols) {
    return store_mxfp4(weights, rows, cols, blocks);
  };
}
Store f8(uint64_t side) {
  return [=](const std::vector<double>& weights, uint64_t rows, uint64_t cols) {
    return store_f8(weights, rows, cols, side);
  };
}

std::vector<Case> cases() {
  const std::string fp8 = R"({"quant_method": "fp8", "weight_block_size": [32, 32]})";
  std::vector<Case> cases = {
      {"f8_single", {.store = f8(32), .quantization = fp8, .stacked = false}},
      {"f8_of_16_columns", {.store = f8(16), .quantization = fp8, .stacked = false}},
      {"f8_stacked_with_head", {.store = f8(128), .quantization = fp8, .embeddings = true}},
      {"mxfp4_blocks",
       {.store = mxfp4(true), .quantization = R"({"quant_method": "mxfp4"})", .stack = "experts"}},
      {"mxfp4_words",
       {.store = mxfp4(false), .quantization = R"({"mode": "mxfp4"})", .embeddings = true}},
      {"affine_single",
       {.store = affine(4, 32, DType::bf16), .quantization = R"({"bits": 4})", .stacked = false}},
  };
  for (const uint64_t bits : {2u, 3u, 4u, 5u, 6u, 8u}) {
    cases.push_back(
        {"affine_" + std::to_string(bits) + "_bits",
         {.store = affine(bits, bits % 2 == 0 ? 64 : 32, bits % 4 == 0 ? DType::f16 : DType::bf16),
          .quantization = R"({"group_size": 64, "bits": )" + std::to_string(bits) + "}",
          .embeddings = true}});
  }
  return cases;
}

class WeightFormats : public testing::TestWithParam<Case> {
 protected:
  WeightFormats() : checkpoint_(GetParam().plan, stored_, plain_) {}

  static ModelOptions options(Compute compute) {
    ModelOptions options;
    options.compute = compute;
    options.budget.kind = BudgetRequest::Kind::all;
    options.threads = 2;
    return options;
  }
  std::vector<float> logits(const std::filesystem::path& model, const ModelOptions& options) const {
    Model loaded = Model::load(model.string(), options);
    Session session(loaded);
    return prefill_logits(session, golden_.ids);
  }

  const TemporaryDirectory directory_;
  const std::filesystem::path stored_ = directory_.path() / "stored";
  const std::filesystem::path plain_ = directory_.path() / "plain";
  const GoldenCase golden_{GetParam().plan.golden};
  const StoredCheckpoint checkpoint_;
};

TEST_P(WeightFormats, GiveTheLogitsOfTheirWeightsAsPlainFloats) {
  const std::vector<float> expected = logits(plain_, options(Compute::f32));
  const std::vector<float> exact = logits(stored_, options(Compute::f32));
  const std::vector<float> rounded = logits(stored_, options(Compute::int16));
  ASSERT_EQ(exact.size(), expected.size());
  ASSERT_EQ(rounded.size(), expected.size());
  double worst = 0, difference = 0, squares = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    worst = std::max(worst, static_cast<double>(std::abs(exact[i] - expected[i])));
    difference += static_cast<double>(std::abs(rounded[i] - expected[i]));
    squares += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  // Float32 rounding over these depths leaves some 1e-6.
  EXPECT_LE(worst, 2e-5);
  const auto count = static_cast<double>(expected.size());
  EXPECT_LE(difference / count, 0.02 * std::sqrt(squares / count));
}

TEST_P(WeightFormats, GiveTheSameBitsInAnyChunksWithOneTokensExpertsAndFromRecords) {
  const std::filesystem::path records = directory_.path() / "records";
  repack({.model = stored_, .out = records, .verify = true, .threads = 2}, {});
  for (const Compute compute : {Compute::f32, Compute::int16}) {
    ModelOptions least = options(compute);
    const std::vector<float> expected = logits(stored_, least);
    EXPECT_TRUE(same_bits(logits(records, least), expected)) << "records";
    const uint64_t floor = Model::load(stored_.string(), least).plan().floor_bytes;
    least.budget = {.kind = BudgetRequest::Kind::fixed, .bytes = floor};
    for (const uint32_t chunk : {1u, 3u, 512u}) {
      least.prefill_chunk = chunk;
      EXPECT_TRUE(same_bits(logits(stored_, least), expected)) << "chunks of " << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, WeightFormats, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace sluice
