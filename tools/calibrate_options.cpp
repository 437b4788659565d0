#include "tools/calibrate_options.h"

#include <utility>

#include "cache/policy.h"
#include "tools/command_line.h"

namespace sluice {
namespace {

constexpr const char* kDescription =
    "Finds out which experts a model uses, and what follows from it: how much memory is worth\n"
    "giving, which experts to keep, and in which order to lay them on disk.\n";

constexpr const char* kExamples =
    "Example:\n"
    "  stream-calibrate collect --model ./Qwen3-30B-A3B --out trace.jsonl\n"
    "  stream-calibrate simulate trace.jsonl\n"
    "  stream-calibrate analyze trace.jsonl --pin-share 0.1 --pin-out pin.json\n"
    "  stream-calibrate report trace.jsonl --out report.html\n"
    "\n"
    "stream-calibrate COMMAND --help explains each. Exit status: 0 done, 1 error, 2 wrong usage,\n"
    "130 interrupted (collect goes on where it was when it is run again).\n";

constexpr double kMostGigabytes = 1e6;

void add_traces(CLI::App& app, CalibrateOptions& options) {
  app.add_option("traces", options.traces, "Traces, of stream-calibrate collect or of --trace")
      ->type_name("FILE")
      ->required();
}

void add_model(CLI::App& app, CalibrateOptions& options) {
  app.add_option("--model", options.model, "The model, if the traces do not say what they are of")
      ->type_name("DIR");
}

void add_out(CLI::App& app, CalibrateOptions& options, const std::string& description) {
  app.add_option("--out", options.out, description)->type_name("FILE")->required();
}

void add_collect(CLI::App& app, CalibrateOptions& options) {
  const std::string group = "Model and prompts";
  add_model_option(app, options, group);
  app.add_option("--prompts", options.prompts,
                 "A prompt a line, or JSON lines (default: 20 of all kinds)")
      ->type_name("FILE")
      ->group(group);
  add_number(app, "--tokens", options.tokens, Range<uint32_t>{1, 1'000'000},
             "Tokens to generate for each (default 128)")
      ->group(group);
  app.add_option("--out", options.out, "The trace to write")
      ->type_name("FILE")
      ->required()
      ->group(group);
  add_engine_options(app, options, "longest prompt plus --tokens");
  for (const char* name : {"--trace", "--trace-prefill"}) {  // it records by itself
    app.remove_option(app.get_option(name));
  }
}

void add_analyze(CLI::App& app, CalibrateOptions& options) {
  add_traces(app, options);
  add_model(app, options);
  app.add_option("--pin-out", options.pin_out, "pin.json to write: the experts used most")
      ->type_name("FILE");
  add_number(app, "--pin-gb", options.pin_gb, Range<double>{0.0, kMostGigabytes},
             "As many as fit in so much memory");
  add_number(app, "--pin-share", options.pin_share, Range<double>{0.0, 1.0},
             "Or that share of all experts (default 0.1)");
  app.add_option("--perm-out", options.perm_out,
                 "perm.json to write: disk order, neighbours used together")
      ->type_name("FILE");
}

void add_sweep(CLI::App& app, CalibrateOptions& options) {
  add_traces(app, options);
  add_model(app, options);
  std::string words;
  for (const std::string& name : policy_names()) words += (words.empty() ? "" : "|") + name;
  const auto add_policy = [&options, words](const std::string& text) {
    const std::vector<std::string> names = policy_names();
    if (std::ranges::find(names, text) == names.end()) {
      throw Error("\"", text, "\": expected ", words);
    }
    options.policies.push_back(text);
  };
  add_parsed(app, "--policy", words, "Policy to simulate; repeatable (default: all)", add_policy)
      ->take_all()
      ->trigger_on_parse();
  add_parsed(app, "--budget-gb", "N", "Budget to simulate; repeatable (default: floor to all)",
             [&options](const std::string& text) {
               const double gigabytes = parse_number(text, Range<double>{0.0, kMostGigabytes});
               options.budgets.push_back(static_cast<uint64_t>(gigabytes * 1e9));
             })
      ->take_all()
      ->trigger_on_parse();
  app.add_option("--pin-file", options.model_options.pin_file, "Simulate with these pins")
      ->type_name("FILE");
}

// What no single option can check.
void check_together(const CalibrateOptions& options) {
  if (options.command != CalibrateCommand::analyze) return;
  if (options.pin_out.empty() && options.perm_out.empty()) {
    throw CLI::ValidationError("analyze", "expected --pin-out or --perm-out, or both");
  }
  if (options.pin_gb && options.pin_share) {
    throw CLI::ValidationError("analyze", "expected one of --pin-gb and --pin-share, not both");
  }
}

}  // namespace

ParsedCalibrateCommandLine parse_calibrate_options(std::vector<std::string> arguments) {
  CLI::App app(kDescription, "stream-calibrate");
  CalibrateOptions options;
  app.get_formatter()->column_width(42);
  app.footer(kExamples);
  app.set_version_flag("--version", std::string("stream-calibrate ") + version());
  app.require_subcommand(1);
  const auto command = [&](const char* name, const char* description, CalibrateCommand value) {
    CLI::App* sub = app.add_subcommand(name, description);
    sub->callback([&options, value] { options.command = value; });
    return sub;
  };
  add_collect(*command("collect", "Runs prompts and records which experts each token uses",
                       CalibrateCommand::collect),
              options);
  CLI::App* merge = command("merge", "Joins traces of one model", CalibrateCommand::merge);
  add_traces(*merge, options);
  add_out(*merge, options, "The trace to write");
  add_analyze(*command("analyze", "Decides what to keep in memory and how to order the disk",
                       CalibrateCommand::analyze),
              options);
  CLI::App* simulate = command("simulate", "Hit rates at many budgets, and which budget to give",
                               CalibrateCommand::simulate);
  add_sweep(*simulate, options);
  simulate->add_option("--json", options.json, "Write the figures, as docs/calibrate.md says")
      ->type_name("FILE");
  CLI::App* report = command("report", "All of it as one page that opens in any browser",
                             CalibrateCommand::report);
  add_sweep(*report, options);
  add_out(*report, options, "The HTML page to write");

  const std::optional<CommandLineEnd> end =
      parse_command_line(app, std::move(arguments), [&options] { check_together(options); });
  if (end) return {.options = {}, .text = end->text, .exit_status = end->exit_status};
  if (options.policies.empty()) options.policies = policy_names();
  return {.options = std::move(options), .text = {}, .exit_status = 0};
}

}  // namespace sluice
