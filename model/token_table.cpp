#include "model/token_table.h"

#include <functional>

#include "io/check.h"

namespace sluice {
namespace {

constexpr size_t kFirstSlots = 1024;

}  // namespace

size_t TokenTable::slot_of(std::string_view wanted) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>()(wanted) & mask;
  while (slots_[slot] != kNone && text(slots_[slot]) != wanted) slot = (slot + 1) & mask;
  return slot;
}

void TokenTable::grow() {
  slots_.assign(slots_.empty() ? kFirstSlots : slots_.size() * 2, kNone);
  for (uint32_t id = 0; id < end_id(); ++id) {
    if (contains(id)) slots_[slot_of(text(id))] = id;
  }
}

TokenTable::Added TokenTable::add(std::string_view text, uint32_t id) {
  SLUICE_CHECK(id < kMaxTokenId && texts_.size() + text.size() < kNone);
  if (contains(id)) return Added::id_taken;
  if ((count_ + 1) * 3 > slots_.size() * 2) grow();
  const size_t slot = slot_of(text);
  if (slots_[slot] != kNone) return Added::text_taken;
  if (id >= by_id_.size()) by_id_.resize(id + 1);
  by_id_[id] = {static_cast<uint32_t>(texts_.size()), static_cast<uint32_t>(text.size())};
  texts_ += text;
  slots_[slot] = id;
  ++count_;
  return Added::yes;
}

std::optional<uint32_t> TokenTable::find(std::string_view text) const {
  if (slots_.empty()) return std::nullopt;
  const uint32_t id = slots_[slot_of(text)];
  if (id == kNone) return std::nullopt;
  return id;
}

std::string_view TokenTable::text(uint32_t id) const {
  const Place place = by_id_[id];
  return std::string_view(texts_).substr(place.begin, place.bytes);
}

}  // namespace sluice
