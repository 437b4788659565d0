// GenerateOptions: the command line of stream-generate.
// Threads: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/sampler.h"
#include "tools/engine_options.h"

namespace sluice {

struct GenerateOptions : EngineOptions {  // context 0: as long as prompt and --max-tokens need
  // Exactly one of the three is given.
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_file;
  std::optional<std::string> prompt_ids;

  // A text is a user's message where the model has a chat template. Without one, or without a text,
  // the other two are empty.
  bool chat_template = true;
  std::optional<std::string> system;  // a message before it
  std::string template_variables;     // more variables of the template: a JSON object

  uint32_t max_tokens = 256;
  uint32_t min_tokens = 0;  // ≤ max_tokens
  std::vector<std::string> stops;
  bool ignore_eos = false;

  // Empty: the model's generation_config.json decides, and then the defaults of resolve_sampling().
  std::optional<float> temperature;
  std::optional<uint32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  uint32_t repeat_last_n = 64;
  std::optional<uint64_t> seed;  // empty: from the clock

  bool print_ids = false;
  std::string dump_logits;  // empty: none
  std::string stats_json;   // empty: none
};

// What the command line came to: options to run with, or a text to print and a status to exit with.
struct ParsedCommandLine {
  std::optional<GenerateOptions> options;
  std::string text;  // --help, --version, --list-families: for standard output; usage errors: for
                     // standard error
  int exit_status = 0;  // 0, or kUsageExit (tools/program.h)
};

// arguments: without the program's name.
ParsedCommandLine parse_generate_options(std::vector<std::string> arguments);

// The command line first, then generation_config.json, then temperature 0.7 and top-p 0.95 with the
// rest off. do_sample false in the file means temperature 0, unless the command line gives one.
SamplingOptions resolve_sampling(const GenerateOptions& options, const GenerationConfig& defaults,
                                 uint64_t seed);

}  // namespace sluice
