// Policy: which evictable slot goes next.
//
// The cache tells the policy which slots may be evicted, and only that. A use shows as remove()
// when the slot is leased and insert() when it is released, so recency needs no call of its own.
// Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

namespace sluice {

inline constexpr uint32_t kNoSlot = 0xffffffff;

// How a slot wants to be treated once it may be evicted.
enum class Retention : uint8_t {
  keep,  // as something just used
  cold,  // as the next to go: a sweep's own slots, which it recycles
};

class Policy {
 public:
  virtual ~Policy() = default;
  // Requires: not contains(slot).
  virtual void insert(uint32_t slot, Retention retention) = 0;
  // Requires: contains(slot).
  virtual void remove(uint32_t slot) = 0;
  // The slot to evict; it stays until remove(). kNoSlot if there is none.
  virtual uint32_t victim() const = 0;
  virtual uint32_t size() const = 0;
  virtual bool contains(uint32_t slot) const = 0;
};

// Throws Error listing the known names ("lru").
std::unique_ptr<Policy> make_policy(std::string_view name, uint32_t slots);

}  // namespace sluice
