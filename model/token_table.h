// TokenTable: the tokens of a vocabulary, found by text or by id.
//
// All texts lie in one string, so that 150,000 tokens cost about 25 bytes each beyond their text,
// where a map of strings would cost about 100. Threads: any, once filled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// Ids are below this: the largest published vocabularies have 2^18. It bounds what one hostile id
// can make the tables by id cost (8 bytes each).
inline constexpr uint32_t kMaxTokenId = 1u << 24;

class TokenTable {
 public:
  enum class Added : uint8_t { yes, text_taken, id_taken };
  // Requires: id < kMaxTokenId; all texts together have less than 4 GiB.
  Added add(std::string_view text, uint32_t id);

  std::optional<uint32_t> find(std::string_view text) const;
  bool contains(uint32_t id) const { return id < by_id_.size() && by_id_[id].begin != kNone; }
  // Requires: contains(id). Valid until the next add.
  std::string_view text(uint32_t id) const;

  uint32_t end_id() const { return static_cast<uint32_t>(by_id_.size()); }  // highest id + 1
  size_t size() const { return count_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Place {
    uint32_t begin = kNone;  // in texts_
    uint32_t bytes = 0;
  };
  // The slot that holds text, or the empty one where it belongs.
  size_t slot_of(std::string_view text) const;
  void grow();

  std::string texts_;
  std::vector<Place> by_id_;
  // Open addressing: ids, or kNone where empty; the size is a power of two, at most 2/3 are in use.
  std::vector<uint32_t> slots_;
  size_t count_ = 0;
};

}  // namespace sluice
