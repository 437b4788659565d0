#include "tools/calibrate_collect.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/atomic_file.h"
#include "io/error.h"
#include "io/json_text.h"
#include "io/posix_file.h"
#include "model/sampler.h"
#include "model/tokenizer.h"
#include "model/trace_facts.h"
#include "tools/generate_options.h"
#include "tools/interrupt.h"
#include "tools/program.h"
#include "tools/progress_bar.h"
#include "tools/trace_files.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxPromptBytes = 64'000'000;

class Recorder final : public RoutingObserver {
 public:
  void routed(uint32_t layer, std::span<const uint32_t> experts) override {
    trace.add(layer, experts);
  }
  Trace trace;
};

// The folder of finished prompts. What is in it belongs to these very settings; a run that
// finishes none leaves no folder.
class Parts {
 public:
  // Throws Error: there are parts of other settings, or the folder cannot be made.
  Parts(const std::string& out, const std::string& settings) : folder_(out + ".parts") {
    std::error_code error;
    const bool resumes = fs::exists(folder_, error);
    if (!resumes && !fs::create_directory(folder_, error)) {
      throw Error(folder_.string(), ": cannot be made: ", error.message());
    }
    const std::string path = (folder_ / "settings.json").string();
    if (!fs::exists(path, error)) {
      write_text_file(path, settings);
    } else if (read_text_file(path, 2 * kMaxPromptBytes) != settings) {
      throw Error(folder_.string(), ": parts of a run with another model, other prompts, ",
                  "--tokens, --context or --compute; remove the folder, or give another --out");
    }
  }

  ~Parts() {
    std::error_code ignored;
    const fs::directory_iterator files(folder_, ignored);
    if (!ignored && std::distance(fs::begin(files), fs::end(files)) <= 1) {
      fs::remove_all(folder_, ignored);  // at most the settings
    }
  }
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  std::string path(size_t prompt) const {
    return (folder_ / ("prompt-" + std::to_string(prompt) + ".jsonl")).string();
  }
  bool has(size_t prompt) const {
    std::error_code error;
    return fs::exists(path(prompt), error);
  }
  void remove() const { fs::remove_all(folder_); }

 private:
  fs::path folder_;
};

// Everything that decides what is recorded.
std::string settings_text(const CalibrateOptions& options, const TraceFacts& facts,
                          const std::vector<std::string>& prompts) {
  Trace empty;
  empty.facts = facts;
  const nlohmann::ordered_json settings = {
      {"model", fs::canonical(options.model).string()},
      {"trace", trace_text(empty)},
      {"tokens", options.tokens},
      {"context", options.model_options.context},
      {"compute", options.model_options.compute == Compute::f32 ? "f32" : "int16"},
      {"prompts", prompts}};
  return json_text(settings, 1) + "\n";
}

struct Job {
  const CalibrateOptions& options;
  const ModelConfig& config;
  const GenerationConfig& generation;
  Model& model;
  Recorder& recorder;
  const std::function<void(uint64_t tokens)>& generated;

  // Generates from one prompt. False if it was interrupted.
  bool run(std::span<const uint32_t> prompt, uint64_t number) const {
    recorder.trace = {};
    Session session(model);
    Sampler sampler(resolve_sampling(GenerateOptions{}, generation, number), config.vocabulary);
    for (const uint32_t id : prompt) sampler.accept(id);
    std::span<const float> logits = session.prefill(prompt, {}, interrupted);
    for (uint32_t token = 0; token < options.tokens; ++token) {
      if (logits.empty() || interrupted()) return false;
      const uint32_t id = sampler.sample(logits, {});
      const bool ended = std::ranges::find(config.eos_ids, id) != config.eos_ids.end() ||
                         std::ranges::find(generation.eos_ids, id) != generation.eos_ids.end();
      if (ended || session.position() == model.context()) break;
      sampler.accept(id);
      logits = session.decode(id);
      generated(token + 1);
    }
    return true;
  }
};

