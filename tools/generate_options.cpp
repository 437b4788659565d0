#include "tools/generate_options.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "io/error.h"
#include "model/chat_template.h"
#include "model/families.h"
#include "tools/command_line.h"

namespace sluice {
namespace {

constexpr const char* kDescription =
    "Generates text with a Mixture-of-Experts language model that may be bigger than memory.\n"
    "The text goes to standard output, everything else to standard error.\n";

constexpr const char* kExamples =
    "Example:\n"
    "  stream-generate --model ./Qwen3-30B-A3B --cache-budget-gb 4 \\\n"
    "      --prompt \"Once upon a time\" --max-tokens 200 --temp 0.8\n"
    "\n"
    "The output depends on the model, the prompt, the sampling options, --compute and the seed:\n"
    "never on the budget, the threads, the back end or the chunk size.\n"
    "Exit status: 0 done (also when the reader of a pipe left), 1 error, 2 wrong usage, 130 "
    "interrupted.\n";

void add_prompt_options(CLI::App& app, GenerateOptions& options) {
  const std::string group = "Model and prompt";
  add_model_option(app, options, group);
  add_text(app, "--prompt", options.prompt, "TEXT",
           "The text to continue, or a chat model's user message")
      ->group(group);
  add_text(app, "--prompt-file", options.prompt_file, "FILE|-",
           "A file with that text, taken as it is; - is stdin")
      ->group(group);
  add_text(app, "--prompt-ids", options.prompt_ids, "LIST|FILE",
           "Token ids instead: \"1,2,3\", or a file of them")
      ->group(group);
}

void add_chat_options(CLI::App& app, GenerateOptions& options) {
  const std::string group = "Chat (a text is a user's message where the model has a chat template)";
  app.add_flag_callback(
         "--no-chat-template", [&options] { options.chat_template = false; },
         "Take the text as it is")
      ->group(group);
  add_text(app, "--system", options.system, "TEXT", "A system message before it")->group(group);
  add_parsed(app, "--chat-template-kwargs", "JSON",
             "Variables for the template: {\"enable_thinking\": false}",
             [&options](const std::string& text) {
               check_chat_variables(text);
               options.template_variables = text;
             })
      ->group(group);
}

void add_length_options(CLI::App& app, GenerateOptions& options) {
  const std::string group = "Where to stop";
  constexpr Range<uint32_t> kTokens = {0, static_cast<uint32_t>(kMaxPositions)};
  add_number(app, "--max-tokens", options.max_tokens, kTokens,
             "Tokens to generate at most (default 256)")
      ->group(group);
  add_number(app, "--min-tokens", options.min_tokens, kTokens,
             "No end token before this many tokens (default 0)")
      ->group(group);
  app.add_option("--stop", options.stops, "Stop before this text would appear; repeatable")
      ->type_name("TEXT")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)  // else "[a,b]" would be two texts
      ->group(group);
  app.add_flag("--ignore-eos", options.ignore_eos, "Go on after end tokens")->group(group);
}

void add_sampling_options(CLI::App& app, GenerateOptions& options) {
  const std::string group =
      "Sampling (defaults: the model's generation_config.json, else temperature 0.7, top-p 0.95)";
  constexpr Range<uint32_t> kCounts = {0, std::numeric_limits<uint32_t>::max()};
  constexpr Range<float> kShares = {0.0f, 1.0f};
  add_number(app, "--temp,--temperature", options.temperature, Range<float>{0.0f, 1000.0f},
             "0 always takes the likeliest token")
      ->group(group);
  add_number(app, "--top-k", options.top_k, kCounts, "Only the k likeliest tokens; 0: all")
      ->group(group);
  add_number(app, "--top-p", options.top_p, kShares,
             "Only the likeliest that together reach this share; 1: all")
      ->group(group);
  add_number(app, "--min-p", options.min_p, kShares,
             "Only those this likely beside the likeliest; 0: all")
      ->group(group);
  add_number(app, "--repeat-penalty,--repetition-penalty", options.repetition_penalty,
             Range<float>{0.001f, 1000.0f}, "Above 1: less repetition; 1: off")
      ->group(group);
  add_number(app, "--repeat-last-n", options.repeat_last_n, kCounts,
             "Tokens the penalty looks back on (default 64); 0: all")
      ->group(group);
  add_number(app, "--seed", options.seed, Range<uint64_t>{0, std::numeric_limits<uint64_t>::max()},
             "Same seed, same text (default: from the clock, printed)")
      ->group(group);
}

void add_output_options(CLI::App& app, GenerateOptions& options) {
  const std::string group = "Output";
  app.add_flag("--print-ids", options.print_ids, "Print ids instead of text, the end token too")
      ->group(group);
  app.add_option("--dump-logits", options.dump_logits,
                 "Write all logits and token ids, as safetensors")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--stats-json", options.stats_json,
                 "Write the run's statistics (see docs/stats.md)")
      ->type_name("FILE")
      ->group(group);
}

