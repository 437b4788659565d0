// EngineOptions: the command-line options that every program running a model shares: which model,
// how much memory, how to read, what stays in memory, what to record.
// Threads: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "model/session.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace sluice {

struct EngineOptions {
  std::string model;  // directory
  ModelOptions model_options;
};

// "auto", "off" or a number, as ModelOptions::look_ahead takes it. Throws Error saying what was
// expected.
std::optional<uint32_t> parse_look_ahead(const std::string& text);

// --io-bounce.
CLI::Option* add_bounce_option(CLI::App& app, Bounce& bounce);
// --model, required.
void add_model_option(CLI::App& app, EngineOptions& options, const std::string& group);
// --cache-budget-gb, --context, --threads, --io-backend, --io-depth, --io-bounce, --lookahead,
// --prefill-chunk, --policy, --pin-file, --no-hotlist, --trace, --trace-prefill, --compute.
// Requires: options outlives the parsing. context_default: what --context is when it is not given,
// for the help.
void add_engine_options(CLI::App& app, EngineOptions& options, const std::string& context_default);

}  // namespace sluice
