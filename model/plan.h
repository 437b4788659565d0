// MemoryPlan: the arithmetic of memory, in one place. The loader allocates what it says, the
// programs print it, and peak resident memory stays within 3 % of total_bytes(). Threads: any.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "model/config.h"
#include "model/machine.h"
#include "stream/bounce_buffers.h"
#include "stream/expert_source.h"

namespace sluice {

// --cache-budget-gb N|auto|all. 1 GB = 10^9 bytes.
struct BudgetRequest {
  enum class Kind : uint8_t { fixed, automatic, all } kind = Kind::automatic;
  uint64_t bytes = 0;  // fixed
};

// "0.5", "auto", "all". Throws Error saying what was expected.
BudgetRequest parse_budget(const std::string& text);

struct MemoryPlan {
  uint64_t process_bytes = 0;  // program, libraries, tokenizer: resident before the model is loaded
  uint64_t trunk_bytes = 0;    // weights that stay resident
  uint64_t kv_bytes = 0;       // of the whole context
  uint64_t state_bytes = 0;    // of recurrent layers: the same for any context
  uint64_t scratch_bytes = 0;  // activations of a prefill chunk, scores, logits, staging
  uint64_t cache_bytes = 0;    // slots × slot size: the budget, rounded down to whole slots
  uint64_t total_bytes() const {
    return process_bytes + trunk_bytes + kv_bytes + state_bytes + scratch_bytes + cache_bytes;
  }

  uint64_t expert_total_bytes = 0;  // of all experts on disk
  uint64_t floor_bytes = 0;         // experts_per_token slots: less cannot run
  uint64_t working_set_bytes =
      0;  // one token's experts over all MoE layers: below it an LRU hits ~0 %
  uint64_t all_slots_bytes = 0;  // a budget that holds every expert
  std::string budget_reason;     // how `auto` chose

  // Every token then evicts what the next one needs: hits are rare.
  bool below_working_set() const { return cache_bytes < working_set_bytes; }
  // Hit rates rise steeply until about here, and slowly from there.
  uint64_t useful_budget_bytes() const {
    return std::min(2 * working_set_bytes, expert_total_bytes);
  }
};

// What the planner is told: sizes that others computed, and the wish.
struct PlanInputs {
  uint64_t process_bytes = 0;
  uint64_t trunk_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t state_bytes = 0;
  uint64_t scratch_bytes = 0;
  const ExpertSource* experts = nullptr;  // null for a dense model
  uint32_t experts_per_token = 0;
  BudgetRequest budget{};
  Bounce bounce = Bounce::automatic;
  MemoryLimits limits{};
};

// The arithmetic alone: what would be allocated, whether or not it can be.
MemoryPlan compute_plan(const PlanInputs& inputs);
// Why that cannot run: a budget below the floor, or more memory than this process may use. With the
// sizes and the next thing to do; empty if it can.
std::string plan_problem(const MemoryPlan& plan, const PlanInputs& inputs);
// Both. Throws Error with the problem.
MemoryPlan plan_memory(const PlanInputs& inputs);

// "1.25 GB", "640 kB": decimal units, three digits.
std::string bytes_text(uint64_t bytes);

}  // namespace sluice
