// Sampler: chooses the next token from logits.
//
// Steps, in this order (that of the reference's generate()): repetition penalty over the last
// penalty_window ids (logit > 0 divided, else multiplied; once however often an id occurs),
// temperature, top-k, top-p, min-p, then one draw among what is left, in proportion to its
// probability. temperature 0 is the argmax (lowest id on ties), after the penalty.
// The draw is a fixed function of seed and draw count, the same on every machine. Threads: one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice {

struct SamplingOptions {
  float temperature = 1.0f;  // 0: greedy
  uint32_t top_k = 0;        // 0: off; of equal logits at the edge the lowest ids stay
  float top_p = 1.0f;        // 1: off; else the fewest ids that together reach it stay
  float min_p = 0.0f;        // 0: off; share of the highest probability that an id must reach
  float repetition_penalty = 1.0f;  // 1: off
  uint32_t penalty_window = 64;     // ids; 0: all
  uint64_t seed = 0;
};

class Sampler {
 public:
  // Throws Error naming the option that is out of range.
  Sampler(const SamplingOptions& options, uint32_t vocabulary);

  // Notes an id as part of the text (prompt or generated), for the penalty. Throws Error if it is
  // outside the vocabulary.
  void accept(uint32_t id);
  // logits [vocabulary]; forbidden ids are never chosen (--min-tokens forbids the end tokens), nor
  // are ids of logit -inf. Throws Error: a logit is NaN or +inf, or no id may be chosen. O(n), and
  // O(m log n) for the m ids that top-p keeps.
  uint32_t sample(std::span<const float> logits, std::span<const uint32_t> forbidden = {});

 private:
  struct Candidate {
    uint32_t id;
    double weight;  // probability, in units of the likeliest id's
  };
  void penalize_and_check(std::span<const float> logits, std::span<const uint32_t> forbidden);
  uint32_t argmax() const;
  void weigh();
  void keep_top_k();
  void keep_top_p();
  void keep_min_p();
  uint32_t draw();
  bool likelier(const Candidate& a, const Candidate& b) const;
  void sort_by_id();
  double total_weight() const;

  SamplingOptions options_;
  uint32_t vocabulary_;
  uint64_t draws_ = 0;
  std::vector<uint32_t> occurrences_;  // [vocabulary] within the window; empty without a penalty
  std::vector<uint32_t> window_;       // a ring of the last ids; empty if the window is all
  uint64_t accepted_ = 0;
  std::vector<float> logits_;          // [vocabulary] after the penalty; -inf where forbidden
  std::vector<Candidate> candidates_;  // what is left, in order of id
};

}  // namespace sluice
