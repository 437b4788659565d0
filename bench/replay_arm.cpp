#include "bench/replay_arm.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "io/check.h"
#include "io/error.h"
#include "stream/cache_replay.h"

namespace sluice::bench {
ReplayWork::ReplayWork(Trace actual, Trace predicted, const ExpertLayers& layers)
    : actual_(std::move(actual)), predicted_(std::move(predicted)) {
  SLUICE_CHECK(actual_.size() == predicted_.size());
  const ExpertGrid grid = grid_of(layers.source());
  const DemandSequence sequence = demand_sequence(actual_, grid);  // knows every layer and expert
  if (sequence.records() == 0) throw Error("the trace has no records");
  if (sequence.longest > layers.experts_per_token()) {
    throw Error("the trace has ", sequence.longest, " experts in a record, the model uses ",
                layers.experts_per_token(), " for a token");
  }
  for (size_t i = 0; i < actual_.size(); ++i) {
    layers_.push_back(*grid.index_of(actual_[i].layer));
    if (i == 0 || layers_[i] <= layers_[i - 1]) first_.push_back(i);
  }
  first_.push_back(actual_.size());
}

ReplayWork::Step ReplayWork::step(uint64_t token, uint64_t i) const {
  const uint64_t record = first_[token] + i;
  Step step{.layer = layers_[record],
            .experts = actual_[record].experts,
            .next_layer = 0,
            .next_predicted = {}};
  if (record + 1 == first_[token + 1]) return step;
  step.next_layer = layers_[record + 1];
  step.next_predicted = predicted_[record + 1].experts;
  return step;
}

ReplayArm::ReplayArm(ExpertLayers& layers, const ReplayWork& work, const Options& options)
    : layers_(layers),
      work_(work),
      look_ahead_(options.look_ahead),
      shared_(std::make_shared<Shared>()) {
  if (options.on_trial) trial_.emplace(options.look_ahead);
  shared_->queue = make_read_queue(options.backend, options.depth);
  shared_->stream = std::make_unique<ExpertStream>(
      layers.source(), layers.files(), *shared_->queue,
      ExpertStream::Options{.budget_bytes = options.slots * layers.source().slot_bytes(),
                            .policy = "lru",
                            .experts_per_token = layers.experts_per_token(),
                            .bounce = options.bounce});
}

ReplayArm::ReplayArm(const ReplayArm& other, const Options& options)
    : layers_(other.layers_),
      work_(other.work_),
      look_ahead_(options.look_ahead),
      shared_(other.shared_) {
  if (options.on_trial) trial_.emplace(options.look_ahead);
}

bool ReplayArm::holds_all() const {
  return shared_->stream->cache().slots() == grid_of(layers_.source()).keys();
}

uint64_t ReplayArm::load_all() {
  std::vector<uint32_t> experts(layers_.source().experts());
  std::iota(experts.begin(), experts.end(), 0u);
  for (uint32_t layer = 0; layer < layers_.source().layers(); ++layer) {
    ExpertStream::Fetch fetch = shared_->stream->fetch(layer, experts, FetchMode::decode);
    while (const auto i = fetch.next()) fetch.release(*i);
  }
  return 0;
}

uint64_t ReplayArm::warm_up() {
  if (holds_all()) return load_all();
  ExpertStream& stream = *shared_->stream;
  uint64_t token = 0;
  for (; token < kMostWarmUpTokens && stream.statistics().cache.evictions == 0; ++token) {
    for (uint64_t i = 0; i < work_.steps(token % work_.tokens()); ++i) {
      const ReplayWork::Step step = work_.step(token % work_.tokens(), i);
      ExpertStream::Fetch fetch = stream.fetch(step.layer, step.experts, FetchMode::decode);
      while (const auto rank = fetch.next()) fetch.release(*rank);
    }
  }
  return token;
}

Round ReplayArm::run(uint64_t first_token, uint64_t tokens) {
  using Clock = std::chrono::steady_clock;
  ExpertStream& stream = *shared_->stream;
  Round round{.looks_ahead = look_ahead_ > 0, .tokens = tokens, .stream = {}, .misses = {}};
  stream.reset_statistics();
  layers_.take_checksum();
  uint64_t bytes_before = 0;
  const auto start = Clock::now();
  for (uint64_t t = 0; t < tokens; ++t) {
    const auto token_start = Clock::now();
    run_token((first_token + t) % work_.tokens(), round);
    if (!trial_) continue;
    const ReadStatistics reads = stream.statistics().reads;
    const uint64_t bytes_read = reads.bytes_demanded + reads.bytes_speculated;
    trial_->token(std::chrono::duration<double>(Clock::now() - token_start).count(),
                  bytes_read - std::exchange(bytes_before, bytes_read));
  }
  round.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  round.stream = stream.statistics();
  round.checksum = layers_.take_checksum();
  return round;
}

void ReplayArm::run_token(uint64_t token, Round& round) {
  ExpertStream& stream = *shared_->stream;
  const uint32_t look_ahead = trial_ ? trial_->experts() : look_ahead_;
  for (uint64_t i = 0; i < work_.steps(token); ++i) {
    const ReplayWork::Step step = work_.step(token, i);
    layers_.multiply_trunk(step.layer, stream);
    const uint64_t misses_before = stream.cache().statistics().misses;
    ExpertStream::Fetch fetch = stream.fetch(step.layer, step.experts, FetchMode::decode);
    if (look_ahead > 0 && !step.next_predicted.empty()) {
      stream.look_ahead(step.next_layer, step.next_predicted.first(std::min<size_t>(
                                             look_ahead, step.next_predicted.size())));
    }
    layers_.multiply_experts(step.layer, step.experts, fetch, stream);
    round.misses.push_back(
        static_cast<uint32_t>(stream.cache().statistics().misses - misses_before));
    round.experts += step.experts.size();
  }
  round.steps += work_.steps(token);
}

}  // namespace sluice::bench
