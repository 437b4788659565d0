#include "cache/policy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "io/check.h"
#include "io/error.h"

namespace sluice {
namespace {

// A ring of slot indices, doubly linked through an array, with one sentinel: sentinel.next is the
// coldest (the victim), sentinel.previous the slot used last. Cold slots lie before all others,
// which lie in the order of their last use. A slot outside links to kNoSlot.
class LruPolicy final : public Policy {
 public:
  explicit LruPolicy(uint32_t slots) : sentinel_(slots), links_(size_t{slots} + 1) {
    links_[sentinel_] = {.previous = sentinel_, .next = sentinel_, .used_at = 0};
  }

  // O(1) but for the slots that were leased later and released earlier, which it walks past.
  void insert(uint32_t slot, Use use, Retention retention) override {
    SLUICE_CHECK(slot < sentinel_ && !contains(slot));
    uint32_t previous = sentinel_;
    if (retention == Retention::keep) {
      previous = links_[sentinel_].previous;
      while (links_[previous].used_at > use.at) previous = links_[previous].previous;
    }
    const uint32_t next = links_[previous].next;
    links_[slot] = {
        .previous = previous, .next = next, .used_at = retention == Retention::keep ? use.at : 0};
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

  struct Link {
    uint32_t previous = kNoSlot;
    uint32_t next = kNoSlot;
    uint64_t used_at = 0;  // 0: cold, and the sentinel
  };

 private:
  uint32_t sentinel_;
  std::vector<Link> links_;
  uint32_t size_ = 0;
};

// A use counts half after this many uses for every key there is: long enough to tell the experts
// of a layer apart by how often they are wanted, short enough to follow a change of subject. Of
// 1/2, 1, 2, ... 32, this had most hits at nearly all budgets in the trace of docs/calibrate.md.
constexpr double kHalfLifeKeys = 2;

// The weight of a key at time t is Σ 2^-((t - at) / half_life) over its uses. All weights decay
// alike, so their order only changes by uses; what is kept is log2 of the weight, without the
// common factor of t: Σ 2^(at / half_life), which never needs refreshing.
//
// A binary heap of slots, the least score on top; place_ says where in it a slot is.
class LfruPolicy final : public Policy {
 public:
  explicit LfruPolicy(PolicySize size)
      : half_life_(kHalfLifeKeys * size.keys),
        weights_(size.keys, -std::numeric_limits<double>::infinity()),
        scores_(size.slots),
        place_(size.slots, kNoSlot) {
    heap_.reserve(size.slots);
  }

  void insert(uint32_t slot, Use use, Retention retention) override {
    SLUICE_CHECK(slot < place_.size() && use.key < weights_.size() && !contains(slot));
    if (retention == Retention::keep) {
      scores_[slot] = weights_[use.key] = used_again(weights_[use.key], use.at);
    } else {
      scores_[slot] = --coldest_;
    }
    heap_.push_back(slot);
    rise(size() - 1);
  }

  void remove(uint32_t slot) override {
    SLUICE_CHECK(slot < place_.size() && contains(slot));
    const uint32_t hole = place_[slot];
    place_[slot] = kNoSlot;
    const uint32_t last = heap_.back();
    heap_.pop_back();
    if (last == slot) return;
    put(hole, last);
    rise(hole);
    sink(place_[last]);
  }

  uint32_t victim() const override { return heap_.empty() ? kNoSlot : heap_.front(); }
  uint32_t size() const override { return static_cast<uint32_t>(heap_.size()); }
  bool contains(uint32_t slot) const override { return place_[slot] != kNoSlot; }

 private:
  // log2(2^weight + 2^(at / half_life)), without overflow.
  double used_again(double weight, uint64_t at) const {
    const double use = static_cast<double>(at) / half_life_;
    const double larger = std::max(weight, use);
    return larger + std::log2(1 + std::exp2(std::min(weight, use) - larger));
  }

  void put(uint32_t place, uint32_t slot) {
    heap_[place] = slot;
    place_[slot] = place;
  }

  void rise(uint32_t place) {
    const uint32_t slot = heap_[place];
    while (place > 0 && scores_[slot] < scores_[heap_[(place - 1) / 2]]) {
      put(place, heap_[(place - 1) / 2]);
      place = (place - 1) / 2;
    }
    put(place, slot);
  }

  void sink(uint32_t place) {
    const uint32_t slot = heap_[place];
    for (;;) {
      uint32_t child = 2 * place + 1;
      if (child >= size()) break;
      if (child + 1 < size() && scores_[heap_[child + 1]] < scores_[heap_[child]]) ++child;
      if (scores_[slot] <= scores_[heap_[child]]) break;
      put(place, heap_[child]);
      place = child;
    }
    put(place, slot);
  }

  double half_life_;             // in uses
  std::vector<double> weights_;  // [keys], of evicted ones too
  std::vector<double> scores_;   // [slots]: the key's weight, which is ≥ 0; of cold slots below 0
  std::vector<uint32_t> heap_;   // slots
  std::vector<uint32_t> place_;  // [slots]; kNoSlot: not in the heap
  double coldest_ = 0;
};

}  // namespace

std::vector<std::string> policy_names() { return {"lru", "lfru"}; }

std::unique_ptr<Policy> make_policy(std::string_view name, PolicySize size) {
  if (name == "lru") return std::make_unique<LruPolicy>(size.slots);
  if (name == "lfru") return std::make_unique<LfruPolicy>(size);
  std::string known;
  for (const std::string& policy : policy_names()) known += (known.empty() ? "" : ", ") + policy;
  throw Error("unknown cache policy \"", name, "\"; known: ", known);
}

uint64_t policy_bytes(uint64_t keys) {
  constexpr uint64_t kLfruBytes = 2 * sizeof(double) + 2 * sizeof(uint32_t);
  return keys * std::max<uint64_t>(sizeof(LruPolicy::Link), kLfruBytes);
}

}  // namespace sluice
