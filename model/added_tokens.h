// AddedTokens: tokens that are cut out of text whole, before anything else looks at it: special
// tokens such as <|im_end|>, and others that a file lists. Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/normalizer.h"
#include "model/split_regex.h"
#include "model/token_table.h"

namespace sluice {

struct AddedToken {
  std::string content;
  uint32_t id = 0;
  bool special = false;      // decode() may skip it
  bool left_strip = false;   // takes the white space before it along
  bool right_strip = false;  // and behind it
  bool single_word = false;  // only where no word character touches it
  bool normalized = false;   // looked for in normalized text, as its content normalized
};

// A piece of a text: an added token, or text between two.
struct Segment {
  TextSpan span;
  std::optional<uint32_t> id;
};

// Finds the longest of several texts at a place. Sorted, so that the texts that begin with the
// bytes read so far are always a range, which each further byte narrows.
class LongestMatch {
 public:
  void add(std::string text, const AddedToken* token);
  void sort();  // once, behind the last add
  bool empty() const { return entries_.empty(); }
  // The longest text that stands at the beginning of `text`, or null. O(its length).
  struct Entry {
    std::string text;
    const AddedToken* token;
  };
  const Entry* find(std::string_view text) const;

 private:
  std::vector<Entry> entries_;
  std::array<bool, 256> starts_{};  // bytes that some text begins with
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // list: the value of "added_tokens". where: for messages. Throws Error.
  //
  // As in the reference, the id that the file gives a token is only a claim. A token that is in the
  // vocabulary has its id there; any other follows the highest id of the added tokens before it,
  // or, if that is lower, the number of tokens in the vocabulary. The two differ from the claim
  // only where a vocabulary has holes; there an added token hides the vocabulary's token of its id.
  AddedTokens(const nlohmann::json& list, const Normalizer& normalizer,
              const TokenTable& vocabulary, const std::string& where);
  AddedTokens(const AddedTokens&) = delete;
  AddedTokens& operator=(const AddedTokens&) = delete;

  // The tokens that are looked for in raw or in normalized text; segments are not empty. O(n).
  enum class Text : uint8_t { raw, normalized };
  std::vector<Segment> cut(std::string_view text, Text kind) const;

  const AddedToken* find(uint32_t id) const;  // null if there is none
  const AddedToken* find(std::string_view content) const;
  const std::vector<AddedToken>& all() const { return tokens_; }

 private:
  void add(AddedToken&& parsed, const Normalizer& normalizer, const std::string& where);
  bool stands_alone(std::string_view text, TextSpan span) const;

  std::vector<AddedToken> tokens_;  // filled by the constructor; the maps point into it
  std::unordered_map<uint32_t, const AddedToken*> by_id_;
  std::unordered_map<std::string_view, const AddedToken*> by_content_;
  LongestMatch raw_, normalized_;
  std::optional<SplitRegex> word_character_;  // if a token is single_word
};

}  // namespace sluice
