// Bpe: the model of a tokenizer file. It turns one word into token ids by merging neighbours, the
// merge of lowest rank first, from single characters up (byte pair encoding). Threads: any; each
// Scratch is for one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/token_table.h"

namespace sluice {

// Which two tokens merge, into which, and how early. Open addressing, 16 bytes a slot.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;
    uint32_t id;  // of the merged token
  };
  // Of a pair given twice the last counts. Requires: ids < kMaxTokenId.
  void add(uint32_t left, uint32_t right, Merge merge);
  // Null if the two do not merge.
  const Merge* find(uint32_t left, uint32_t right) const;
  void reserve(size_t merges);

 private:
  struct Slot {
    uint64_t pair;  // left << 32 | right
    Merge merge;
  };
  size_t slot_of(uint64_t pair) const;
  void rehash(size_t slots);

  std::vector<Slot> slots_;  // the size is a power of two, at most 2/3 are in use
  size_t count_ = 0;
};

struct BpeOptions {
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
  bool byte_fallback = false;  // a character that is no token becomes its bytes' tokens <0xNN>
  bool fuse_unknown = false;   // unknown characters in a row are one unknown token
  std::string unknown_token;   // for what is left; empty: it is dropped
};

class Bpe {
 public:
  Bpe() = default;
  Bpe(TokenTable tokens, MergeTable merges, BpeOptions options);

  // Buffers that many calls share.
  class Scratch {
    friend class Bpe;
    struct Symbol {
      uint32_t id;
      uint32_t previous, next;  // indices of symbols; kNoSymbol at the ends
      bool merged_away;
    };
    struct Candidate {
      uint32_t rank;
      uint32_t left;  // index of the left symbol
      uint32_t id;    // of the merged token
    };
    std::vector<Symbol> symbols_;
    std::vector<Candidate> heap_;
  };

  // Appends the ids of one word. word: valid UTF-8. O(n log n). Throws Error: the word has 2^31
  // bytes or more, or needs the unknown token and the vocabulary lacks it.
  void encode(std::string_view word, Scratch& scratch, std::vector<uint32_t>& ids) const;

  const TokenTable& tokens() const { return tokens_; }

 private:
  void split_characters(std::string_view word, std::vector<Scratch::Symbol>& symbols) const;
  bool append_bytes(std::string_view character, std::vector<Scratch::Symbol>& symbols) const;
  void push_candidate(uint32_t left, Scratch& scratch) const;
  void merge(Scratch& scratch) const;

  TokenTable tokens_;
  MergeTable merges_;
  BpeOptions options_;
  std::optional<uint32_t> unknown_id_;
  std::vector<std::optional<uint32_t>> byte_ids_;  // [256], empty without byte_fallback
};

}  // namespace sluice
