#include "cache/expert_cache.h"

#include <algorithm>

#include "io/check.h"
#include "io/error.h"

namespace sluice {
namespace {

uint64_t checked_keys(const ExpertCache::Options& options) {
  SLUICE_CHECK(options.layers > 0 && options.experts > 0);
  const uint64_t keys = uint64_t{options.layers} * options.experts;
  if (keys > kMaxExpertKeys) {
    throw Error("the expert cache would have ", options.layers, " layers × ", options.experts,
                " experts = ", keys, " keys; at most ", kMaxExpertKeys, " are supported");
  }
  return keys;
}

uint32_t checked_slots(const ExpertCache::Options& options, uint64_t keys) {
  SLUICE_CHECK(options.slot_bytes > 0 && options.slot_bytes % kPageBytes == 0);
  const uint64_t slots = std::min(options.budget_bytes / options.slot_bytes, keys);
  if (slots == 0) {
    throw Error("a cache budget of ", options.budget_bytes,
                " bytes holds no expert: one slot takes ", options.slot_bytes,
                " bytes; raise the cache budget");
  }
  return static_cast<uint32_t>(slots);  // ≤ keys ≤ kMaxExpertKeys
}

}  // namespace

ExpertCache::ExpertCache(const Options& options)
    : experts_(options.experts),
      slot_bytes_(options.slot_bytes),
      expert_bytes_(options.expert_bytes),
      slot_of_key_(checked_keys(options), kNoSlot),
      slots_(checked_slots(options, slot_of_key_.size())) {
  SLUICE_CHECK(options.max_pinned_share >= 0 && options.max_pinned_share <= 1);
  policy_ = make_policy(options.policy,
                        {.slots = slots(), .keys = static_cast<uint32_t>(slot_of_key_.size())});
  if (!options.without_slab) slab_ = std::make_unique<Slab>(slots() * slot_bytes_);
  max_pinned_ = static_cast<uint32_t>(options.max_pinned_share * slots());
  for (uint32_t slot = slots(); slot-- > 0;) push_free(slot);
}

std::byte* ExpertCache::slot_data(uint32_t slot) const {
  SLUICE_CHECK(slot < slots() && slab_ != nullptr);
  return slab_->data() + slot * slot_bytes_;
}

ExpertCache::Lease ExpertCache::acquire(ExpertKey key) {
  const uint32_t index = key_index(key);
  uint32_t slot = slot_of_key_[index];
  Outcome outcome = Outcome::miss;
  if (slot == kNoSlot) {
    slot = start_load(index);
    if (slot == kNoSlot) return {Outcome::full, kNoSlot};
    ++statistics_.misses;
    statistics_.bytes_missed += expert_bytes_;
  } else if (slots_[slot].state == State::ready) {
    if (policy_->contains(slot)) policy_->remove(slot);
    outcome = Outcome::hit;
    ++statistics_.hits;
    statistics_.pinned_hits += slots_[slot].pinned;
  } else {
    outcome = Outcome::in_flight;
    ++statistics_.in_flight_hits;
  }
  statistics_.bytes_demanded += expert_bytes_;
  if (slots_[slot].speculative_unused) {
    slots_[slot].speculative_unused = false;
    ++statistics_.speculative_used;
    statistics_.bytes_foreseen += expert_bytes_;
  }
  add_lease(slots_[slot]);
  return {outcome, slot};
}

ExpertCache::Lease ExpertCache::prefetch(ExpertKey key) {
  const uint32_t index = key_index(key);
  uint32_t slot = slot_of_key_[index];
  if (slot != kNoSlot) return {ready(slot) ? Outcome::hit : Outcome::in_flight, slot};
  slot = start_load(index);
  if (slot == kNoSlot) return {Outcome::full, kNoSlot};
  slots_[slot].speculative_unused = true;
  add_lease(slots_[slot]);
  ++statistics_.speculative_loads;
  statistics_.bytes_speculated += expert_bytes_;
  return {Outcome::miss, slot};
}

void ExpertCache::release(uint32_t slot, Retention retention) {
  SLUICE_CHECK(slot < slots() && slots_[slot].leases > 0);
  Slot& released = slots_[slot];
  if (--released.leases > 0) return;
  --leased_;
  if (released.state == State::failed) {
    push_free(slot);
  } else if (released.state == State::ready && !released.pinned) {
    make_evictable(slot, retention);
  }
}

void ExpertCache::complete(uint32_t slot) {
  SLUICE_CHECK(slot < slots() && slots_[slot].state == State::loading);
  slots_[slot].state = State::ready;
  // Else everyone gave up before the load ended.
  if (slots_[slot].leases == 0) make_evictable(slot, Retention::keep);
}

void ExpertCache::fail(uint32_t slot) {
  SLUICE_CHECK(slot < slots() && slots_[slot].state == State::loading);
  ++statistics_.failures;
  Slot& failing = slots_[slot];
  failing.state = State::failed;
  slot_of_key_[failing.key] = kNoSlot;
  failing.speculative_unused = false;
  if (failing.leases == 0) push_free(slot);  // everyone gave up before the load ended
}

bool ExpertCache::resident(ExpertKey key) const {
  const uint32_t slot = slot_of_key_[key_index(key)];
  return slot != kNoSlot && ready(slot);
}

ExpertKey ExpertCache::key_of(uint32_t slot) const {
  SLUICE_CHECK(slot < slots());
  SLUICE_CHECK(slots_[slot].state == State::loading || slots_[slot].state == State::ready);
  return {slots_[slot].key / experts_, slots_[slot].key % experts_};
}

bool ExpertCache::pin(ExpertKey key) {
  const uint32_t slot = slot_of_key_[key_index(key)];
  if (slot == kNoSlot || !ready(slot)) return false;
  if (slots_[slot].pinned) return true;
  if (pinned_ >= max_pinned_) return false;
  if (policy_->contains(slot)) policy_->remove(slot);
  slots_[slot].pinned = true;
  ++pinned_;
  return true;
}

uint32_t ExpertCache::key_index(ExpertKey key) const {
  SLUICE_CHECK(key.expert < experts_);
  const uint64_t index = uint64_t{key.layer} * experts_ + key.expert;
  SLUICE_CHECK(index < slot_of_key_.size());
  return static_cast<uint32_t>(index);
}

uint32_t ExpertCache::take_slot() {
  if (first_free_ == kNoSlot) {
    const uint32_t victim = policy_->victim();
    if (victim == kNoSlot) return kNoSlot;
    policy_->remove(victim);
    slot_of_key_[slots_[victim].key] = kNoSlot;
    slots_[victim].speculative_unused = false;
    ++statistics_.evictions;
    push_free(victim);
  }
  const uint32_t slot = first_free_;
  first_free_ = slots_[slot].next_free;
  slots_[slot].next_free = kNoSlot;
  --free_count_;
  return slot;
}

uint32_t ExpertCache::start_load(uint32_t key) {
  const uint32_t slot = take_slot();
  if (slot == kNoSlot) return kNoSlot;
  slots_[slot].state = State::loading;
  slots_[slot].key = key;
  slot_of_key_[key] = slot;
  return slot;
}

void ExpertCache::add_lease(Slot& slot) {
  if (slot.leases++ == 0) ++leased_;
  slot.used_at = ++lease_count_;
}

void ExpertCache::make_evictable(uint32_t slot, Retention retention) {
  policy_->insert(slot, {.key = slots_[slot].key, .at = slots_[slot].used_at}, retention);
}

void ExpertCache::push_free(uint32_t slot) {
  slots_[slot].state = State::empty;
  slots_[slot].next_free = first_free_;
  first_free_ = slot;
  ++free_count_;
}

uint64_t ExpertCache::table_bytes(uint64_t keys) {
  return keys * (sizeof(uint32_t) + sizeof(Slot)) + policy_bytes(keys);
}

void ExpertCache::check_invariants() const {
  uint32_t leased = 0, pinned = 0, evictable = 0, mapped = 0, empty = 0;
  for (uint32_t index = 0; index < slots(); ++index) {
    const Slot& slot = slots_[index];
    const bool has_key = slot.state == State::loading || slot.state == State::ready;
    if (has_key) SLUICE_CHECK(slot_of_key_[slot.key] == index);
    const bool may_go = slot.state == State::ready && slot.leases == 0 && !slot.pinned;
    SLUICE_CHECK(policy_->contains(index) == may_go);
    if (slot.state == State::failed) SLUICE_CHECK(slot.leases > 0);
    if (slot.state == State::empty) SLUICE_CHECK(slot.leases == 0);
    if (slot.pinned) SLUICE_CHECK(slot.state == State::ready);
    leased += slot.leases > 0;
    pinned += slot.pinned;
    evictable += may_go;
    mapped += has_key;
    empty += slot.state == State::empty;
  }
  SLUICE_CHECK(leased == leased_ && pinned == pinned_ && pinned <= max_pinned_);
  SLUICE_CHECK(evictable == policy_->size() && empty == free_count_);
  const auto in_memory = [](uint32_t slot) { return slot != kNoSlot; };
  SLUICE_CHECK(mapped == std::count_if(slot_of_key_.begin(), slot_of_key_.end(), in_memory));
  uint32_t listed = 0;
  for (uint32_t slot = first_free_; slot != kNoSlot; slot = slots_[slot].next_free) {
    SLUICE_CHECK(slots_[slot].state == State::empty && ++listed <= free_count_);
  }
  SLUICE_CHECK(listed == free_count_);
}

}  // namespace sluice
