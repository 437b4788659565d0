// ExpertCache: which experts are in memory, in which slot, and who may be evicted.
//
// The cache owns one slab of equal slots and a hard budget: slots * slot_bytes never exceeds it. It
// does no I/O: a miss hands the caller a slot to fill, and the caller says complete() or fail().
//
// A slot is in one of four states:
//
//              acquire (miss)              complete
//     empty ───────────────────► loading ───────────► ready
//       ▲                           │ fail               │  evicted for another expert
//       │   last lease released     ▼                    │  (only if not leased, not pinned)
//       ├──────────────────────── failed                 │
//       └◄───────────────────────────────────────────────┘
//
// Leases: acquire() and prefetch() results hold a lease on their slot; a slot with a lease is never
// evicted and its bytes never move, whatever else happens. Pins are leases that last.
// Invariant: every slot is in exactly one state; the free list holds the empty ones; a key maps to
// its slot while that is loading or ready, and to no other; the policy knows exactly the ready,
// unleased, unpinned slots.
//
// Nothing allocates after construction. Owns: the slab, the tables. Threads: one (the bytes of
// leased, ready slots may be read by any).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/policy.h"
#include "cache/slab.h"

namespace sluice {

struct ExpertKey {
  uint32_t layer = 0;
  uint32_t expert = 0;
  friend bool operator==(const ExpertKey&, const ExpertKey&) = default;
};

// layers × experts: the lookup table is dense, 4 bytes a key. 100 times what published models have.
inline constexpr uint64_t kMaxExpertKeys = uint64_t{1} << 26;

// Counted by demands: an expert that was being prefetched when it was wanted is an in-flight hit,
// not a hit. bytes_* are the expert's own bytes (expert_bytes below), not padding.
struct CacheStatistics {
  uint64_t hits = 0;            // ready when demanded
  uint64_t in_flight_hits = 0;  // loading when demanded
  uint64_t misses = 0;
  uint64_t evictions = 0;
  uint64_t failures = 0;  // fail() calls
  uint64_t speculative_loads = 0;
  uint64_t speculative_used = 0;  // loads by prefetch() that a demand later found
  uint64_t bytes_demanded = 0;    // by all demands, hit or not
  uint64_t bytes_missed = 0;      // by the misses among them
  uint64_t bytes_speculated = 0;  // loaded by prefetch()
  uint64_t bytes_foreseen = 0;    // of bytes_demanded: those of speculative_used
  uint64_t pinned_hits = 0;       // of hits: on pinned experts

  // Of bytes_demanded, those that no read was needed for: neither then nor ahead.
  uint64_t bytes_kept() const { return bytes_demanded - bytes_missed - bytes_foreseen; }
};

class ExpertCache {
 public:
  struct Options {
    uint32_t layers = 0;  // keys are [0, layers) × [0, experts)
    uint32_t experts = 0;
    uint64_t slot_bytes = 0;    // multiple of 4096
    uint64_t budget_bytes = 0;  // ≥ slot_bytes
    uint64_t expert_bytes = 0;  // for the statistics
    std::string policy = "lru";
    double max_pinned_share = 0.6;  // of the slots
    bool without_slab = false;      // no memory behind the slots: for replays of a trace
  };
  enum class Outcome : uint8_t {
    hit,        // ready: read it now
    in_flight,  // somebody else's load is under way; wait for it
    miss,       // the slot is yours to fill: then complete() or fail()
    full,       // no slot can be freed now: release something first. No lease was taken.
  };
  struct Lease {
    Outcome outcome = Outcome::full;
    uint32_t slot = kNoSlot;
  };

  // Throws Error: the budget holds no slot, too many keys, unknown policy, out of memory.
  explicit ExpertCache(const Options& options);

  // As many as the budget holds, but no more than there are keys.
  uint32_t slots() const { return static_cast<uint32_t>(slots_.size()); }
  uint64_t slot_bytes() const { return slot_bytes_; }
  // [slot_bytes], 4096-aligned; a page is readable behind the last slot. Requires, as slab(): not
  // without_slab.
  std::byte* slot_data(uint32_t slot) const;
  std::span<std::byte> slab() const { return slab_->bytes(); }  // for ReadQueue::register_buffer

