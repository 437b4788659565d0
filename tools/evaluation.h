// Evaluation: the runs of stream-evaluate: the reference first, then each model in each setting,
// every one over all texts. One model is in memory at a time. Threads: one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/perplexity.h"
#include "tools/evaluate_options.h"
#include "tools/scratch_logits.h"

namespace sluice {

// One model in one setting on one text.
struct EvaluationResult {
  LabelledModel model;
  Compute compute = Compute::int16;
  bool reference = false;
  std::string file;
  uint64_t windows = 0;          // complete ones; what follows is of them
  uint64_t planned_windows = 0;  // more than windows after an interruption
  LikelihoodSum likelihood;
  // Where there is a reference, and this is not it.
  std::optional<DivergenceSummary> divergence;
  LikelihoodSum over_reference;  // of differences: the ratio of the perplexities
  std::string worst_text;        // of the token that the reference and this model differ on most

  uint64_t tokens = 0;  // that went through the model
  double seconds = 0;
  StreamStatistics stream;
  bool has_experts = false;
  MemoryPlan plan;
  uint64_t threads = 0;
  std::string io;
};

class Evaluation {
 public:
  struct Calls {
    std::function<bool()> should_stop;
    std::function<void(const std::string& line)> say;     // of what is under way, with its newline
    std::function<void(const EvaluationResult&)> result;  // each one as it is complete
  };
  // Borrows options. Throws Error: a text that cannot be read.
  Evaluation(const EvaluateOptions& options, Calls calls);
  ~Evaluation();

  // Throws Error: a model that cannot be loaded, one whose tokens are not the reference's, a text
  // too short for a window, no room for the reference's logits.
  void run();
  // In the order they were made; after an interruption, what was measured until then.
  const std::vector<EvaluationResult>& results() const { return results_; }
  bool stopped() const { return stopped_; }

 private:
  struct Setting;
  void evaluate(const Setting& setting);
  void evaluate_text(const Setting& setting, size_t file, Session& session, Model& model);
  void read_tokens(const Setting& setting);
  void make_scratch(const Setting& setting);
  std::string worst_text(const EvaluationResult& result) const;

  const EvaluateOptions& options_;
  Calls calls_;
  std::vector<std::string> texts_;                // by file
  std::unique_ptr<Tokenizer> tokenizer_;          // of the model under way
  std::vector<EvaluationText> tokens_;            // by file, of the model under way
  std::vector<EvaluationText> reference_tokens_;  // by file
  std::optional<ScratchLogits> scratch_;          // the reference's logits, file after file
  std::vector<EvaluationResult> results_;
  bool stopped_ = false;
};

}  // namespace sluice
