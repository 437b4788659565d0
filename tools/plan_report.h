// PlanReport: what stream-plan found out, and how it says it: lines for people, JSON for programs
// (docs/plan.md). Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "model/measure.h"
#include "tools/plan_options.h"

namespace sluice {

enum class Verdict : uint8_t {
  runs = 0,        // the values are stream-plan's exit statuses
  runs_badly = 1,  // the budget is under one token's working set
  does_not_fit = 2,
};
const char* verdict_name(Verdict verdict);  // as in the JSON

// How the experts lie on disk.
struct ExpertFigures {
  uint32_t layers = 0;
  uint32_t experts = 0;  // of each layer
  uint32_t per_token = 0;
  uint64_t expert_bytes = 0;  // stored, of one
  uint64_t layer_bytes = 0;   // stored, of a layer's
  uint64_t slot_bytes = 0;    // that one takes in memory
  uint64_t read_bytes = 0;    // that one miss reads: stored and alignment; of the first expert
  uint32_t reads = 0;         // in how many pieces
};

// What one token reads.
struct ReadEstimate {
  double hit_rate = 0;
  const char* source = "";                 // "given", "trace", "uniform routing"
  uint64_t trace_tokens = 0;               // replayed
  std::optional<double> optimal_hit_rate;  // of a trace: no policy gets more
  double bytes_per_token = 0;
  std::optional<double> tokens_per_second;  // that the disk allows
};

struct PlanReport {
  std::string model;
  std::string model_type;
  uint32_t layers = 0;
  uint64_t context = 0;
  uint32_t threads = 0;
  std::string compute;
  uint64_t files = 0;
  uint64_t tensors = 0;
  uint64_t file_bytes = 0;
  uint64_t kv_bytes_per_1000 = 0;  // positions
  std::optional<ExpertFigures> experts;
  MemoryPlan plan;
  MemoryLimits memory;
  bool pretended = false;  // memory is not this machine's
  std::optional<ReadEstimate> reads;
  Verdict verdict = Verdict::runs;
  std::string reason;  // why it runs badly or does not fit, and what would help
};

// Reads the headers. Throws Error: a model that cannot be read, as the loader would.
PlanReport make_plan_report(const PlanOptions& options);

std::string plan_text(const PlanReport& report);  // each line ended
std::string plan_json(const PlanReport& report);  // pretty-printed, ended with a newline

}  // namespace sluice
