// RunReport: what a run of stream-generate was and did, as lines for a person and JSON for
// programs.
//
// docs/stats.md describes every field of the JSON. Threads: any.
#pragma once

#include <cstdint>
#include <string>

#include "model/plan.h"
#include "model/session.h"

namespace sluice {

enum class StopReason : uint8_t {
  max_tokens,     // as many as were asked for
  end_token,      // the model ended its text
  stop_text,      // --stop
  context_full,   // no position left
  interrupted,    // Ctrl-C or SIGTERM
  output_closed,  // the reader of standard output left
};
const char* stop_reason_name(StopReason reason);  // as in the JSON

// Facts that are known once the model is loaded.
struct RunSetting {
  std::string model;
  MemoryPlan plan;
  bool automatic_budget = false;
  bool has_experts = false;
  bool all_resident = false;  // the cache has a slot for every expert
  uint32_t slots = 0;
  uint64_t context = 0;
  uint32_t threads = 0;
  std::string io;
  std::string slab;
  std::string policy;
  std::string compute;
  std::string isa;
  uint64_t seed = 0;
};
RunSetting describe_run(const std::string& directory, const Model& model,
                        const ModelOptions& options, uint64_t seed);

// Prompt or generation: tokens that went through the model, and what that took.
struct PhaseReport {
  uint64_t tokens = 0;
  double seconds = 0;
  StreamStatistics stream;  // of this phase alone
};

struct RunReport {
  RunSetting setting;
  PinReport pins;  // known once the model is loaded, after its setting
  LoadReport load;
  double tokenizer_seconds = 0;
  PhaseReport prompt;
  // Every generated token but the last is fed back: decode.tokens is one less than generated_tokens
  // when a token was generated, and what time and reads are divided by.
  PhaseReport decode;
  uint64_t generated_tokens = 0;
  double time_to_first_token = 0;  // seconds from the start of prefill; 0 if there was none
  uint64_t peak_resident_bytes = 0;
  StopReason stop_reason = StopReason::max_tokens;
};

// An argument for --cache-budget-gb that is at least so many bytes: two digits, rounded up.
//   Requires: bytes > 0.
std::string budget_argument(uint64_t bytes);

// "streaming: ..." and, where the budget is too small to be of use, a note; each line ended.
std::string start_text(const RunSetting& setting);
// The closing summary; each line ended.
std::string summary_text(const RunReport& report);
// Pretty-printed, ended with a newline.
std::string stats_json(const RunReport& report);

}  // namespace sluice
