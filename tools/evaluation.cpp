#include "tools/evaluation.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "io/error.h"
#include "io/posix_file.h"
#include "model/utf8.h"
#include "tools/progress_bar.h"

namespace sluice {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;
// Positions whose logits are computed together, so that the head's weights are read once for all of
// them: a head of 65,536 x 1,024 in bf16 did 80 positions a second one by one, 500 in sixteens, 620
// in thirty-twos and 680 in sixty-fours (one core). 32 rows of a vocabulary of 150,000 take 19 MB.
constexpr uint32_t kLogitsBatch = 32;

std::string read_text(const std::string& path) {
  std::string text = read_text_file(path, kMaxTextBytes);
  if (!utf8_valid(text)) throw Error(path, ": the text is not valid UTF-8; convert it");
  return text;
}

// What one window came to; it counts when the window is complete.
struct PendingToken {
  ScoredToken token;  // its logits are gone by then
  double negative_log_likelihood = 0;
  Comparison comparison;
  double reference_likelihood = 0;  // negative log, too
};

}  // namespace

struct Evaluation::Setting {
  LabelledModel model;
  Compute compute = Compute::int16;
  bool reference = false;
};

Evaluation::Evaluation(const EvaluateOptions& options, Calls calls)
    : options_(options), calls_(std::move(calls)) {
  for (const std::string& file : options.files) texts_.push_back(read_text(file));
}

Evaluation::~Evaluation() = default;

void Evaluation::run() {
  std::vector<Setting> settings;
  if (options_.reference)
    settings.push_back({*options_.reference, options_.reference_compute, true});
  for (const LabelledModel& model : options_.models) {
    for (const Compute compute : options_.computes) settings.push_back({model, compute, false});
  }
  for (const Setting& setting : settings) {
    evaluate(setting);
    if (stopped_) return;
  }
}

void Evaluation::read_tokens(const Setting& setting) {
  tokenizer_ = std::make_unique<Tokenizer>(Tokenizer::load(setting.model.directory));
  tokens_.clear();
  for (size_t file = 0; file < texts_.size(); ++file) {
    tokens_.push_back(tokenize_text(*tokenizer_, texts_[file]));
    try {
      (void)Windows(tokens_[file].ids.size(), options_.windows);
    } catch (const Error& error) {
      throw Error(options_.files[file], ": ", error.what());
    }
    if (!options_.reference || setting.reference) continue;
    const EvaluationText& reference = reference_tokens_[file];
    if (tokens_[file].ids != reference.ids ||
        tokens_[file].beginning_token != reference.beginning_token) {
      throw Error(setting.model.directory, ": reads ", options_.files[file],
                  " as other tokens than the reference ", options_.reference->directory,
                  " does; models can only be compared token by token if they share a tokenizer");
    }
  }
  if (setting.reference) reference_tokens_ = tokens_;
}

// The reference's logits are written once and compared with by every model.
void Evaluation::make_scratch(const Setting& setting) {
  const uint32_t vocabulary = read_config(setting.model.directory).vocabulary;
  uint64_t positions = 0;
  for (const EvaluationText& text : tokens_) {
    const Windows windows(text.ids.size(), options_.windows);
    positions += windows.count() * windows.targets();
  }
  const ScratchLogits::Shape shape = {.positions = positions, .vocabulary = vocabulary};
  calls_.say("reference: the logits of " + std::to_string(positions) + " positions take " +
             bytes_text(shape.bytes()) + " in " + options_.scratch + "\n");
  scratch_.emplace(options_.scratch, shape);
}

void Evaluation::evaluate(const Setting& setting) {
  read_tokens(setting);
  if (setting.reference) make_scratch(setting);
  const uint32_t vocabulary = read_config(setting.model.directory).vocabulary;
  if (scratch_ && scratch_->vocabulary() != vocabulary) {
    throw Error(setting.model.directory, ": has a vocabulary of ", vocabulary,
                ", the reference one of ", scratch_->vocabulary(),
                "; only models of one vocabulary can be compared");
  }
  malloc_trim(0);  // the plan starts from what really stays

  ModelOptions model_options = options_.model_options;
  model_options.compute = setting.compute;
  model_options.context = options_.windows.context;
  model_options.logits_batch = kLogitsBatch;
  ProgressBar bar = stderr_progress("loading " + setting.model.label, ProgressBar::Unit::bytes);
  Model model = Model::load(
      setting.model.directory, model_options,
      {.planned = {},
       .trunk_bytes = [&bar](uint64_t done, uint64_t total) { bar.update(done, total); },
       .prompt_tokens = {}});
  bar.finish();
  Session session(model);
  for (size_t file = 0; file < texts_.size() && !stopped_; ++file) {
    evaluate_text(setting, file, session, model);
  }
}

void Evaluation::evaluate_text(const Setting& setting, size_t file, Session& session,
                               Model& model) {
  const EvaluationText& text = tokens_[file];
  const Windows windows(text.ids.size(), options_.windows);
  EvaluationResult result;
  result.model = setting.model;
  result.compute = setting.compute;
  result.reference = setting.reference;
  result.file = options_.files[file];
  result.planned_windows = windows.count();
  result.has_experts = model.has_experts();
  result.plan = model.plan();
  result.threads = model.threads();
  result.io = model.io_description();

  const bool compare = scratch_ && !setting.reference;
  uint64_t row = 0;  // of the reference's logits
  for (size_t before = 0; compare && before < file; ++before) {
    const Windows other(tokens_[before].ids.size(), options_.windows);
    row += other.count() * other.targets();
  }
  DivergenceSum divergence;
  std::vector<PendingToken> pending;
  ProgressBar bar = stderr_progress(setting.model.label + " " + compute_name(setting.compute),
                                    ProgressBar::Unit::tokens);
  const uint64_t all_tokens = windows.count() * (options_.windows.context - 1);
  model.reset_stream_statistics();
  const auto start = std::chrono::steady_clock::now();
  const WindowCalls calls = {
      .token =
          [&](const ScoredToken& token) {
            PendingToken scored;
            scored.token = token;
            scored.negative_log_likelihood = negative_log_likelihood(token.logits, token.id);
            if (setting.reference) scratch_->add(token.logits);
            if (compare) {
              const std::span<const float> reference = scratch_->at(row++);
              scored.comparison = compare_logits(reference, token.logits);
              scored.reference_likelihood = negative_log_likelihood(reference, token.id);
            }
            pending.push_back(scored);
          },
      .window =
          [&](uint64_t) {
            for (const PendingToken& scored : pending) {
              result.likelihood.add(scored.negative_log_likelihood);
              if (!compare) continue;
              divergence.add(scored.token, scored.comparison);
              result.over_reference.add(scored.negative_log_likelihood -
                                        scored.reference_likelihood);
            }
            pending.clear();
          },
      .progress =
          [&](uint64_t tokens) {
            result.tokens = tokens;
            bar.update(tokens, all_tokens);
          },
      .should_stop = calls_.should_stop};
  result.windows = run_windows(session, text, windows, calls);
  bar.finish();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.stream = model.stream_statistics();
  stopped_ = result.windows < windows.count();
  if (compare) {
    result.divergence = divergence.summary();
    result.worst_text = worst_text(result);
  }
  results_.push_back(std::move(result));
  calls_.result(results_.back());
}

std::string Evaluation::worst_text(const EvaluationResult& result) const {
  if (result.divergence->tokens == 0) return {};
  const uint32_t id = result.divergence->worst_id;
  return tokenizer_->decode({&id, 1}, /*skip_special_tokens=*/false);
}

}  // namespace sluice
