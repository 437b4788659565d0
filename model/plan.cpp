#include "model/plan.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <sstream>
#include <utility>

#include "io/error.h"
#include "stream/expert_stream.h"

namespace sluice {

namespace {

// `auto` leaves this much of the usable memory to everybody else: a budget above what is really
// free is a cliff, a slightly smaller one costs a few hits.
constexpr uint64_t kMarginLeastBytes = 256'000'000;
constexpr uint64_t kMarginDivisor = 16;

uint64_t automatic_budget(const PlanInputs& inputs, uint64_t fixed_bytes, uint64_t all_bytes,
                          uint64_t floor_bytes, std::string* reason) {
  const uint64_t usable = inputs.limits.usable_bytes();
  const uint64_t whole = inputs.limits.cgroup_limit_bytes.value_or(inputs.limits.total_bytes);
  const uint64_t margin = std::max(kMarginLeastBytes, whole / kMarginDivisor);
  const uint64_t taken = fixed_bytes + margin;
  const uint64_t left = usable > taken ? usable - taken : 0;
  *reason = inputs.limits.text() + ", less " + bytes_text(fixed_bytes) +
            " for everything but experts and a margin of " + bytes_text(margin);
  if (left >= all_bytes) {
    *reason += ": all experts fit";
    return all_bytes;
  }
  return std::max(left, floor_bytes);
}

}  // namespace

std::string bytes_text(uint64_t bytes) {
  static constexpr std::array kUnits = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  const int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  char text[32];
  std::snprintf(text, sizeof(text), "%.*f %s", decimals, value, kUnits[unit]);
  return text;
}

MemoryPlan compute_plan(const PlanInputs& inputs) {
  MemoryPlan plan;
  plan.process_bytes = inputs.process_bytes;
  plan.trunk_bytes = inputs.trunk_bytes;
  plan.kv_bytes = inputs.kv_bytes;
  plan.state_bytes = inputs.state_bytes;
  plan.scratch_bytes = inputs.scratch_bytes;
  if (inputs.experts == nullptr) {
    plan.budget_reason = "no experts";
    return plan;
  }
  const ExpertSource& experts = *inputs.experts;
  const uint64_t slot_bytes = experts.slot_bytes();
  const uint64_t all_bytes = uint64_t{experts.layers()} * experts.experts() * slot_bytes;
  plan.expert_total_bytes = experts.total_bytes();
  plan.all_slots_bytes = all_bytes;
  plan.floor_bytes = ExpertStream::floor_bytes(experts, inputs.experts_per_token);
  plan.working_set_bytes = uint64_t{inputs.experts_per_token} * experts.layers() * slot_bytes;

  uint64_t budget = 0;
  switch (inputs.budget.kind) {
    case BudgetRequest::Kind::fixed:
      budget = std::min(inputs.budget.bytes, all_bytes);
      plan.budget_reason = budget == all_bytes ? "as asked: all experts fit" : "as asked";
      break;
    case BudgetRequest::Kind::all:
      budget = all_bytes;
      plan.budget_reason = "all experts, as asked";
      break;
    case BudgetRequest::Kind::automatic:
      budget = automatic_budget(inputs,
                                plan.trunk_bytes + plan.kv_bytes + plan.state_bytes +
                                    plan.scratch_bytes +
                                    ExpertStream::overhead_bytes(experts, all_bytes, inputs.bounce),
                                all_bytes, plan.floor_bytes, &plan.budget_reason);
      break;
  }
  plan.cache_bytes = budget / slot_bytes * slot_bytes;
  plan.scratch_bytes += ExpertStream::overhead_bytes(experts, plan.cache_bytes, inputs.bounce);
  return plan;
}

std::string plan_problem(const MemoryPlan& plan, const PlanInputs& inputs) {
  if (plan.cache_bytes < plan.floor_bytes) {
    const uint64_t floor_megabytes = (plan.floor_bytes + 999'999) / 1'000'000;
    std::ostringstream text;
    text << "a cache budget of " << bytes_text(inputs.budget.bytes) << " is below the floor of "
         << bytes_text(plan.floor_bytes) << ": the " << inputs.experts_per_token
         << " experts that one token uses in one layer, "
         << bytes_text(inputs.experts->slot_bytes()) << " each. Give --cache-budget-gb at least "
         << static_cast<double>(floor_megabytes) / 1000;
    return std::move(text).str();
  }
  // The process is resident already, so it is not asked for again.
  const uint64_t wanted = plan.total_bytes() - plan.process_bytes;
  const uint64_t usable = inputs.limits.usable_bytes();
  if (wanted <= usable) return {};
  return "not enough memory: trunk " + bytes_text(plan.trunk_bytes) + ", KV cache " +
         bytes_text(plan.kv_bytes) +
         (plan.state_bytes > 0 ? ", recurrent state " + bytes_text(plan.state_bytes) : "") +
         ", working memory " + bytes_text(plan.scratch_bytes) + " and expert cache " +
         bytes_text(plan.cache_bytes) + " make " + bytes_text(wanted) + ", but there is " +
         inputs.limits.text() + ". Lower --cache-budget-gb (the least is " +
         bytes_text(plan.floor_bytes) + ") or --context";
}

MemoryPlan plan_memory(const PlanInputs& inputs) {
  MemoryPlan plan = compute_plan(inputs);
  if (const std::string problem = plan_problem(plan, inputs); !problem.empty()) {
    throw Error(problem);
  }
  return plan;
}

}  // namespace sluice
