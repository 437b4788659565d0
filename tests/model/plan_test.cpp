#include "model/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/error.h"
#include "model/network.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kGigabyte = 1'000'000'000;

// 3 layers of 8 experts, 2 of them per token.
class Plan : public testing::Test {
 protected:
  MemoryPlan plan(BudgetRequest budget) {
    inputs_.experts = &source_;
    inputs_.experts_per_token = 2;
    inputs_.budget = budget;
    return plan_memory(inputs_);
  }
  std::string error(BudgetRequest budget) {
    try {
      plan(budget);
    } catch (const Error& failure) {
      return failure.what();
    }
    return "none";
  }
  static BudgetRequest fixed(uint64_t bytes) {
    return {.kind = BudgetRequest::Kind::fixed, .bytes = bytes};
  }

  const std::string directory_ = SLUICE_TEST_DATA "/goldens/qwen3_moe";
  const ModelConfig config_ = read_config(directory_);
  const ExpertSource source_{Checkpoint::open(directory_), expert_names(config_)};
  PlanInputs inputs_ = {.process_bytes = 10'000'000,
                        .trunk_bytes = 200'000'000,
                        .kv_bytes = 50'000'000,
                        .scratch_bytes = 25'000'000,
                        .limits = {.total_bytes = 16 * kGigabyte,
                                   .available_bytes = 8 * kGigabyte,
                                   .cgroup_limit_bytes = {}}};
};

constexpr BudgetRequest kAll = {.kind = BudgetRequest::Kind::all};
constexpr BudgetRequest kAuto = {.kind = BudgetRequest::Kind::automatic};

TEST_F(Plan, AddsUpWhatItWasToldAndTheExperts) {
  const MemoryPlan all = plan(kAll);
  EXPECT_EQ(all.cache_bytes, 24 * source_.slot_bytes());
  EXPECT_EQ(all.floor_bytes, 2 * source_.slot_bytes());
  EXPECT_EQ(all.working_set_bytes, 6 * source_.slot_bytes());
  EXPECT_EQ(all.total_bytes(),
            10'000'000 + 200'000'000 + 50'000'000 + all.scratch_bytes + all.cache_bytes);
  EXPECT_GE(all.scratch_bytes, 25'000'000u);  // and the stream's own tables
}

TEST_F(Plan, AFixedBudgetIsRoundedDownToWholeSlotsAndNeverMoreThanAllExperts) {
  EXPECT_EQ(plan(fixed(5 * source_.slot_bytes() + 1)).cache_bytes, 5 * source_.slot_bytes());
  EXPECT_EQ(plan(fixed(kGigabyte)).cache_bytes, 24 * source_.slot_bytes());
}

TEST_F(Plan, ABudgetBelowTheFloorIsRefusedWithTheFloor) {
  EXPECT_THAT(error(fixed(source_.slot_bytes())), HasSubstr("below the floor of"));
}

TEST_F(Plan, MoreThanMayBeUsedIsRefusedWithTheSizes) {
  inputs_.limits.available_bytes = 250'000'000;
  EXPECT_THAT(error(kAll), HasSubstr("not enough memory: trunk 200 MB"));
  inputs_.limits.available_bytes = 8 * kGigabyte;
  inputs_.limits.cgroup_limit_bytes = 300'000'000;
  inputs_.limits.cgroup_used_bytes = 60'000'000;
  EXPECT_THAT(error(kAll), HasSubstr("not enough memory"));
}

TEST_F(Plan, AutoHoldsAllExpertsWhereTheyFit) {
  const MemoryPlan roomy = plan(kAuto);
  EXPECT_EQ(roomy.cache_bytes, 24 * source_.slot_bytes());
  EXPECT_THAT(roomy.budget_reason, HasSubstr("all experts fit"));
}

TEST_F(Plan, AutoLeavesAMarginAndNeverGoesBelowTheFloor) {
  const uint64_t fixed_bytes = 200'000'000 + 50'000'000 + plan(kAll).scratch_bytes;
  inputs_.limits.total_bytes = kGigabyte;
  inputs_.limits.available_bytes = fixed_bytes + 256'000'000 + 10 * source_.slot_bytes();
  EXPECT_EQ(plan(kAuto).cache_bytes, 10 * source_.slot_bytes());
  inputs_.limits.available_bytes = fixed_bytes + 10 * source_.slot_bytes();
  EXPECT_EQ(plan(kAuto).cache_bytes, plan(kAuto).floor_bytes);
}

TEST_F(Plan, AutoTakesItsMarginFromTheContainerNotFromTheMachineAroundIt) {
  inputs_.limits = {.total_bytes = 256 * kGigabyte,
                    .available_bytes = 200 * kGigabyte,
                    .cgroup_limit_bytes = kGigabyte,
                    .cgroup_used_bytes = 0};
  EXPECT_EQ(plan(kAuto).cache_bytes, 24 * source_.slot_bytes());
}

TEST(BytesText, HasThreeDigitsAndADecimalUnit) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(999), "999 B");
  EXPECT_EQ(bytes_text(4'956'160), "4.96 MB");
  EXPECT_EQ(bytes_text(22'020'096), "22.0 MB");
  EXPECT_EQ(bytes_text(999'600'000), "1.00 GB");
}

}  // namespace
}  // namespace sluice
