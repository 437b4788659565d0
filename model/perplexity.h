// Perplexity: how well a model predicts a text, and how far its predictions are from another
// model's. Windows of the text go through one Session; logits are looked at as they come and not
// kept.
//
// The convention is that of llama.cpp's perplexity tool, so that numbers compare. The text's tokens
// are cut into windows of `context` tokens without overlap; what is left at the end is not used. If
// the tokenizer puts a token before every text (BOS), it takes the place of each window's first.
// In a window the tokens behind the first half are predicted, each from all tokens before it:
//
//   window      0 ... context/2   context/2 + 1 ... context - 1
//               context only      scored: context - context/2 - 1 tokens
//
// With a stride S, windows begin S tokens apart and the last S tokens of each are scored, so that
// every token has at least context - S before it, at context/S times the cost. (llama.cpp's
// --ppl-stride S makes the context S/2 longer than it is told.)
//
//   perplexity = exp(mean of -ln p(token)) over all scored tokens
//
// All sums are in double, in the order of the text: results depend on model and text alone.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "model/session.h"
#include "model/tokenizer.h"

namespace sluice {

inline constexpr uint64_t kLeastWindow = 4;  // tokens: one to score with some context before it

struct WindowOptions {
  uint64_t context = 512;  // tokens of a window, ≥ kLeastWindow
  uint64_t stride = 0;     // 0: no overlap; else < context
  uint64_t most = 0;       // windows; 0: all there are
};

struct Window {
  uint64_t begin = 0;         // in the text
  uint64_t tokens = 0;        // of the window
  uint64_t first_target = 0;  // tokens [first_target, tokens) of the window are scored
};

class Windows {
 public:
  // Throws Error: options out of range, or a text too short for one window.
  Windows(uint64_t text_tokens, const WindowOptions& options);

  uint64_t count() const { return count_; }
  Window at(uint64_t index) const { return {index * step_, context_, first_target_}; }
  uint64_t targets() const { return context_ - first_target_; }  // scored tokens of each window

 private:
  uint64_t context_;
  uint64_t step_;
  uint64_t first_target_;
  uint64_t count_;
};

// A text as a model reads it.
struct EvaluationText {
  std::vector<uint32_t> ids;                // with the tokenizer's special tokens around them
  std::optional<uint32_t> beginning_token;  // what the tokenizer puts before every text
};
EvaluationText tokenize_text(const Tokenizer& tokenizer, std::string_view text);

// One token that was predicted.
struct ScoredToken {
  uint64_t position = 0;          // in the text
  uint32_t id = 0;                // the token that is there
  std::span<const float> logits;  // [vocabulary]: what was predicted; valid during the call
};

struct WindowCalls {
  std::function<void(const ScoredToken&)> token;  // in order
  std::function<void(uint64_t windows)> window;   // so many are complete
  std::function<void(uint64_t tokens)> progress;  // that went through the model, of all windows
  std::function<bool()> should_stop;              // asked often
};

// Runs the windows one after another; resets the session before each. Returns how many were
// completed: fewer than windows.count() if it was stopped, and the tokens of the window that was
// under way may have been handed out. Requires: windows were made for text; the model's context
// holds one. Throws Error as Session::prefill does.
uint64_t run_windows(Session& session, const EvaluationText& text, const Windows& windows,
                     const WindowCalls& calls);

// -ln softmax(logits)[id]. Throws Error: logits that are not finite. Requires: id is one of them.
double negative_log_likelihood(std::span<const float> logits, uint32_t id);

struct Comparison {
  double divergence = 0;  // KL(reference || model) in nats, ≥ 0
  bool same_top = false;  // both hold the same token for the most likely
};
// Throws Error: logits that are not finite. Requires: of the same size.
Comparison compare_logits(std::span<const float> reference, std::span<const float> logits);

// The likelihood of what was scored. Of differences between two models' negative log-likelihoods of
// the same tokens, perplexity() is the ratio of their perplexities, and its error that of the
// ratio: far smaller than either's own, since most of what varies from token to token is common to
// both.
class LikelihoodSum {
 public:
  void add(double negative_log_likelihood);
  uint64_t tokens() const { return tokens_; }
  double mean() const;  // nats per token; NaN while there are none
  double perplexity() const;
  // The standard error of perplexity(), from the spread of single tokens; NaN below two.
  double perplexity_error() const;

 private:
  uint64_t tokens_ = 0;
  double sum_ = 0;
  double sum_of_squares_ = 0;
};

// How far the model was from the reference over all scored tokens.
struct DivergenceSummary {
  uint64_t tokens = 0;
  double mean = 0;
  double mean_error = 0;  // its standard error; NaN below two tokens
  double median = 0;
  double percentile_99 = 0;  // nearest rank
  double top_agreement = 0;  // share of tokens with the same most likely token, 0...1
  double worst = 0;
  uint64_t worst_position = 0;  // in the text: of the token that was predicted
  uint32_t worst_id = 0;
};

// Keeps eight bytes a token.
class DivergenceSum {
 public:
  void add(const ScoredToken& token, const Comparison& comparison);
  uint64_t tokens() const { return divergences_.size(); }
  DivergenceSummary summary() const;  // all zero while there are none

 private:
  std::vector<double> divergences_;
  uint64_t same_top_ = 0;
  size_t worst_ = 0;  // index of the first of the largest
  uint64_t worst_position_ = 0;
  uint32_t worst_id_ = 0;
};

}  // namespace sluice
