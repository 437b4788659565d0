#include "cache/policy.h"

#include <vector>

#include "io/check.h"
#include "io/error.h"

namespace sluice {
namespace {

// A ring of slot indices, doubly linked through an array, with one sentinel: sentinel.next is the
// coldest (the victim), sentinel.previous the slot used last. A slot outside links to kNoSlot.
class LruPolicy final : public Policy {
 public:
  explicit LruPolicy(uint32_t slots) : sentinel_(slots), links_(size_t{slots} + 1) {
    links_[sentinel_] = {sentinel_, sentinel_};
  }

  void insert(uint32_t slot, Retention retention) override {
    SLUICE_CHECK(slot < sentinel_ && !contains(slot));
    const uint32_t previous = retention == Retention::keep ? links_[sentinel_].previous : sentinel_;
    const uint32_t next = links_[previous].next;
    links_[slot] = {previous, next};
    links_[previous].next = slot;
    links_[next].previous = slot;
    ++size_;
  }

  void remove(uint32_t slot) override {
    SLUICE_CHECK(slot < sentinel_ && contains(slot));
    const Link link = links_[slot];
    links_[link.previous].next = link.next;
    links_[link.next].previous = link.previous;
    links_[slot] = {};
    --size_;
  }

  uint32_t victim() const override { return size_ == 0 ? kNoSlot : links_[sentinel_].next; }
  uint32_t size() const override { return size_; }
  bool contains(uint32_t slot) const override { return links_[slot].next != kNoSlot; }

 private:
  struct Link {
    uint32_t previous = kNoSlot;
    uint32_t next = kNoSlot;
  };
  uint32_t sentinel_;
  std::vector<Link> links_;
  uint32_t size_ = 0;
};

}  // namespace

std::unique_ptr<Policy> make_policy(std::string_view name, uint32_t slots) {
  if (name == "lru") return std::make_unique<LruPolicy>(slots);
  throw Error("unknown cache policy \"", name, "\"; known: lru");
}

}  // namespace sluice
