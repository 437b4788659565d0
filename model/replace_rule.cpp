#include "model/replace_rule.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/error.h"
#include "model/json_object.h"
#include "model/tokenizer_component.h"

namespace sluice {

ReplaceRule::ReplaceRule(const nlohmann::json& component, const std::string& where)
    : pattern_(parse_pattern(component, where)),
      content_(JsonObject(component, where).text("content").value_or("")) {
  // A regular expression may match the empty text before every byte and behind the last.
  const auto literal = JsonObject(component, where).object("pattern")->text("String");
  growth_ = literal ? std::max<size_t>(1, (content_.size() + literal->size() - 1) / literal->size())
                    : 2 * content_.size() + 1;
}

std::string ReplaceRule::apply(std::string_view text) const {
  std::string out;
  size_t copied = 0;
  SplitRegex::Search search(pattern_, text);
  while (const auto match = search.next()) {
    out += text.substr(copied, match->begin - copied);
    out += content_;
    copied = match->end;
  }
  out += text.substr(copied);
  return out;
}

size_t combined_growth(size_t growth, size_t more, const std::string& where) {
  if (more > kMaxGrowth / growth) {
    throw Error(where, ": the file's Prepend and Replace rules make text more than ", kMaxGrowth,
                " times longer");
  }
  return growth * more;
}

}  // namespace sluice
