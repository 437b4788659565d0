#include "tools/generate_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "io/error.h"
#include "model/families.h"

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

template <class Number>
struct Range {
  Number least;
  Number most;
};

// Numbers are read whole and by the same rules everywhere ("1e3" is no count, "nan" no number).
template <class Number>
Number parse_number(const std::string& text, Range<Number> range) {
  Number number{};
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && rest == text.data() + text.size();
  // Written so that a NaN is outside of every range.
  if (!whole || !(number >= range.least && number <= range.most)) {
    throw Error("\"", text, "\": expected ", std::is_integral_v<Number> ? "an integer" : "a number",
                " from ", range.least, " to ", range.most);
  }
  return number;
}

// Adds an option whose text is given to parse, which throws Error with what it expected.
template <class Parse>
CLI::Option* add_parsed(CLI::App& app, const std::string& names, const std::string& placeholder,
                        const std::string& description, Parse parse) {
  const auto checked = [names, parse](const std::string& text) {
    try {
      parse(text);
    } catch (const Error& error) {
      throw CLI::ValidationError(names, error.what());
    }
  };
  return app.add_option_function<std::string>(names, checked, description)->type_name(placeholder);
}

// A text that may be given and be empty, which CLI11 takes for an absent one.
CLI::Option* add_text(CLI::App& app, const std::string& names, std::optional<std::string>& target,
                      const std::string& placeholder, const std::string& description) {
  return add_parsed(app, names, placeholder, description,
                    [&target](const std::string& text) { target = text; });
}

// target: a number or an optional one.
template <class Target, class Number>
CLI::Option* add_number(CLI::App& app, const std::string& names, Target& target,
                        Range<Number> range, const std::string& description) {
  return add_parsed(app, names, "N", description, [&target, range](const std::string& text) {
    target = parse_number(text, range);
  });
}

// target: what one of the words means.
template <class Value>
CLI::Option* add_choice(CLI::App& app, const std::string& names, Value& target,
                        std::vector<std::pair<std::string, Value>> choices,
                        const std::string& description) {
  std::string words;
  for (const auto& [word, value] : choices) words += (words.empty() ? "" : "|") + word;
  const auto parse = [&target, choices, words](const std::string& text) {
    const auto named = [&text](const auto& choice) { return choice.first == text; };
    const auto choice = std::ranges::find_if(choices, named);
    if (choice == choices.end()) throw Error("\"", text, "\": expected ", words);
    target = choice->second;
  };
  return add_parsed(app, names, words, description, parse);
}

void add_prompt_options(CLI::App& app, GenerateOptions& options) {
  const std::string group = "Model and prompt";
  app.add_option("--model", options.model, "Directory of config.json, *.safetensors, ...")
      ->type_name("DIR")
      ->required()
      ->group(group);
  add_text(app, "--prompt", options.prompt, "TEXT", "The text to continue")->group(group);
  add_text(app, "--prompt-file", options.prompt_file, "FILE|-",
           "A file with that text, taken as it is; - is stdin")
      ->group(group);
  add_text(app, "--prompt-ids", options.prompt_ids, "LIST|FILE",
           "Token ids instead: \"1,2,3\", or a file of them")
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

void add_machine_options(CLI::App& app, ModelOptions& model) {
  const std::string group = "Memory, disk and cores (never change the output)";
  add_parsed(app, "--cache-budget-gb", "N|auto|all",
             "Memory for experts, 1 GB = 10^9 bytes (default auto)",
             [&model](const std::string& text) { model.budget = parse_budget(text); })
      ->group(group);
  add_number(app, "--context", model.context, Range<uint64_t>{1, kMaxPositions},
             "Positions to hold (default: prompt plus --max-tokens)")
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
  add_number(app, "--prefill-chunk", model.prefill_chunk, Range<uint32_t>{1, 65536},
             "Prompt tokens computed together (default 512)")
      ->group(group);
  add_choice<std::string>(app, "--policy", model.cache_policy, {{"lru", "lru"}},
                          "Which expert leaves the cache (default lru)")
      ->group(group);
}

void add_output_options(CLI::App& app, GenerateOptions& options) {
  const std::string group = "Output";
  add_choice<Compute>(app, "--compute", options.model_options.compute,
                      {{"int16", Compute::int16}, {"f32", Compute::f32}},
                      "int16, or float32 throughout: slow (default int16)")
      ->group(group);
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
  if (options.min_tokens > options.max_tokens) {
    throw CLI::ValidationError("--min-tokens", std::to_string(options.min_tokens) +
                                                   " is more than --max-tokens, " +
                                                   std::to_string(options.max_tokens));
  }
  if (std::ranges::count(options.stops, std::string()) > 0) {
    throw CLI::ValidationError("--stop", "expected a text that is not empty");
  }
}

// CLI11 sets groups apart by two empty lines; one is enough.
std::string help_text(const CLI::App& app) {
  std::string text = app.help();
  for (size_t at = 0; (at = text.find("\n\n\n", at)) != std::string::npos;) text.erase(at, 1);
  return text;
}

}  // namespace

const char* version() { return SLUICE_VERSION; }

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
  add_length_options(app, options);
  add_sampling_options(app, options);
  add_machine_options(app, options.model_options);
  add_output_options(app, options);

  std::ranges::reverse(arguments);  // as CLI11 wants a vector: last argument first
  try {
    app.parse(std::move(arguments));
    check_together(options);
  } catch (const CLI::CallForHelp&) {
    return {.options = {}, .text = help_text(app), .exit_status = 0};
  } catch (const CLI::CallForVersion& call) {
    return {.options = {}, .text = std::string(call.what()) + "\n", .exit_status = 0};
  } catch (const CLI::ParseError& error) {
    return {
        .options = {},
        .text = "stream-generate: " + std::string(error.what()) + "\nTry stream-generate --help.\n",
        .exit_status = kUsageExit};
  }
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
