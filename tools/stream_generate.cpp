// stream-generate: continues a prompt with a model whose experts stream from disk.
//
//   stream-generate --model DIR --prompt TEXT [--max-tokens N] [--cache-budget-gb N] ...
//
// The generated text goes to standard output as it comes, everything else to standard error.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/error.h"
#include "io/safetensors_writer.h"
#include "model/machine.h"
#include "model/sampler.h"
#include "model/session.h"
#include "model/tokenizer.h"
#include "model/utf8.h"
#include "tools/chat_prompt.h"
#include "tools/generate_options.h"
#include "tools/interrupt.h"
#include "tools/logits_dump.h"
#include "tools/output.h"
#include "tools/progress_bar.h"
#include "tools/run_report.h"
#include "tools/text_output.h"
#include "tools/token_ids.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Ids alone need no tokenizer.json.
std::optional<Tokenizer> load_tokenizer(const GenerateOptions& options) {
  const bool text_in = !options.prompt_ids.has_value();
  const bool text_out = !options.print_ids || !options.stops.empty();
  if (!text_in && !text_out) return std::nullopt;
  return Tokenizer::load(options.model);
}

std::vector<uint32_t> read_prompt(const GenerateOptions& options, const Tokenizer* tokenizer) {
  if (options.prompt_ids) return read_token_ids(*options.prompt_ids);
  const std::string text =
      options.prompt ? *options.prompt : read_prompt_file(*options.prompt_file);
  if (!utf8_valid(text)) {
    throw Error(options.prompt_file.value_or("--prompt"),
                ": the prompt is not valid UTF-8; convert it, or give token ids (--prompt-ids)");
  }
  const ChatPrompt prompt = chat_prompt(options, text);
  std::fputs(prompt.message.c_str(), stderr);
  // A template writes the token that begins a text itself.
  return tokenizer->encode(prompt.text, /*add_special_tokens=*/!prompt.templated);
}

uint64_t clock_seed() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(now.count()) & 0xffffffff;  // short enough to type again
}

