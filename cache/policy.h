// Policy: which evictable slot goes next.
//
// The cache tells the policy which slots may be evicted, what is in them, and when that was last
// used. A use shows as remove() when the slot is leased and insert() when it is released. "When" is
// the count of demands at the lease, not at its end: leases end in whatever order reads land, and
// what is evicted must not depend on that. Known policies:
//
//   lru   what was used longest ago goes first.
//   lfru  what was used least goes first, where a use counts half after kHalfLifeKeys uses per key
//         of the cache. It remembers evicted keys, so that below one token's working set, where
//         recency alone finds nothing again, the experts wanted most often stay.
//
// (S3-FIFO was replayed on real traces and found as many hits as LRU: it is not here.)
// Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

inline constexpr uint32_t kNoSlot = 0xffffffff;

// How a slot wants to be treated once it may be evicted.
enum class Retention : uint8_t {
  keep,  // as something just used
  cold,  // as the next to go: a sweep's own slots, which it recycles
};

// What a slot holds and when it was last wanted.
struct Use {
  uint32_t key = 0;
  uint64_t at = 0;  // counts demands, from 1
};

class Policy {
 public:
  virtual ~Policy() = default;
  // Cold slots go before all kept ones, the last inserted first. Requires: not contains(slot).
  virtual void insert(uint32_t slot, Use use, Retention retention) = 0;
  // Requires: contains(slot).
  virtual void remove(uint32_t slot) = 0;
  // The slot to evict; it stays until remove(). kNoSlot if there is none.
  virtual uint32_t victim() const = 0;
  virtual uint32_t size() const = 0;
  virtual bool contains(uint32_t slot) const = 0;
};

// Names of all policies, the default first.
std::vector<std::string> policy_names();

struct PolicySize {
  uint32_t slots = 0;
  uint32_t keys = 0;
};
// Throws Error listing the known names.
std::unique_ptr<Policy> make_policy(std::string_view name, PolicySize size);
// Memory that the largest policy takes for that many keys, each of which may have a slot.
uint64_t policy_bytes(uint64_t keys);

}  // namespace sluice
