// What the headers say of a model is what loading it takes, at any size.

#include "model/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/error.h"
#include "tests/io/temporary_directory.h"
#include "tests/model/sparse_checkpoint.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

struct Measured {
  explicit Measured(const std::string& directory, const ModelOptions& options = {},
                    const MemoryLimits& memory = memory_limits())
      : config(read_config(directory)), checkpoint(Checkpoint::open(directory)) {
    declare_model(config, checkpoint, experts, trunk);
    measure = measure_model(config, options, *trunk, experts, memory);
  }
  ModelConfig config;
  Checkpoint checkpoint;
  std::optional<ExpertSource> experts;
  std::optional<Trunk> trunk;
  ModelMeasure measure;
};

TEST(Measure, IsWhatTheLoaderPlansWith) {
  for (const char* name : {"qwen3", "qwen3_moe", "tq3_qwen3_moe"}) {
    SCOPED_TRACE(name);
    const std::string directory = std::string(SLUICE_TEST_DATA "/goldens/") + name;
    ModelOptions options;
    options.threads = 3;
    options.context = 64;
    options.logits_batch = 4;
    const Measured measured(directory, options);
    const MemoryPlan plan = compute_plan(measured.measure.inputs);
    const Model model = Model::load(directory, options);
    EXPECT_EQ(plan.trunk_bytes, model.plan().trunk_bytes);
    EXPECT_EQ(plan.kv_bytes, model.plan().kv_bytes);
    EXPECT_EQ(plan.scratch_bytes, model.plan().scratch_bytes);
    EXPECT_EQ(plan.cache_bytes, model.plan().cache_bytes);
    EXPECT_EQ(plan.floor_bytes, model.plan().floor_bytes);
    EXPECT_EQ(measured.measure.limits.context, model.context());
  }
}

TEST(Measure, MoreLogitsAtOnceAreMoreScratch) {
  const std::string directory = SLUICE_TEST_DATA "/goldens/qwen3_moe";
  ModelOptions many;
  many.logits_batch = 65;
  const Measured one(directory);
  const Measured more(directory, many);
  const uint64_t row_bytes = uint64_t{one.config.vocabulary} * sizeof(float);
  const uint64_t grown = more.measure.inputs.scratch_bytes - one.measure.inputs.scratch_bytes;
  EXPECT_NEAR(static_cast<double>(grown), 64.0 * static_cast<double>(row_bytes), 4096);
}

// 61 layers of 256 experts: 687 billion weights in 47,000 tensors.
TEST(Measure, AModelOf700BillionWeightsIsPlannedFromItsHeaders) {
  const SyntheticShape shape = {.layers = 61,
                                .hidden = 7168,
                                .heads = 64,
                                .kv_heads = 8,
                                .head_dim = 128,
                                .vocabulary = 129280,
                                .experts = 256,
                                .experts_per_token = 8,
                                .expert_intermediate = 2048};
  const TemporaryDirectory temporary;
  if (!write_sparse_checkpoint(temporary.path(), shape)) {
    GTEST_SKIP() << "this filesystem does not take sparse files of 23 GB";
  }
  constexpr uint64_t kGigabyte = 1'000'000'000;
  const MemoryLimits memory = {.total_bytes = 64 * kGigabyte,
                               .available_bytes = 64 * kGigabyte,
                               .cgroup_limit_bytes = {},
                               .cgroup_used_bytes = 0};
  const Measured measured(temporary.path().string(), {}, memory);
  const MemoryPlan plan = plan_memory(measured.measure.inputs);
  const uint64_t expert_bytes = uint64_t{3} * 7168 * 2048 * 2;
  EXPECT_EQ(plan.expert_total_bytes, 61 * 256 * expert_bytes);
  EXPECT_GE(plan.floor_bytes, 8 * expert_bytes);
  EXPECT_LE(plan.floor_bytes, 8 * (expert_bytes + (64 << 10)));
  EXPECT_EQ(plan.working_set_bytes, 61 * plan.floor_bytes);
  EXPECT_LE(plan.total_bytes() - plan.process_bytes, 60 * kGigabyte);  // with auto's margin
  EXPECT_TRUE(plan.below_working_set());
  EXPECT_NEAR(static_cast<double>(plan.kv_bytes), 4096.0 * 61 * 2 * 8 * 128 * 2, 8192);
}

TEST(PlanProblem, NamesWhatIsMissingAndIsEmptyWhereNothingIs) {
  const std::string directory = SLUICE_TEST_DATA "/goldens/qwen3_moe";
  Measured measured(directory);
  PlanInputs inputs = measured.measure.inputs;
  EXPECT_EQ(plan_problem(compute_plan(inputs), inputs), "");
  inputs.limits = {.total_bytes = 1000, .available_bytes = 1000, .cgroup_limit_bytes = {}};
  EXPECT_THAT(plan_problem(compute_plan(inputs), inputs), HasSubstr("not enough memory"));
  inputs.budget = {.kind = BudgetRequest::Kind::fixed, .bytes = 1};
  EXPECT_THAT(plan_problem(compute_plan(inputs), inputs), HasSubstr("below the floor"));
  EXPECT_THROW(plan_memory(inputs), Error);
}

}  // namespace
}  // namespace sluice
