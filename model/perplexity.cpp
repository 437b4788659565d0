#include "model/perplexity.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "io/check.h"
#include "io/error.h"

namespace sluice {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// ln Σ exp(logits).
double log_sum_exp(std::span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  const double result = most + std::log(sum);
  if (!std::isfinite(result)) {
    throw Error(
        "the model's logits hold infinities or NaN: its weights are damaged, or too large "
        "for this --compute; try --compute f32");
  }
  return result;
}

size_t top_of(std::span<const float> logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// The standard error of the mean of n values, from their sum and their squares'.
double standard_error(double sum, double sum_of_squares, uint64_t n) {
  if (n < 2) return kNaN;
  const auto count = static_cast<double>(n);
  const double mean = sum / count;
  return std::sqrt(std::max(0.0, sum_of_squares / count - mean * mean) / (count - 1));
}

}  // namespace

Windows::Windows(uint64_t text_tokens, const WindowOptions& options)
    : context_(options.context), step_(options.stride == 0 ? options.context : options.stride) {
  if (context_ < kLeastWindow) {
    throw Error("windows of ", context_, " tokens are too short to score; --context is at least ",
                kLeastWindow);
  }
  if (options.stride >= context_) {
    throw Error("a stride of ", options.stride, " leaves nothing of windows of ", context_,
                " tokens as context; lower --stride or raise --context");
  }
  if (text_tokens < context_) {
    throw Error("the text has ", text_tokens, " tokens, less than one window of ", context_,
                "; lower --context or give a longer text");
  }
  if (options.stride == 0) {
    first_target_ = context_ / 2 + 1;
    count_ = text_tokens / context_;
  } else {
    first_target_ = context_ - step_;
    count_ = std::max<uint64_t>(1, (text_tokens - context_ + step_ - 1) / step_);
  }
  if (options.most > 0) count_ = std::min(count_, options.most);
}

EvaluationText tokenize_text(const Tokenizer& tokenizer, std::string_view text) {
  EvaluationText result;
  result.ids = tokenizer.encode(text, /*add_special_tokens=*/true);
  // What surrounds one letter surrounds every text.
  const std::vector<uint32_t> bare = tokenizer.encode("a", false);
  const std::vector<uint32_t> whole = tokenizer.encode("a", true);
  if (whole.size() > bare.size() && !bare.empty() && whole.front() != bare.front()) {
    result.beginning_token = whole.front();
  }
  return result;
}

uint64_t run_windows(Session& session, const EvaluationText& text, const Windows& windows,
                     const WindowCalls& calls) {
  std::vector<uint32_t> ids;
  for (uint64_t index = 0; index < windows.count(); ++index) {
    const Window window = windows.at(index);
    SLUICE_CHECK(window.begin + window.tokens <= text.ids.size());
    const auto first = text.ids.begin() + static_cast<std::ptrdiff_t>(window.begin);
    ids.assign(first, first + static_cast<std::ptrdiff_t>(window.tokens));
    if (text.beginning_token) ids.front() = *text.beginning_token;
    // What follows the last token is nobody's target, so that one need not be computed.
    ids.pop_back();
    const auto on_logits = [&](uint64_t position, std::span<const float> logits) {
      const uint64_t target = window.begin + position + 1;
      calls.token({.position = target, .id = text.ids[target], .logits = logits});
    };
    const auto on_tokens = [&](uint64_t done, uint64_t) {
      if (calls.progress) calls.progress(index * ids.size() + done);
    };
    session.reset();
    const auto last = session.prefill(
        ids, on_logits, calls.should_stop,
        {.planned = {}, .trunk_bytes = {}, .prompt_tokens = on_tokens}, window.first_target - 1);
    if (last.empty()) return index;
    if (calls.window) calls.window(index + 1);
  }
  return windows.count();
}

double negative_log_likelihood(std::span<const float> logits, uint32_t id) {
  SLUICE_CHECK(id < logits.size());
  const double result = log_sum_exp(logits) - static_cast<double>(logits[id]);
  if (!std::isfinite(result))
    throw Error("the model gives a token of the text a logit of ", logits[id]);
  return result;
}

Comparison compare_logits(std::span<const float> reference, std::span<const float> logits) {
  SLUICE_CHECK(reference.size() == logits.size());
  const double reference_norm = log_sum_exp(reference);
  const double norm = log_sum_exp(logits);
  double divergence = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double expected = static_cast<double>(reference[i]) - reference_norm;
    const double got = static_cast<double>(logits[i]) - norm;
    divergence += std::exp(expected) * (expected - got);
  }
  if (!std::isfinite(divergence)) {
    throw Error("the divergence of two models is not finite: one of them has infinite logits");
  }
  // Rounding can leave it a hair below zero.
  return {.divergence = std::max(0.0, divergence), .same_top = top_of(reference) == top_of(logits)};
}

void LikelihoodSum::add(double negative_log_likelihood) {
  ++tokens_;
  sum_ += negative_log_likelihood;
  sum_of_squares_ += negative_log_likelihood * negative_log_likelihood;
}

double LikelihoodSum::mean() const {
  return tokens_ == 0 ? kNaN : sum_ / static_cast<double>(tokens_);
}

double LikelihoodSum::perplexity() const { return std::exp(mean()); }

double LikelihoodSum::perplexity_error() const {
  return perplexity() * standard_error(sum_, sum_of_squares_, tokens_);
}

void DivergenceSum::add(const ScoredToken& token, const Comparison& comparison) {
  if (divergences_.empty() || comparison.divergence > divergences_[worst_]) {
    worst_ = divergences_.size();
    worst_position_ = token.position;
    worst_id_ = token.id;
  }
  divergences_.push_back(comparison.divergence);
  if (comparison.same_top) ++same_top_;
}

DivergenceSummary DivergenceSum::summary() const {
  DivergenceSummary result;
  if (divergences_.empty()) return result;
  double sum = 0;
  double sum_of_squares = 0;
  for (const double divergence : divergences_) {
    sum += divergence;
    sum_of_squares += divergence * divergence;
  }
  std::vector<double> sorted = divergences_;
  std::sort(sorted.begin(), sorted.end());
  const auto rank = [&](uint64_t percent) {  // the least value that so many percent do not pass
    return sorted[(sorted.size() * percent + 99) / 100 - 1];
  };
  const auto count = static_cast<double>(divergences_.size());
  result.tokens = divergences_.size();
  result.mean = sum / count;
  result.mean_error = standard_error(sum, sum_of_squares, result.tokens);
  result.median = rank(50);
  result.percentile_99 = rank(99);
  result.top_agreement = static_cast<double>(same_top_) / count;
  result.worst = divergences_[worst_];
  result.worst_position = worst_position_;
  result.worst_id = worst_id_;
  return result;
}

}  // namespace sluice
