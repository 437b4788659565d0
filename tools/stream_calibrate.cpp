// stream-calibrate: which experts a model uses, and what follows from it (docs/calibrate.md).
//
//   stream-calibrate collect|merge|analyze|simulate|report ...
#include <cstdio>
#include <exception>
#include <new>

#include "io/atomic_file.h"
#include "io/error.h"
#include "model/plan.h"
#include "stream/calibration_files.h"
#include "stream/trace_statistics.h"
#include "tools/budget_sweep.h"
#include "tools/calibrate_collect.h"
#include "tools/calibrate_options.h"
#include "tools/calibrate_report.h"
#include "tools/progress_bar.h"
#include "tools/trace_files.h"

namespace sluice {
namespace {

constexpr double kDefaultPinShare = 0.1;

int merge(const CalibrateOptions& options) {
  const uint64_t records = merge_traces(options.traces, options.out);
  std::printf("%s: %llu records of %zu traces\n", options.out.c_str(),
              static_cast<unsigned long long>(records), options.traces.size());
  return 0;
}

uint64_t pins_wanted(const CalibrateOptions& options, const TraceFacts& facts) {
  if (options.pin_gb) {
    return static_cast<uint64_t>(*options.pin_gb * 1e9) / facts.slot_bytes;
  }
  const double share = options.pin_share.value_or(kDefaultPinShare);
  return static_cast<uint64_t>(share * static_cast<double>(facts.grid.keys()));
}

void write_pins(const CalibrateOptions& options, const TraceSet& traces) {
  const std::vector<ExpertKey> hottest =
      hottest_experts(traces.sequence, pins_wanted(options, traces.facts));
  const std::vector<uint64_t> uses = count_uses(traces.sequence);
  std::vector<LayerExpert> pins;
  uint64_t uses_of_pins = 0;
  for (const ExpertKey key : hottest) {
    pins.push_back({.layer = traces.facts.grid.layers[key.layer], .expert = key.expert});
    uses_of_pins += uses[traces.sequence.index(key)];
  }
  write_text_file(options.pin_out, pins_text(pins));
  std::printf("%s: %zu experts, %s, %.1f %% of all uses in the traces\n", options.pin_out.c_str(),
              pins.size(), bytes_text(traces.slot_bytes(pins.size())).c_str(),
              100 * static_cast<double>(uses_of_pins) /
                  static_cast<double>(traces.sequence.demands.size()));
}

void write_permutation(const CalibrateOptions& options, const TraceSet& traces) {
  Permutation permutation;
  for (uint32_t layer = 0; layer < traces.facts.grid.layers.size(); ++layer) {
    permutation[traces.facts.grid.layers[layer]] = co_activation_order(traces.sequence, layer);
  }
  write_text_file(options.perm_out, permutation_text(permutation));
  std::printf("%s: %zu layers of %u experts\n", options.perm_out.c_str(), permutation.size(),
              traces.facts.grid.experts);
}

int analyze(const CalibrateOptions& options) {
  const TraceSet traces = read_trace_set(options.traces, options.model);
  if (!options.pin_out.empty()) write_pins(options, traces);
  if (!options.perm_out.empty()) write_permutation(options, traces);
  return 0;
}

BudgetSweep sweep(const CalibrateOptions& options, const TraceSet& traces) {
  SweepOptions sweep_options{.policies = options.policies, .budgets = options.budgets};
  if (!options.model_options.pin_file.empty()) {
    for (const LayerExpert& pin : read_pins(options.model_options.pin_file, traces.facts.grid)) {
      sweep_options.pins.push_back(
          {.layer = *traces.facts.grid.index_of(pin.layer), .expert = pin.expert});
    }
  }
  ProgressBar bar = stderr_progress("simulating", ProgressBar::Unit::tokens);
  const auto per_token = static_cast<uint64_t>(traces.demands_per_token());
  sweep_options.progress = [&](uint64_t done, uint64_t total) {
    bar.update(done / per_token, total / per_token);
  };
  return sweep_budgets(traces, sweep_options);
}

int simulate(const CalibrateOptions& options) {
  const TraceSet traces = read_trace_set(options.traces, options.model);
  const BudgetSweep result = sweep(options, traces);
  std::fputs(sweep_text(traces, result).c_str(), stdout);
  if (!options.json.empty()) write_text_file(options.json, sweep_json(traces, result));
  return 0;
}

int report(const CalibrateOptions& options) {
  const TraceSet traces = read_trace_set(options.traces, options.model);
  write_text_file(options.out, calibration_report(traces, sweep(options, traces)));
  std::printf("%s: open it in a browser\n", options.out.c_str());
  return 0;
}

int run(const CalibrateOptions& options) {
  switch (options.command) {
    case CalibrateCommand::collect:
      return collect(options);
    case CalibrateCommand::merge:
      return merge(options);
    case CalibrateCommand::analyze:
      return analyze(options);
    case CalibrateCommand::simulate:
      return simulate(options);
    case CalibrateCommand::report:
      return report(options);
  }
  return 1;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  try {
    const sluice::ParsedCalibrateCommandLine parsed =
        sluice::parse_calibrate_options(std::vector<std::string>(argv + 1, argv + argc));
    if (!parsed.options) {
      std::fputs(parsed.text.c_str(), parsed.exit_status == 0 ? stdout : stderr);
      return parsed.exit_status;
    }
    return sluice::run(*parsed.options);
  } catch (const std::bad_alloc&) {
    std::fputs("stream-calibrate: out of memory; give fewer traces or a lower budget\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stream-calibrate: %s\n", error.what());
  }
  return 1;
}