// End tokens of both files; one outside the vocabulary cannot come and must not be asked about.
std::vector<uint32_t> end_tokens(const ModelConfig& config, const GenerationConfig& generation) {
  std::vector<uint32_t> ids = config.eos_ids;
  for (const uint32_t id : generation.eos_ids) {
    if (id < config.vocabulary && std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

// Says how streaming is on as soon as that is known, then loads. Fills the report's setting.
Model load_model(const GenerateOptions& options, const ModelConfig& config, size_t prompt_tokens,
                 uint64_t seed, RunReport& report) {
  ModelOptions model_options = options.model_options;
  if (model_options.context == 0) {
    const uint64_t needed = std::max<uint64_t>(1, prompt_tokens + options.max_tokens);
    model_options.context = std::min(needed, config.max_positions);
  }
  ProgressBar bar = stderr_progress("loading", ProgressBar::Unit::bytes);
  const auto planned = [&](const Model& model) {
    report.setting = describe_run(options.model, model, model_options, seed);
    std::fputs(start_text(report.setting).c_str(), stderr);
  };
  return Model::load(
      options.model, model_options,
      {.planned = planned,
       .trunk_bytes = [&bar](uint64_t done, uint64_t total) { bar.update(done, total); },
       .prompt_tokens = {}});
}

// One run after everything is loaded: prefill, then token by token.
class Generation {
 public:
  Generation(const GenerateOptions& options, Model& model, const SamplingOptions& sampling,
             std::vector<uint32_t> end_ids, TextOutput& output, RunReport& report)
      : options_(options),
        model_(model),
        session_(model),
        sampler_(sampling, model.config().vocabulary),
        end_ids_(std::move(end_ids)),
        output_(output),
        report_(report) {
    if (!options.dump_logits.empty()) dump_.emplace(options.dump_logits, model.config().vocabulary);
  }

  void run(std::span<const uint32_t> prompt) {
    const Clock::time_point start = Clock::now();
    std::span<const float> logits = prefill(prompt);
    report_.prompt = {.tokens = session_.position(),
                      .seconds = seconds_since(start),
                      .stream = model_.stream_statistics()};
    if (logits.empty()) {
      report_.stop_reason = StopReason::interrupted;
      return;
    }
    model_.reset_stream_statistics();
    generate(logits, start);
    report_.decode.stream = model_.stream_statistics();
  }

  void finish_dump() {
    if (dump_) dump_->finish();
  }

 private:
  std::span<const float> prefill(std::span<const uint32_t> prompt) {
    for (const uint32_t id : prompt) sampler_.accept(id);
    Session::LogitsSink sink;
    if (dump_) {
      sink = [this, prompt](uint64_t position, std::span<const float> logits) {
        dump_->add(prompt[position], logits);
      };
    }
    ProgressBar bar = stderr_progress("prompt", ProgressBar::Unit::tokens);
    return session_.prefill(
        prompt, sink, interrupted,
        {.planned = {}, .trunk_bytes = {}, .prompt_tokens = [&bar](uint64_t done, uint64_t total) {
           bar.update(done, total);
         }});
  }

  void generate(std::span<const float> logits, Clock::time_point start) {
    std::optional<Clock::time_point> first;
    while (report_.generated_tokens < options_.max_tokens) {
      const bool may_end = report_.generated_tokens >= options_.min_tokens;
      const uint32_t id = sampler_.sample(logits, may_end ? std::span<const uint32_t>() : end_ids_);
      sampler_.accept(id);
      ++report_.generated_tokens;
      const bool ended = !options_.ignore_eos && std::ranges::find(end_ids_, id) != end_ids_.end();
      output_.add(id, ended);
      if (!first) {
        first = Clock::now();
        report_.time_to_first_token = seconds_since(start);
      }
      if (const auto reason = stop_after(ended)) {
        report_.stop_reason = *reason;
        break;
      }
      logits = session_.decode(id);
      if (dump_) dump_->add(id, logits);
      ++report_.decode.tokens;
    }
    if (first) report_.decode.seconds = seconds_since(*first);
    output_.finish();
  }

  std::optional<StopReason> stop_after(bool ended) const {
    if (output_.closed()) return StopReason::output_closed;
    if (ended) return StopReason::end_token;
    if (output_.stopped()) return StopReason::stop_text;
    if (report_.generated_tokens == options_.max_tokens) return StopReason::max_tokens;
    if (session_.position() == model_.context()) return StopReason::context_full;
    if (interrupted()) return StopReason::interrupted;
    return std::nullopt;
  }

  const GenerateOptions& options_;
  Model& model_;
  Session session_;
  Sampler sampler_;
  std::vector<uint32_t> end_ids_;
  TextOutput& output_;
  RunReport& report_;
  std::optional<LogitsDump> dump_;
};

int run(const GenerateOptions& options) {
  const ModelConfig config = read_config(options.model);
  const GenerationConfig generation_config = read_generation_config(options.model);

  // The tokenizer is loaded first and what its parsing took is given back, so that the memory plan
  // starts from what really stays.
  const Clock::time_point start = Clock::now();
  const std::optional<Tokenizer> tokenizer = load_tokenizer(options);
  const double tokenizer_seconds = seconds_since(start);
  const std::vector<uint32_t> prompt = read_prompt(options, tokenizer ? &*tokenizer : nullptr);
  malloc_trim(0);

  RunReport report;
  const uint64_t seed = options.seed.value_or(clock_seed());
  Model model = load_model(options, config, prompt.size(), seed, report);
  report.pins = model.pins();
  report.load = model.load_report();
  report.tokenizer_seconds = tokenizer_seconds;

  catch_interrupts();
  Output standard_output(STDOUT_FILENO);
  TextOutput output(standard_output, tokenizer ? &*tokenizer : nullptr, options.stops,
                    options.print_ids);
  Generation generation(options, model, resolve_sampling(options, generation_config, seed),
                        end_tokens(config, generation_config), output, report);
  generation.run(prompt);
  report.peak_resident_bytes = peak_resident_bytes();
  standard_output.end_line();

  if (report.stop_reason != StopReason::output_closed) {
    std::fputs(summary_text(report).c_str(), stderr);
  }
  if (!options.stats_json.empty()) write_text_file(options.stats_json, stats_json(report));
  if (report.stop_reason == StopReason::interrupted) return kInterruptedExit;
  generation.finish_dump();
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  try {
    const sluice::ParsedCommandLine parsed =
        sluice::parse_generate_options(std::vector<std::string>(argv + 1, argv + argc));
    if (!parsed.options) {
      std::fputs(parsed.text.c_str(), parsed.exit_status == 0 ? stdout : stderr);
      return parsed.exit_status;
    }
    return sluice::run(*parsed.options);
  } catch (const std::bad_alloc&) {
    std::fputs("stream-generate: out of memory; lower --cache-budget-gb or --context\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stream-generate: %s\n", error.what());
  }
  return 1;
}
