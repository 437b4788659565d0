// CalibrateOptions: the command line of stream-calibrate. Threads: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/engine_options.h"

namespace sluice {

enum class CalibrateCommand : uint8_t { collect, merge, analyze, simulate, report };

struct CalibrateOptions
    : EngineOptions {  // model: of traces that do not say it; may be empty there
  CalibrateCommand command = CalibrateCommand::collect;
  std::vector<std::string> traces;  // merge, analyze, simulate, report
  std::string out;                  // collect, merge: the trace; report: the page

  // collect
  std::string prompts;  // empty: the built-in ones
  uint32_t tokens = 128;

  // analyze
  std::string pin_out;   // empty: none
  std::string perm_out;  // empty: none
  std::optional<double> pin_gb;
  std::optional<double> pin_share;  // of all experts

  // simulate, report
  std::vector<std::string> policies;  // empty: all there are
  std::vector<uint64_t> budgets;      // bytes; empty: from the floor to everything
  std::string json;                   // empty: none
};

struct ParsedCalibrateCommandLine {
  std::optional<CalibrateOptions> options;
  std::string text;  // as ParsedCommandLine's
  int exit_status = 0;
};

// arguments: without the program's name.
ParsedCalibrateCommandLine parse_calibrate_options(std::vector<std::string> arguments);

}  // namespace sluice