  // Takes a lease on the expert's slot (unless full). Counted as a demand, except when full. O(1).
  // Every acquire of a loading key takes its own lease; the loader alone says complete() or fail().
  Lease acquire(ExpertKey key);
  // As acquire for speculation: counted apart. A hit or an in-flight load takes no lease and is
  // reported as such; a miss takes one, and the slot is the caller's to fill.
  Lease prefetch(ExpertKey key);
  // Ends one lease; the last one makes the slot evictable. Requires: leased.
  void release(uint32_t slot, Retention retention = Retention::keep);
  // The load of a slot ended. complete: loading → ready. fail: its key is forgotten at once (the
  // next acquire is a fresh miss) and the slot is empty once its leases are released; those who
  // wait see failed(). Requires: loading.
  void complete(uint32_t slot);
  void fail(uint32_t slot);
  bool ready(uint32_t slot) const { return slots_[slot].state == State::ready; }
  bool failed(uint32_t slot) const { return slots_[slot].state == State::failed; }

  // Peeks without counting or touching: resident and ready.
  bool resident(ExpertKey key) const;
  ExpertKey key_of(uint32_t slot) const;  // Requires: loading or ready

  // Keeps a ready expert for good. False when it is not resident or the share of pinned slots is
  // used up.
  bool pin(ExpertKey key);
  uint32_t pinned() const { return pinned_; }
  uint32_t max_pinned() const { return max_pinned_; }
  uint32_t leased() const { return leased_; }  // slots with at least one lease
  // Slots an acquire could get right now: free or evictable.
  uint32_t available() const { return free_count_ + policy_->size(); }

  // The slot whose expert the next miss would evict; kNoSlot if it would get a free one, or none.
  uint32_t next_eviction() const { return free_count_ > 0 ? kNoSlot : policy_->victim(); }

  const CacheStatistics& statistics() const { return statistics_; }
  void reset_statistics() { statistics_ = {}; }
  // Memory of the tables (not the slab) for that many keys, every one of which may have a slot.
  static uint64_t table_bytes(uint64_t keys);
  // Aborts if the invariant above does not hold. O(slots + keys). For tests.
  void check_invariants() const;
  // "huge pages", "4 KiB pages", for the start-up line.
  std::string slab_description() const { return slab_ ? slab_->description() : "none"; }

 private:
  enum class State : uint8_t { empty, loading, ready, failed };
  struct Slot {
    uint32_t key = 0;  // index into slot_of_key_; of loading and ready slots
    uint32_t leases = 0;
    uint32_t next_free = kNoSlot;  // of empty slots
    uint64_t used_at = 0;          // when it was last leased, by lease_count_
    State state = State::empty;
    bool pinned = false;
    bool speculative_unused = false;  // loaded by prefetch(), not demanded so far
  };

  uint32_t key_index(ExpertKey key) const;
  uint32_t take_slot();  // empty, out of the free list; kNoSlot if none can be had
  uint32_t start_load(uint32_t key);
  void add_lease(Slot& slot);
  void make_evictable(uint32_t slot, Retention retention);
  void push_free(uint32_t slot);

  uint32_t experts_;
  uint64_t slot_bytes_;
  uint64_t expert_bytes_;
  std::vector<uint32_t> slot_of_key_;  // [layers * experts]; kNoSlot: not in memory
  std::vector<Slot> slots_;
  std::unique_ptr<Slab> slab_;
  std::unique_ptr<Policy> policy_;
  uint32_t first_free_ = kNoSlot;
  uint32_t free_count_ = 0;
  uint32_t leased_ = 0;
  uint32_t pinned_ = 0;
  uint32_t max_pinned_ = 0;
  uint64_t lease_count_ = 0;  // all there were: the time that policies know
  CacheStatistics statistics_;
};

}  // namespace sluice
