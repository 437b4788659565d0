// SweepSlots: which slots of a cache hold what no decode has wanted, only sweeps, or what was read
// ahead in vain. These are the cold ones: they are evicted before all others.
//
// A sweep, which passes a layer's many experts through few slots, recycles such slots, and evicts
// anything else only while there are fewer of them than its share. Threads: one.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/expert_cache.h"

namespace sluice {

class SweepSlots {
 public:
  // share: how many slots sweeps may take from what decode has warmed.
  SweepSlots(const ExpertCache& cache, uint32_t share)
      : cache_(cache), share_(share), swept_(cache.slots()) {}

  uint32_t share() const { return share_; }
  bool contains(uint32_t slot) const { return swept_[slot]; }
  void set(uint32_t slot, bool swept) {
    count_ += swept;
    count_ -= swept_[slot];
    swept_[slot] = swept;
  }
  // Whether a sweep may take the slot that the cache would give it next.
  bool may_take_next() const {
    if (count_ < share_) return true;
    const uint32_t victim = cache_.next_eviction();
    return victim == kNoSlot || swept_[victim];
  }

 private:
  const ExpertCache& cache_;
  uint32_t share_;
  std::vector<bool> swept_;  // [slots]
  uint32_t count_ = 0;
};

}  // namespace sluice
