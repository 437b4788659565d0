#include "model/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "io/check.h"
#include "io/error.h"

namespace sluice {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

// SplitMix64's output function: a bijection of 64 bits in which every input bit moves every output
// bit with a chance of about one half.
uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

// The draw-th uniform number of a seed, in [0, 1), with 53 bits. A counter instead of a state: draw
// i does not depend on how the draws before it were made. The seed is mixed first because seeds
// that differ by the increment would otherwise share their numbers, one draw apart.
double uniform(uint64_t seed, uint64_t draw) {
  constexpr uint64_t kIncrement = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio, odd
  const uint64_t bits = mix(mix(seed + kIncrement) + (draw + 1) * kIncrement);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

void require(bool condition, const char* option, float value, const char* expected) {
  if (!condition) throw Error("sampling option ", option, " is ", value, "; expected ", expected);
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options, uint32_t vocabulary)
    : options_(options), vocabulary_(vocabulary) {
  require(std::isfinite(options.temperature) && options.temperature >= 0, "temperature",
          options.temperature, "a number >= 0");
  require(options.top_p >= 0 && options.top_p <= 1, "top_p", options.top_p, "a number in [0, 1]");
  require(options.min_p >= 0 && options.min_p <= 1, "min_p", options.min_p, "a number in [0, 1]");
  require(std::isfinite(options.repetition_penalty) && options.repetition_penalty > 0,
          "repetition_penalty", options.repetition_penalty, "a number > 0");
  if (vocabulary == 0) throw Error("a vocabulary of 0 tokens has none to sample");
  if (options.repetition_penalty != 1) {
    occurrences_.resize(vocabulary);
  }
}

void Sampler::accept(uint32_t id) {
  if (id >= vocabulary_) {
    throw Error("token id ", id, " is outside the vocabulary of ", vocabulary_, " tokens");
  }
  if (occurrences_.empty()) return;
  if (window_.size() < options_.penalty_window) {
    window_.push_back(id);  // as long as the text at most, however wide the window was asked for
  } else if (options_.penalty_window > 0) {
    uint32_t& oldest = window_[accepted_ % options_.penalty_window];
    --occurrences_[oldest];
    oldest = id;
  }
  ++occurrences_[id];
  ++accepted_;
}

void Sampler::penalize_and_check(std::span<const float> logits,
                                 std::span<const uint32_t> forbidden) {
  logits_.assign(logits.begin(), logits.end());
  for (uint32_t id = 0; id < vocabulary_; ++id) {
    float& logit = logits_[id];
    if (std::isnan(logit) || logit == -kImpossible) {
      throw Error("the logits are not finite: token ", id, " has ", logit,
                  "; the checkpoint is damaged or its numbers overflow");
    }
    if (occurrences_.empty() || occurrences_[id] == 0 || logit == kImpossible) continue;
    logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    // A penalty far from 1 may overflow; the largest number still compares as it should.
    logit =
        std::clamp(logit, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
  }
  for (const uint32_t id : forbidden) {
    if (id < vocabulary_) logits_[id] = kImpossible;
  }
}

uint32_t Sampler::argmax() const {
  return static_cast<uint32_t>(std::max_element(logits_.begin(), logits_.end()) - logits_.begin());
}

// All ids that may be chosen, in order, with their weights: 1 for the likeliest.
void Sampler::weigh() {
  candidates_.clear();
  const double highest = logits_[argmax()];
  for (uint32_t id = 0; id < vocabulary_; ++id) {
    if (logits_[id] == kImpossible) continue;
    candidates_.push_back({id, std::exp((logits_[id] - highest) / options_.temperature)});
  }
}

bool Sampler::likelier(const Candidate& a, const Candidate& b) const {
  // By logit, since weights far below the highest are all 0.
  return logits_[a.id] != logits_[b.id] ? logits_[a.id] > logits_[b.id] : a.id < b.id;
}

void Sampler::sort_by_id() {
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

double Sampler::total_weight() const {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  return total;
}

void Sampler::keep_top_k() {
  if (options_.top_k == 0 || options_.top_k >= candidates_.size()) return;
  const auto end = candidates_.begin() + options_.top_k;
  std::nth_element(candidates_.begin(), end, candidates_.end(),
                   [this](const auto& a, const auto& b) { return likelier(a, b); });
  candidates_.erase(end, candidates_.end());
  sort_by_id();
}

// A heap gives the likeliest one by one, so that the thousands that top-p drops are never sorted.
void Sampler::keep_top_p() {
  if (options_.top_p == 1) return;
  const double wanted = options_.top_p * total_weight();
  const auto less_likely = [this](const auto& a, const auto& b) { return likelier(b, a); };
  const auto begin = candidates_.begin();
  auto kept = candidates_.end();  // pop_heap puts what it takes here, from the back
  std::make_heap(begin, kept, less_likely);
  double reached = 0;
  do {
    std::pop_heap(begin, kept, less_likely);
    --kept;
    reached += kept->weight;
  } while (reached < wanted && kept != begin);
  candidates_.erase(begin, kept);
  sort_by_id();
}

void Sampler::keep_min_p() {
  std::erase_if(candidates_, [this](const Candidate& c) { return c.weight < options_.min_p; });
}

uint32_t Sampler::draw() {
  const double target = uniform(options_.seed, draws_++) * total_weight();
  double passed = 0;
  uint32_t chosen = candidates_.front().id;
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight == 0) continue;  // when rounding keeps target from being passed below
    chosen = candidate.id;
    passed += candidate.weight;
    if (passed > target) break;
  }
  return chosen;
}

uint32_t Sampler::sample(std::span<const float> logits, std::span<const uint32_t> forbidden) {
  SLUICE_CHECK(logits.size() == vocabulary_);
  penalize_and_check(logits, forbidden);
  const uint32_t likeliest = argmax();
  if (logits_[likeliest] == kImpossible) {
    throw Error("no token may be chosen: each of the ", vocabulary_,
                " is forbidden or has the logit -inf");
  }
  if (options_.temperature == 0) return likeliest;
  weigh();
  keep_top_k();
  keep_top_p();
  keep_min_p();
  return draw();
}

}  // namespace sluice
