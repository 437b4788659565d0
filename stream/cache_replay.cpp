#include "stream/cache_replay.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <utility>

#include "io/check.h"
#include "io/error.h"

namespace sluice {
namespace {

constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

// Loads and pins what the share allows.
void preload(ExpertCache& cache, std::span<const ExpertKey> pins) {
  for (const ExpertKey key : pins) {
    if (cache.pinned() == cache.max_pinned()) break;
    const ExpertCache::Lease lease = cache.acquire(key);
    if (lease.outcome == ExpertCache::Outcome::miss) cache.complete(lease.slot);
    cache.pin(key);
    cache.release(lease.slot);
  }
  cache.reset_statistics();
}

// Which record next wants what each demand wants: [demands].
std::vector<uint64_t> next_uses(const DemandSequence& sequence) {
  std::vector<uint64_t> next(sequence.demands.size());
  std::vector<uint64_t> soonest(uint64_t{sequence.layers} * sequence.experts, kNever);
  for (size_t record = sequence.records(); record-- > 0;) {
    for (uint64_t i = sequence.first[record]; i < sequence.first[record + 1]; ++i) {
      const ExpertKey key = sequence.demands[i];
      uint64_t& use = soonest[uint64_t{key.layer} * sequence.experts + key.expert];
      next[i] = std::exchange(use, record);
    }
  }
  return next;
}

}  // namespace

DemandSequence demand_sequence(const Trace& trace, const ExpertGrid& grid) {
  DemandSequence sequence{.layers = static_cast<uint32_t>(grid.layers.size()),
                          .experts = grid.experts};
  sequence.demands.reserve(trace.demands());
  sequence.first.reserve(trace.size() + 1);
  for (size_t i = 0; i < trace.size(); ++i) {
    const Trace::Record record = trace[i];
    const auto layer = grid.index_of(record.layer);
    if (!layer) throw Error("the trace has layer ", record.layer, ", which the model has not");
    for (const uint32_t expert : record.experts) {
      if (expert >= grid.experts) {
        throw Error("the trace has expert ", expert, ", the model has ", grid.experts);
      }
      sequence.demands.push_back({.layer = *layer, .expert = expert});
    }
    sequence.first.push_back(sequence.demands.size());
    sequence.longest = std::max(sequence.longest, static_cast<uint32_t>(record.experts.size()));
  }
  return sequence;
}

CacheStatistics replay(const DemandSequence& sequence, const ReplayOptions& options) {
  SLUICE_CHECK(options.slots >= sequence.longest && options.slots > 0);
  ExpertCache cache({.layers = sequence.layers,
                     .experts = sequence.experts,
                     .slot_bytes = kPageBytes,
                     .budget_bytes = options.slots * kPageBytes,
                     .expert_bytes = 1,
                     .policy = options.policy,
                     .without_slab = true});
  preload(cache, options.pins);
  std::vector<uint32_t> leased;
  std::vector<ExpertKey> missing;
  for (size_t i = 0; i < sequence.records(); ++i) {
    leased.clear();
    missing.clear();
    for (const ExpertKey key : sequence.record(i)) {
      if (cache.resident(key)) {
        leased.push_back(cache.acquire(key).slot);
      } else {
        missing.push_back(key);
      }
    }
    size_t released = 0;
    for (const ExpertKey key : missing) {
      ExpertCache::Lease lease = cache.acquire(key);
      while (lease.outcome == ExpertCache::Outcome::full) {
        // Pins leave fewer slots than the record has: the engine computes and releases some first.
        SLUICE_CHECK(released < leased.size());
        cache.release(leased[released++]);
        lease = cache.acquire(key);
      }
      cache.complete(lease.slot);
      leased.push_back(lease.slot);
    }
    while (released < leased.size()) cache.release(leased[released++]);
  }
  return cache.statistics();
}

uint64_t optimal_hits(const DemandSequence& sequence, uint32_t slots) {
  SLUICE_CHECK(slots >= sequence.longest);
  const std::vector<uint64_t> next = next_uses(sequence);
  const auto index = [&](ExpertKey key) {
    return uint64_t{key.layer} * sequence.experts + key.expert;
  };
  // [keys]: which record next wants it, of those in memory; 0 if it is not.
  constexpr uint64_t kAbsent = 0;
  std::vector<uint64_t> wanted(uint64_t{sequence.layers} * sequence.experts, kAbsent);
  // Farthest first. An entry is stale unless wanted[key] says the same.
  std::priority_queue<std::pair<uint64_t, uint64_t>> farthest;
  uint64_t resident = 0, hits = 0;
  for (size_t record = 0; record < sequence.records(); ++record) {
    uint64_t misses = 0;
    for (const ExpertKey key : sequence.record(record)) {
      if (wanted[index(key)] != kAbsent) {
        ++hits;
      } else {
        ++misses;
      }
    }
    // What this record wants is wanted at `record`, sooner than all else: it is never on top.
    for (resident += misses; resident > slots; --resident) {
      while (farthest.top().first != wanted[farthest.top().second]) farthest.pop();
      SLUICE_CHECK(farthest.top().first > record);
      wanted[farthest.top().second] = kAbsent;
      farthest.pop();
    }
    for (uint64_t i = sequence.first[record]; i < sequence.first[record + 1]; ++i) {
      wanted[index(sequence.demands[i])] = next[i];
      farthest.push({next[i], index(sequence.demands[i])});
    }
  }
  return hits;
}

}  // namespace sluice
