#include "stream/look_ahead.h"

#include <algorithm>

#include "io/read_queue.h"

namespace sluice {
namespace {

// At the device at once: what it reads while nobody polls, and no more, since a demanded read that
// comes then stands behind it.
constexpr uint64_t kBytesAtOnce = 12 * kPieceBytes;

}  // namespace

void LookAhead::expect(uint32_t layer, std::span<const uint32_t> experts, bool for_sweep) {
  layer_ = layer;
  expected_.assign(experts.begin(), experts.end());
  next_ = 0;
  for_sweep_ = for_sweep;
  if (!for_sweep) return;
  std::ranges::sort(expected_, {},
                    [&](uint32_t expert) { return source_.disk_order(layer, expert); });
}

void LookAhead::start() {
  while (next_ < expected_.size() && loads_.room()) {
    const uint64_t under_way = loads_.under_way();
    if (under_way > 0 && (under_way + 1) * source_.expert_bytes() > kBytesAtOnce) break;
    const ExpertKey key{layer_, expected_[next_]};
    if (!cache_.resident(key) && !may_take_next()) break;
    const ExpertCache::Lease lease = cache_.prefetch(key);
    if (lease.outcome == ExpertCache::Outcome::full) break;
    ++next_;
    if (lease.outcome != ExpertCache::Outcome::miss) continue;
    swept_.set(lease.slot, true);  // until a decode wants it
    entries_.push_back(
        {.key = key,
         .slot = lease.slot,
         .load = loads_.start(key, lease.slot, Deadline::speculative, ExpertLoads::kNobody)});
  }
  loads_.submit();
}

bool LookAhead::may_take_next() const {
  const uint32_t victim = cache_.next_eviction();
  if (victim != kNoSlot && expected(cache_.key_of(victim))) return false;
  return !for_sweep_ || (entries_.size() < swept_.share() && swept_.may_take_next());
}

bool LookAhead::expected(ExpertKey key) const {
  return key.layer == layer_ && std::ranges::find(expected_, key.expert) != expected_.end();
}

bool LookAhead::dropping_any(uint32_t layer, std::span<const uint32_t> experts) const {
  return std::ranges::any_of(entries_, [&](const Entry& entry) {
    return entry.dropped && entry.key.layer == layer &&
           std::ranges::find(experts, entry.key.expert) != experts.end();
  });
}

std::optional<uint32_t> LookAhead::loading(ExpertKey key) const {
  const auto found = std::ranges::find(entries_, key, &Entry::key);
  if (found == entries_.end() || found->load == kLanded) return std::nullopt;
  return found->load;
}

void LookAhead::let_go() {
  expected_.clear();
  next_ = 0;
  std::erase_if(entries_, [&](Entry& entry) {
    if (entry.load != kLanded && !loads_.owned(entry.load)) {
      if (!entry.dropped) loads_.cancel(entry.load);
      entry.dropped = true;
      return false;
    }
    cache_.release(entry.slot, Retention::cold);
    return true;
  });
}

void LookAhead::ended(const ExpertLoads::Ended& load) {
  const auto found = std::ranges::find(entries_, load.load, &Entry::load);
  if (found == entries_.end()) return;
  found->load = kLanded;
  if (load.ok && !found->dropped) return;
  if (!load.ok) swept_.set(found->slot, false);
  cache_.release(found->slot, Retention::cold);
  entries_.erase(found);
}

}  // namespace sluice
