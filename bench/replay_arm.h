// ReplayArm: one cache and its way through a routing trace, in rounds that are timed.
//
//   ReplayArm arm(layers, work, {...});
//   uint64_t token = arm.warm_up();
//   Round round = arm.run(token, 32);
//
// Arms that differ in their look-ahead alone compute the same sums for the same tokens.
// Borrows: layers, work (must outlive this). Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/expert_layers.h"
#include "stream/look_ahead_trial.h"
#include "stream/trace.h"

namespace sluice::bench {

// A trace cut into tokens, as a model's experts have it, and what was predicted of each record.
// Behind the last token comes the first again.
class ReplayWork {
 public:
  // Throws Error: a layer or expert that the model has not, no record, more experts in one than
  // the model uses for a token. Requires: as many predicted as actual records.
  ReplayWork(Trace actual, Trace predicted, const ExpertLayers& layers);

  struct Step {
    uint32_t layer = 0;  // of the source
    std::span<const uint32_t> experts;
    uint32_t next_layer = 0;
    std::span<const uint32_t> next_predicted;  // empty: the token's last layer
  };
  uint64_t tokens() const { return first_.size() - 1; }
  uint64_t steps(uint64_t token) const { return first_[token + 1] - first_[token]; }
  Step step(uint64_t token, uint64_t i) const;

 private:
  Trace actual_, predicted_;
  std::vector<uint32_t> layers_;  // [records]
  std::vector<uint64_t> first_;   // [tokens + 1]: where each begins
};

struct Round {
  bool looks_ahead = false;
  double seconds = 0;
  uint64_t tokens = 0;
  uint64_t steps = 0;
  uint64_t experts = 0;          // that were multiplied
  StreamStatistics stream;       // of this round
  std::vector<uint32_t> misses;  // [steps]
  uint64_t checksum = 0;         // of all sums
};

class ReplayArm {
 public:
  static constexpr uint64_t kMostWarmUpTokens = 1000;

  struct Options {
    uint64_t slots = 0;       // of the cache
    uint32_t look_ahead = 0;  // experts of the next layer that are asked for; 0: none
    bool on_trial = false;    // as many as a LookAheadTrial says instead, of look_ahead at most
    ReadBackend backend = ReadBackend::automatic;
    uint32_t depth = 16;
    Bounce bounce = Bounce::automatic;
  };
  // Throws Error: as ExpertStream and make_read_queue().
  ReplayArm(ExpertLayers& layers, const ReplayWork& work, const Options& options);
  // Another arm on the same cache: for caches that hold everything, whose state never changes.
  ReplayArm(const ReplayArm& other, const Options& options);

  // Fetches, without computing, from the first token on until the cache evicts (then the state of
  // LRU no longer depends on where it began) or kMostWarmUpTokens are through; or everything, if
  // all experts fit. Returns the token behind.
  uint64_t warm_up();
  // From that token on (modulo the work's).
  Round run(uint64_t first_token, uint64_t tokens);

  std::string queue_description() const { return shared_->queue->description(); }
  bool holds_all() const;

 private:
  struct Shared {
    std::unique_ptr<ReadQueue> queue;
    std::unique_ptr<ExpertStream> stream;
  };
  uint64_t load_all();
  void run_token(uint64_t token, Round& round);

  ExpertLayers& layers_;
  const ReplayWork& work_;
  uint32_t look_ahead_;
  std::optional<LookAheadTrial> trial_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace sluice::bench
