#include "model/bpe.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "io/error.h"
#include "model/utf8.h"

namespace sluice {
namespace {

constexpr uint64_t kNoPair = UINT64_MAX;
constexpr uint32_t kNoSymbol = UINT32_MAX;
constexpr size_t kFirstSlots = 1024;
constexpr size_t kMaxWordBytes = INT32_MAX;  // symbols have 32-bit indices

uint64_t pair_of(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

}  // namespace

// Fibonacci hashing: the high bits of the product depend on all bits of both ids.
size_t MergeTable::slot_of(uint64_t pair) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = (pair * 0x9E3779B97F4A7C15u >> 32) & mask;
  while (slots_[slot].pair != kNoPair && slots_[slot].pair != pair) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::rehash(size_t slots) {
  std::vector<Slot> old(slots, Slot{kNoPair, {}});
  std::swap(old, slots_);
  for (const Slot& slot : old) {
    if (slot.pair != kNoPair) slots_[slot_of(slot.pair)] = slot;
  }
}

void MergeTable::reserve(size_t merges) {
  size_t slots = kFirstSlots;
  while (slots * 2 < merges * 3) slots *= 2;
  if (slots > slots_.size()) rehash(slots);
}

void MergeTable::add(uint32_t left, uint32_t right, Merge merge) {
  reserve(count_ + 1);
  Slot& slot = slots_[slot_of(pair_of(left, right))];
  if (slot.pair == kNoPair) ++count_;
  slot = {pair_of(left, right), merge};
}

const MergeTable::Merge* MergeTable::find(uint32_t left, uint32_t right) const {
  if (slots_.empty()) return nullptr;
  const Slot& slot = slots_[slot_of(pair_of(left, right))];
  return slot.pair == kNoPair ? nullptr : &slot.merge;
}

Bpe::Bpe(TokenTable tokens, MergeTable merges, BpeOptions options)
    : tokens_(std::move(tokens)), merges_(std::move(merges)), options_(std::move(options)) {
  if (!options_.unknown_token.empty()) unknown_id_ = tokens_.find(options_.unknown_token);
  if (!options_.byte_fallback) return;
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::array<char, 8> name{};
    std::snprintf(name.data(), name.size(), "<0x%02X>", byte);
    byte_ids_.push_back(tokens_.find(name.data()));
  }
}

// All bytes of the character, or, if one of them is no token, none.
bool Bpe::append_bytes(std::string_view character, std::vector<Scratch::Symbol>& symbols) const {
  const auto id_of_byte = [this](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
  for (const char byte : character) {
    if (!id_of_byte(byte)) return false;
  }
  for (const char byte : character) symbols.push_back({*id_of_byte(byte), 0, 0, false});
  return true;
}

void Bpe::split_characters(std::string_view word, std::vector<Scratch::Symbol>& symbols) const {
  // The unknown token is held back until a known character follows, so that more may fuse with it;
  // byte tokens do not count as known, and so come before it, as in the reference.
  bool unknown_held = false;
  const auto append_unknown = [&] { symbols.push_back({*unknown_id_, 0, 0, false}); };
  while (!word.empty()) {
    const std::string_view character = word.substr(0, utf8_length(word[0]));
    word.remove_prefix(character.size());
    if (const auto id = tokens_.find(character)) {
      if (std::exchange(unknown_held, false)) append_unknown();
      symbols.push_back({*id, 0, 0, false});
    } else if (options_.byte_fallback && append_bytes(character, symbols)) {
      continue;
    } else if (!options_.unknown_token.empty()) {
      if (!unknown_id_) {
        throw Error("the tokenizer has no token for \"", character, "\", and its unknown token \"",
                    options_.unknown_token, "\" is not in its vocabulary");
      }
      if (unknown_held && !options_.fuse_unknown) append_unknown();
      unknown_held = true;
    }
  }
  if (unknown_held) append_unknown();
}

// The heap's top is the lowest rank, and of equal ranks the leftmost.
void Bpe::push_candidate(uint32_t left, Scratch& scratch) const {
  const auto& symbols = scratch.symbols_;
  if (left == kNoSymbol || symbols[left].next == kNoSymbol) return;
  const auto* merge = merges_.find(symbols[left].id, symbols[symbols[left].next].id);
  if (merge != nullptr) scratch.heap_.push_back({merge->rank, left, merge->id});
}

void Bpe::merge(Scratch& scratch) const {
  using Candidate = Scratch::Candidate;
  auto& symbols = scratch.symbols_;
  auto& heap = scratch.heap_;
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  const auto push = [&](uint32_t left) {
    const size_t before = heap.size();
    push_candidate(left, scratch);
    if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), later);
  };
  heap.clear();
  for (uint32_t i = 0; i < symbols.size(); ++i) push_candidate(i, scratch);
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate candidate = heap.back();
    heap.pop_back();
    auto& left = symbols[candidate.left];
    if (left.merged_away || left.next == kNoSymbol) continue;
    auto& right = symbols[left.next];
    // A candidate is stale when one of its two has changed since it was pushed.
    const auto* now = merges_.find(left.id, right.id);
    if (now == nullptr || now->id != candidate.id) continue;
    left.id = candidate.id;
    left.next = right.next;
    right.merged_away = true;
    if (left.next != kNoSymbol) symbols[left.next].previous = candidate.left;
    push(left.previous);
    push(candidate.left);
  }
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<uint32_t>& ids) const {
  if (word.size() > kMaxWordBytes) {
    throw Error("the tokenizer makes one word of ", word.size(), " bytes; the limit is ",
                kMaxWordBytes, "; encode the text in parts");
  }
  if (options_.ignore_merges) {
    if (const auto id = tokens_.find(word)) {
      ids.push_back(*id);
      return;
    }
  }
  auto& symbols = scratch.symbols_;
  symbols.clear();
  split_characters(word, symbols);
  const auto count = static_cast<uint32_t>(symbols.size());
  for (uint32_t i = 0; i < count; ++i) {
    symbols[i].previous = i == 0 ? kNoSymbol : i - 1;
    symbols[i].next = i + 1 == count ? kNoSymbol : i + 1;
  }
  merge(scratch);
  for (const auto& symbol : symbols) {
    if (!symbol.merged_away) ids.push_back(symbol.id);
  }
}

}  // namespace sluice
