#include "tools/plan_options.h"

#include <cmath>
#include <utility>

#include "tools/command_line.h"
#include "tools/engine_options.h"

namespace sluice {
namespace {

constexpr const char* kDescription =
    "Says what running a model takes, from its headers alone: nothing is loaded.\n";

constexpr const char* kNotes =
    "The figures are those that the loader plans with. Without --hit-rate or --trace, what a "
    "token\n"
    "reads is guessed as if every expert were used equally often; real texts prefer some, and "
    "read\n"
    "less.\n"
    "\n"
    "Example:\n"
    "  stream-plan --model ./Qwen3-235B-A22B --memory-gb 32 --hit-rate 0.6 --disk-mb-s 3000\n"
    "\n"
    "Exit status: 0 runs, 1 runs badly (the budget is under one token's working set), 2 does not\n"
    "fit, 3 no plan: wrong usage, or a model that cannot be read.\n";

// What concerns running alone.
constexpr const char* kNotPlanned[] = {"--io-backend", "--io-depth", "--pin-file",
                                       "--no-hotlist", "--trace",    "--trace-prefill"};

void add_machine(CLI::App& app, PlanOptions& options) {
  const std::string group = "The machine";
  constexpr double kMostGigabytes = 1e6;
  add_parsed(app, "--memory-gb", "N", "Plan for a machine with this much free, 1 GB = 10^9 bytes",
             [&options](const std::string& text) {
               const double gigabytes = parse_number(text, Range<double>{0.001, kMostGigabytes});
               options.memory_bytes = static_cast<uint64_t>(std::llround(gigabytes * 1e9));
             })
      ->group(group);
  add_number(app, "--disk-mb-s", options.disk_mb_per_second, Range<double>{0.1, 1e7},
             "How fast it reads; gives the speed that the disk allows")
      ->group(group);
  add_number(app, "--hit-rate", options.hit_rate, Range<double>{0, 1},
             "Share of experts found in memory, as stream-generate reports it")
      ->group(group);
  app.add_option(
         "--trace", options.trace,
         "Replay what stream-calibrate or stream-generate --trace recorded, for the hit rate")
      ->type_name("FILE")
      ->excludes("--hit-rate")
      ->group(group);
}

}  // namespace

ParsedPlanOptions parse_plan_options(std::vector<std::string> arguments) {
  CLI::App app(kDescription, "stream-plan");
  app.footer(kNotes);
  app.set_version_flag("--version", std::string("stream-plan ") + version());
  PlanOptions options;
  EngineOptions engine;
  add_model_option(app, engine, "Model");
  add_engine_options(app, engine, "4096, or what the model allows");
  for (const char* name : kNotPlanned) app.remove_option(app.get_option(name));
  add_machine(app, options);
  app.add_flag("--json", options.json, "JSON on standard output (docs/plan.md)")->group("Output");
  if (auto end = parse_command_line(app, std::move(arguments))) {
    return {.options = std::nullopt,
            .text = end->text,
            .exit_status = end->exit_status == 0 ? 0 : kNoPlanExit};
  }
  options.model = engine.model;
  options.model_options = engine.model_options;
  return {.options = std::move(options), .text = {}, .exit_status = 0};
}

}  // namespace sluice
