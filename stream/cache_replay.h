// Replays of a trace through the engine's own cache, and the most hits that any cache could get.
//
// A record is what one fetch of the engine is: its residents are leased first, in the record's
// order, then a slot is taken for each missing one, and all are released before the next record.
// So a replay that begins with an empty cache gives the very hits, misses and evictions of a run
// that decoded the same tokens from its first one on, with as many slots, the same policy and no
// look-ahead (tests/model/calibration_test.cpp). Prefetching is not part of it. Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache/expert_cache.h"
#include "stream/trace.h"

namespace sluice {

// A trace as the keys of one model's cache.
struct DemandSequence {
  uint32_t layers = 0;
  uint32_t experts = 0;
  uint32_t longest = 0;                 // experts of the largest record: the fewest slots that do
  std::vector<ExpertKey> demands = {};  // records one behind the other
  std::vector<uint64_t> first = {0};    // [records + 1]: where each begins

  size_t records() const { return first.size() - 1; }
  uint64_t keys() const { return uint64_t{layers} * experts; }
  uint64_t index(ExpertKey key) const { return uint64_t{key.layer} * experts + key.expert; }
  std::span<const ExpertKey> record(size_t i) const {
    return std::span(demands).subspan(first[i], first[i + 1] - first[i]);
  }
};
// Throws Error: a layer or expert that the grid does not have.
DemandSequence demand_sequence(const Trace& trace, const ExpertGrid& grid);

struct ReplayOptions {
  uint32_t slots = 0;  // ≥ the sequence's longest record
  std::string policy = "lru";
  // Kept from the start, as far as the cache allows; hottest first. Not counted as demands.
  std::vector<ExpertKey> pins = {};
};
// bytes_* count 1 per expert.
CacheStatistics replay(const DemandSequence& sequence, const ReplayOptions& options);

// The hits of Belady's policy, which knows the future: it finds what it has of a record, and after
// the record keeps, of that and of what it had before, what is wanted again soonest. It may pass
// experts through without keeping them even for the length of their record, as the engine does
// where pins leave fewer slots than a record needs: so no policy, with or without pins, gets more.
// preloaded: what is in the cache at first, at most `slots`; distinct.
uint64_t optimal_hits(const DemandSequence& sequence, uint32_t slots,
                      std::span<const ExpertKey> preloaded = {});

}  // namespace sluice
