// ReplaceRule: the Replace component, which is both a normalizer and a decoder. Threads: any.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "model/split_regex.h"

namespace sluice {

class ReplaceRule {
 public:
  // Throws Error.
  ReplaceRule(const nlohmann::json& component, const std::string& where);

  // Each match in text (valid UTF-8) becomes the content, literally. Throws Error: the pattern took
  // too many steps.
  std::string apply(std::string_view text) const;
  // At most how many times longer than its input a result is.
  size_t growth() const { return growth_; }

 private:
  SplitRegex pattern_;
  std::string content_;
  size_t growth_;
};

// The growth of two rules, one behind the other. Throws Error when a file's rules together may make
// text longer by more than kMaxGrowth, and so fill the memory.
inline constexpr size_t kMaxGrowth = 256;  // published rules: 16
size_t combined_growth(size_t growth, size_t more, const std::string& where);

}  // namespace sluice
