// PlanOptions: the command line of stream-plan.
// Threads: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/session.h"

namespace sluice {

struct PlanOptions {
  std::string model;  // directory
  ModelOptions model_options;
  std::optional<uint64_t> memory_bytes;  // of a machine to pretend
  // At most one of the two is given.
  std::optional<double> hit_rate;  // 0...1
  std::string trace;               // a file to replay; empty: none
  std::optional<double> disk_mb_per_second;
  bool json = false;
};

// stream-plan's exit statuses 0, 1 and 2 are its answer; everything that keeps it from one is this.
inline constexpr int kNoPlanExit = 3;

// What the command line came to: options to run with, or a text to print and a status to exit with.
struct ParsedPlanOptions {
  std::optional<PlanOptions> options;
  std::string text;
  int exit_status = 0;  // 0, or kNoPlanExit
};

// arguments: without the program's name.
ParsedPlanOptions parse_plan_options(std::vector<std::string> arguments);

}  // namespace sluice
