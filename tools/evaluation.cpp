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

// Scores the tokens of one text; those of a window count when the window is complete.
class Scorer {
 public:
  // scratch: written to by the reference, read from row on by what is compared with it; or null.
  Scorer(EvaluationResult& result, ScratchLogits* scratch, uint64_t row)
      : result_(result), scratch_(scratch), row_(row) {}

  bool compares() const { return scratch_ != nullptr && !result_.reference; }

  void token(const ScoredToken& token) {
    Pending scored;
    scored.token = token;
    scored.likelihood = negative_log_likelihood(token.logits, token.id);
    if (compares()) {
      const std::span<const float> reference = scratch_->at(row_++);
      scored.comparison = compare_logits(reference, token.logits);
      scored.reference_likelihood = negative_log_likelihood(reference, token.id);
    } else if (scratch_ != nullptr) {
      scratch_->add(token.logits);
    }
    pending_.push_back(scored);
  }

  void finish_window() {
    for (const Pending& scored : pending_) {
      result_.likelihood.add(scored.likelihood);
      if (!compares()) continue;
      divergence_.add(scored.token, scored.comparison);
      result_.over_reference.add(scored.likelihood - scored.reference_likelihood);
    }
    pending_.clear();
  }

  DivergenceSummary divergence() const { return divergence_.summary(); }

 private:
  struct Pending {
    ScoredToken token;  // its logits are gone by the time that it counts
    double likelihood = 0;
    double reference_likelihood = 0;  // negative logarithms, both
    Comparison comparison;
  };
  EvaluationResult& result_;
  ScratchLogits* scratch_;
  uint64_t row_;
  std::vector<Pending> pending_;
  DivergenceSum divergence_;
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
    if (calls_.should_stop()) stopped_ = true;
    if (stopped_) return;
    evaluate(setting);
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
  const ScratchLogits::Shape shape = {.positions = first_row(texts_.size()),
                                      .vocabulary = vocabulary};
  calls_.say("reference: the logits of " + std::to_string(shape.positions) + " positions take " +
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

EvaluationResult Evaluation::make_result(const Setting& setting, size_t file,
                                         const Model& model) const {
  EvaluationResult result;
  result.model = setting.model;
  result.compute = setting.compute;
  result.reference = setting.reference;
  result.file = options_.files[file];
  result.planned_windows = Windows(tokens_[file].ids.size(), options_.windows).count();
  result.has_experts = model.has_experts();
  result.plan = model.plan();
  result.threads = model.threads();
  result.io = model.io_description();
  return result;
}

// Where the reference's logits for a text begin.
uint64_t Evaluation::first_row(size_t file) const {
  uint64_t row = 0;
  for (size_t before = 0; before < file; ++before) {
    const Windows windows(tokens_[before].ids.size(), options_.windows);
    row += windows.count() * windows.targets();
  }
  return row;
}

void Evaluation::evaluate_text(const Setting& setting, size_t file, Session& session,
                               Model& model) {
  const Windows windows(tokens_[file].ids.size(), options_.windows);
  EvaluationResult result = make_result(setting, file, model);
  Scorer scorer(result, scratch_ ? &*scratch_ : nullptr, first_row(file));
  ProgressBar bar = stderr_progress(setting.model.label + " " + compute_name(setting.compute),
                                    ProgressBar::Unit::tokens);
  const uint64_t all_tokens = windows.count() * (options_.windows.context - 1);
  model.reset_stream_statistics();
  const auto start = std::chrono::steady_clock::now();
  const WindowCalls calls = {.token = [&](const ScoredToken& token) { scorer.token(token); },
                             .window = [&](uint64_t) { scorer.finish_window(); },
                             .progress =
                                 [&](uint64_t tokens) {
                                   result.tokens = tokens;
                                   bar.update(tokens, all_tokens);
                                 },
                             .should_stop = calls_.should_stop};
  result.windows = run_windows(session, tokens_[file], windows, calls);
  bar.finish();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.stream = model.stream_statistics();
  stopped_ = result.windows < windows.count();
  if (scorer.compares()) {
    result.divergence = scorer.divergence();
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
