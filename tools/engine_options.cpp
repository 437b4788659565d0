#include "tools/engine_options.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cache/policy.h"
#include "tools/command_line.h"

namespace sluice {
namespace {

void add_machine_options(CLI::App& app, ModelOptions& model, const std::string& context_default) {
  const std::string group = "Memory, disk and cores (never change the output)";
  add_parsed(app, "--cache-budget-gb", "N|auto|all",
             "Memory for experts, 1 GB = 10^9 bytes (default auto)",
             [&model](const std::string& text) { model.budget = parse_budget(text); })
      ->group(group);
  add_number(app, "--context", model.context, Range<uint64_t>{1, kMaxPositions},
             "Positions to hold (default: " + context_default + ")")
      ->group(group);
  add_number(app, "--threads", model.threads, Range<uint32_t>{1, 1024},
             "Worker threads (default: the cores it may use)")
      ->group(group);
  add_choice<ReadBackend>(app, "--io-backend", model.io_backend,
                          {{"auto", ReadBackend::automatic},
                           {"io_uring", ReadBackend::io_uring},
                           {"pread", ReadBackend::pread}},
                          "How to read (default auto: io_uring if allowed)")
      ->group(group);
  add_number(app, "--io-depth", model.io_depth, Range<uint32_t>{1, 1024},
             "Reads at the device at once (default 16)")
      ->group(group);
  add_bounce_option(app, model.bounce)->group(group);
  add_parsed(app, "--lookahead", "N|auto|off", "Experts of a layer to read ahead (default auto)",
             [&model](const std::string& text) { model.look_ahead = parse_look_ahead(text); })
      ->group(group);
  add_number(app, "--prefill-chunk", model.prefill_chunk, Range<uint32_t>{1, 65536},
             "Prompt tokens computed together (default 512)")
      ->group(group);
  std::vector<std::pair<std::string, std::string>> policies;
  for (const std::string& name : policy_names()) policies.push_back({name, name});
  add_choice<std::string>(app, "--policy", model.cache_policy, policies,
                          "Which expert leaves the cache (default lru)")
      ->group(group);
}

void add_calibration_options(CLI::App& app, ModelOptions& model) {
  const std::string group = "Calibration (never changes the output)";
  app.add_option("--pin-file", model.pin_file,
                 "Experts to keep (default: the model's hot_experts.json)")
      ->type_name("FILE")
      ->group(group);
  app.add_flag("--no-hotlist", model.no_hotlist, "Leave that hot_experts.json alone")->group(group);
  app.add_option("--trace", model.trace_file, "Record which experts each generated token used")
      ->type_name("FILE")
      ->group(group);
  app.add_flag("--trace-prefill", model.trace_prefill, "Record the prompt's tokens too")
      ->group(group);
}

}  // namespace

std::optional<uint32_t> parse_look_ahead(const std::string& text) {
  if (text == "auto") return std::nullopt;
  if (text == "off") return 0;
  try {
    return parse_number(text, Range<uint32_t>{0, 1024});
  } catch (const Error& error) {
    throw Error(error.what(), ", or auto, or off");
  }
}

CLI::Option* add_bounce_option(CLI::App& app, Bounce& bounce) {
  return add_choice<Bounce>(app, "--io-bounce", bounce,
                            {{"auto", Bounce::automatic}, {"on", Bounce::on}, {"off", Bounce::off}},
                            "Read through small buffers (default auto: where faster)");
}

void add_model_option(CLI::App& app, EngineOptions& options, const std::string& group) {
  app.add_option("--model", options.model, "Directory of config.json, *.safetensors, ...")
      ->type_name("DIR")
      ->required()
      ->group(group);
}

void add_engine_options(CLI::App& app, EngineOptions& options, const std::string& context_default) {
  ModelOptions& model = options.model_options;
  add_machine_options(app, model, context_default);
  add_calibration_options(app, model);
  add_choice<Compute>(app, "--compute", model.compute,
                      {{"int16", Compute::int16}, {"f32", Compute::f32}},
                      "int16, or float32 throughout: slow (default int16)")
      ->group("Arithmetic");
}

}  // namespace sluice
