// Normalizer: the first component of a tokenizer file. It rewrites text before it is split: Unicode
// normal forms (NFC, NFD, NFKC, NFKD), Prepend, Replace, or a Sequence of them. Threads: any.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "model/replace_rule.h"

namespace sluice {

enum class UnicodeForm : uint8_t { nfc, nfd, nfkc, nfkd };

// text: valid UTF-8. Time is O(n log n) whatever the text.
std::string normalized(std::string_view text, UnicodeForm form);

class Normalizer {
 public:
  Normalizer() = default;  // changes nothing
  // component: the value of "normalizer", or null. where: for messages. Throws Error.
  Normalizer(const nlohmann::json& component, const std::string& where);

  // text: valid UTF-8. Throws Error: a rule's pattern took too many steps.
  std::string apply(std::string_view text) const;

 private:
  struct Prepend {
    std::string content;
  };
  using Step = std::variant<UnicodeForm, Prepend, ReplaceRule>;
  void add(const nlohmann::json& component, const std::string& where);

  std::vector<Step> steps_;
  size_t growth_ = 1;  // of the Prepend and Replace steps together
};

}  // namespace sluice