// What no single option can check.
void check_together(const GenerateOptions& options) {
  const int prompts =
      options.prompt.has_value() + options.prompt_file.has_value() + options.prompt_ids.has_value();
  if (prompts != 1) {
    throw CLI::ValidationError(
        "expected exactly one of --prompt, --prompt-file and --prompt-ids, not " +
        std::to_string(prompts));
  }
  const bool for_template = options.system.has_value() || !options.template_variables.empty();
  if (for_template && (!options.chat_template || options.prompt_ids)) {
    throw CLI::ValidationError(
        "--system and --chat-template-kwargs are for the chat template, which neither "
        "--no-chat-template nor --prompt-ids use");
  }
  if (options.min_tokens > options.max_tokens) {
    throw CLI::ValidationError("--min-tokens", std::to_string(options.min_tokens) +
                                                   " is more than --max-tokens, " +
                                                   std::to_string(options.max_tokens));
  }
  if (std::ranges::count(options.stops, std::string()) > 0) {
    throw CLI::ValidationError("--stop", "expected a text that is not empty");
  }
}

}  // namespace

ParsedCommandLine parse_generate_options(std::vector<std::string> arguments) {
  CLI::App app(kDescription, "stream-generate");
  GenerateOptions options;
  app.get_formatter()->column_width(42);
  app.footer(kExamples);
  app.set_version_flag("--version", std::string("stream-generate ") + version());
  app.add_flag_callback(
      "--list-families", [] { throw CLI::CallForVersion(families_text(), 0); },
      "Print the families of models that are known, and exit");
  add_prompt_options(app, options);
  add_chat_options(app, options);
  add_length_options(app, options);
  add_sampling_options(app, options);
  add_engine_options(app, options, "prompt plus --max-tokens");
  add_output_options(app, options);

  const std::optional<CommandLineEnd> end =
      parse_command_line(app, std::move(arguments), [&options] { check_together(options); });
  if (end) return {.options = {}, .text = end->text, .exit_status = end->exit_status};
  return {.options = std::move(options), .text = {}, .exit_status = 0};
}

SamplingOptions resolve_sampling(const GenerateOptions& options, const GenerationConfig& defaults,
                                 uint64_t seed) {
  const bool greedy = defaults.do_sample == false;
  const float temperature = greedy ? 0.0f : defaults.temperature.value_or(0.7f);
  return {.temperature = options.temperature.value_or(temperature),
          .top_k = options.top_k.value_or(defaults.top_k.value_or(0)),
          .top_p = options.top_p.value_or(defaults.top_p.value_or(0.95f)),
          .min_p = options.min_p.value_or(defaults.min_p.value_or(0.0f)),
          .repetition_penalty =
              options.repetition_penalty.value_or(defaults.repetition_penalty.value_or(1.0f)),
          .penalty_window = options.repeat_last_n,
          .seed = seed};
}

}  // namespace sluice
