// PreTokenizer: the second component of a tokenizer file. It cuts normalized text into the words
// that merges never cross, and may rewrite them: Split, ByteLevel, Metaspace, Digits, or a
// Sequence. Threads: any.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>
#include <vector>

#include "model/split_regex.h"

namespace sluice {

// Words of a text, in order and not empty; parts of the text may belong to none.
struct Words {
  std::string text;
  std::vector<TextSpan> spans;
  bool from_start;  // a span that begins at 0 begins where the whole input begins
};

class PreTokenizer {
 public:
  PreTokenizer() = default;  // one word
  // component: the value of "pre_tokenizer", or null. where: for messages. Throws Error.
  PreTokenizer(const nlohmann::json& component, const std::string& where);

  // text: valid UTF-8. from_start: the text is the beginning of the input, not what stands behind
  // an added token. Throws Error: a pattern took too many steps.
  Words split(std::string text, bool from_start) const;

 private:
  // The components are made of four simple steps.
  enum class Behavior : uint8_t {
    isolated,              // each match and each gap between matches is a word
    contiguous,            // as isolated, with matches that touch taken together
    removed,               // the gaps are the words
    merged_with_previous,  // a match ends the word before it
    merged_with_next,      // a match begins the word behind it
  };
  struct Split {
    SplitRegex pattern;
    Behavior behavior;
    bool invert;  // gaps and matches change places
  };
  struct Prefix {  // put before each word that does not begin with it
    std::string content;
    bool only_at_start;  // of the input
  };
  struct Spaces {  // U+0020 becomes this
    std::string replacement;
  };
  struct Bytes {};  // bytes become characters of the byte-level alphabet
  using Step = std::variant<Split, Prefix, Spaces, Bytes>;

  void add(const nlohmann::json& component, const std::string& where);
  void add_split(const nlohmann::json& component, const std::string& where);
  void add_byte_level(const nlohmann::json& component, const std::string& where);
  void add_metaspace(const nlohmann::json& component, const std::string& where);
  static void apply(const Split& step, Words& words);
  // Whether a match (or gap) belongs to the same word as the match (or gap) before it.
  static bool joins_last(Behavior behavior, bool match, bool last_match);

  std::vector<Step> steps_;
};

}  // namespace sluice
