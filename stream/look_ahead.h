// LookAhead: experts that a layer will likely want, read before it asks.
//
//   expect(layer, experts)        who is expected, likeliest first
//   start()                       whenever the device has time: starts some of them
//   the layer's fetch             adopts the loads of those it does want, then let_go()
//
// What is read ahead is leased, so that it is there when the layer asks; let_go() ends that, and
// what nobody asked for is the next to be evicted. What was not at the device yet is dropped. No
// expected expert is evicted for another one.
//
// Only so much is at the device at once: a demanded read that comes now has to stand behind it.
//
// Borrows: all it is given. Threads: one, the queue's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cache/expert_cache.h"
#include "stream/expert_loads.h"
#include "stream/sweep_slots.h"

namespace sluice {

class LookAhead {
 public:
  LookAhead(const ExpertSource& source, ExpertCache& cache, ExpertLoads& loads, SweepSlots& swept)
      : source_(source), cache_(cache), loads_(loads), swept_(swept) {}

  // Replaces those of an earlier call that were not started. for_sweep: they are read in the order
  // of the disk, into slots that a sweep may take.
  void expect(uint32_t layer, std::span<const uint32_t> experts, bool for_sweep);
  // As many as may be under way at once.
  void start();

  // Whether a load that was dropped still fills a slot with one of these experts.
  bool dropping_any(uint32_t layer, std::span<const uint32_t> experts) const;
  // The load that is reading this expert ahead.
  std::optional<uint32_t> loading(ExpertKey key) const;
  // Ends all leases, drops what is under way and has no owner, and forgets who was expected.
  void let_go();
  // To be told of every load that ended.
  void ended(const ExpertLoads::Ended& load);

 private:
  static constexpr uint32_t kLanded = 0xffffffff;

  struct Entry {
    ExpertKey key;
    uint32_t slot = kNoSlot;
    uint32_t load = kLanded;
    bool dropped = false;
  };

  bool expected(ExpertKey key) const;
  bool may_take_next() const;

  const ExpertSource& source_;
  ExpertCache& cache_;
  ExpertLoads& loads_;
  SweepSlots& swept_;
  uint32_t layer_ = 0;
  bool for_sweep_ = false;
  std::vector<uint32_t> expected_;
  size_t next_ = 0;             // the first of them that was not looked at
  std::vector<Entry> entries_;  // read ahead, each with a lease
};

}  // namespace sluice
