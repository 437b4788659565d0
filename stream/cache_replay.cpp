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

// Which record next wants an expert: of every demand [demands], and at the start [keys].
struct NextUses {
  std::vector<uint64_t> after;
  std::vector<uint64_t> first;
};

NextUses find_next_uses(const DemandSequence& sequence) {
  NextUses next{.after = std::vector<uint64_t>(sequence.demands.size()),
                .first = std::vector<uint64_t>(sequence.keys(), kNever)};
  for (size_t record = sequence.records(); record-- > 0;) {
    for (uint64_t i = sequence.first[record]; i < sequence.first[record + 1]; ++i) {
      next.after[i] = std::exchange(next.first[sequence.index(sequence.demands[i])], record);
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

uint64_t optimal_hits(const DemandSequence& sequence, uint32_t slots,
                      std::span<const ExpertKey> preloaded) {
  SLUICE_CHECK(preloaded.size() <= slots);
  const NextUses next = find_next_uses(sequence);
  constexpr uint64_t kAbsent = std::numeric_limits<uint64_t>::max() - 1;
  // [keys]: the record that next wants it, of what is in memory.
  std::vector<uint64_t> wanted(sequence.keys(), kAbsent);
  // The farthest on top. An entry is stale unless wanted[key] says the same.
  std::priority_queue<std::pair<uint64_t, uint64_t>> farthest;
  uint64_t resident = 0, hits = 0;
  const auto keep = [&](uint64_t key, uint64_t record) {
    resident += wanted[key] == kAbsent;
    wanted[key] = record;
    farthest.push({record, key});
  };
  for (const ExpertKey key : preloaded) {
    keep(sequence.index(key), next.first[sequence.index(key)]);
  }
  for (size_t record = 0; record < sequence.records(); ++record) {
    for (uint64_t i = sequence.first[record]; i < sequence.first[record + 1]; ++i) {
      const uint64_t key = sequence.index(sequence.demands[i]);
      hits += wanted[key] != kAbsent;
      keep(key, next.after[i]);
    }
    for (; resident > slots; farthest.pop()) {
      const auto [when, key] = farthest.top();
      if (wanted[key] != when) continue;
      wanted[key] = kAbsent;
      --resident;
    }
  }
  return hits;
}

}  // namespace sluice