std::vector<std::vector<uint32_t>> encode(const std::vector<std::string>& prompts,
                                          const CalibrateOptions& options,
                                          const ModelConfig& config) {
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  std::vector<std::vector<uint32_t>> all;
  for (const std::string& prompt : prompts) {
    all.push_back(tokenizer.encode(prompt, /*add_special_tokens=*/true));
    const uint64_t most =
        options.model_options.context > 0 ? options.model_options.context : config.max_positions;
    if (all.back().empty() || all.back().size() > most) {
      throw Error("prompt ", all.size(), " has ", all.back().size(), " tokens; expected 1 to ",
                  most, " (--context, and what the model allows)");
    }
  }
  return all;
}

Model load_model(const CalibrateOptions& options, const ModelConfig& config, Recorder& recorder,
                 const std::vector<std::vector<uint32_t>>& prompts) {
  ModelOptions model_options = options.model_options;
  model_options.routing_observer = &recorder;
  if (model_options.context == 0) {
    size_t longest = 0;
    for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
    model_options.context = std::min<uint64_t>(longest + options.tokens, config.max_positions);
  }
  ProgressBar bar = stderr_progress("loading", ProgressBar::Unit::bytes);
  return Model::load(
      options.model, model_options,
      {.planned = {},
       .trunk_bytes = [&bar](uint64_t done, uint64_t total) { bar.update(done, total); },
       .prompt_tokens = {}});
}

// Runs the prompts that have no part yet. False if it was interrupted.
bool run_prompts(const CalibrateOptions& options, const ModelConfig& config, const Parts& parts,
                 const TraceFacts& facts, const std::vector<std::vector<uint32_t>>& prompts) {
  Recorder recorder;
  Model model = load_model(options, config, recorder, prompts);
  const GenerationConfig generation = read_generation_config(options.model);
  catch_interrupts();
  ProgressBar bar = stderr_progress("collecting", ProgressBar::Unit::tokens);
  const uint64_t total = prompts.size() * uint64_t{options.tokens};
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (parts.has(i)) continue;
    const std::function<void(uint64_t)> generated = [&](uint64_t tokens) {
      bar.update(i * uint64_t{options.tokens} + tokens, total);
    };
    if (!Job{options, config, generation, model, recorder, generated}.run(prompts[i], i)) {
      return false;
    }
    recorder.trace.facts = facts;
    write_text_file(parts.path(i), trace_text(recorder.trace));
  }
  return true;
}

}  // namespace

int collect(const CalibrateOptions& options) {
  const std::vector<std::string> prompts =
      options.prompts.empty()
          ? built_in_prompts()
          : parse_prompts(read_text_file(options.prompts, kMaxPromptBytes), options.prompts);
  std::error_code error;
  if (fs::exists(options.out, error)) {
    throw Error(options.out, ": is there already; remove it, or give another --out (and join the ",
                "two with stream-calibrate merge)");
  }
  const ModelConfig config = read_config(options.model);
  const TraceFacts facts = read_trace_facts(options.model);
  const std::vector<std::vector<uint32_t>> ids = encode(prompts, options, config);
  const Parts parts(options.out, settings_text(options, facts, prompts));
  if (!run_prompts(options, config, parts, facts, ids)) {
    std::fputs("stream-calibrate: interrupted; run the same command again to go on\n", stderr);
    return kInterruptedExit;
  }
  std::vector<std::string> files;
  for (size_t i = 0; i < prompts.size(); ++i) files.push_back(parts.path(i));
  const uint64_t records = merge_traces(files, options.out);
  parts.remove();
  std::printf("%s: %zu prompts, %llu tokens, %llu records\n", options.out.c_str(), prompts.size(),
              static_cast<unsigned long long>(records / facts.grid.layers.size()),
              static_cast<unsigned long long>(records));
  return 0;
}

}  // namespace sluice
