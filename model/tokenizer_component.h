// What the components of a tokenizer file (normalizer, pre_tokenizer, post_processor, decoder)
// share in how they are written. Internal to model/. Threads: any.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "io/error.h"
#include "model/json_object.h"
#include "model/split_regex.h"

namespace sluice {

// Calls visit(element, where) for each element of component[key]. Throws Error if it is no array.
template <class Visit>
void for_each_element(const nlohmann::json& component, const char* key, const std::string& where,
                      Visit visit) {
  const auto elements = component.find(key);
  if (elements == component.end() || !elements->is_array()) {
    throw Error(where, ": ", key, " is not an array");
  }
  size_t index = 0;
  for (const nlohmann::json& element : *elements) {
    visit(element, where + "." + key + "[" + std::to_string(index++) + "]");
  }
}

// component["pattern"]: {"String": "..."} or {"Regex": "..."}.
inline SplitRegex parse_pattern(const nlohmann::json& component, const std::string& where) {
  const auto pattern = JsonObject(component, where).object("pattern");
  if (pattern) {
    if (const auto text = pattern->text("String")) {
      return SplitRegex(*text, SplitRegex::Syntax::literal, where);
    }
    if (const auto text = pattern->text("Regex")) {
      return SplitRegex(*text, SplitRegex::Syntax::regex, where);
    }
  }
  throw Error(where, ": pattern is neither {\"String\": ...} nor {\"Regex\": ...}");
}

}  // namespace sluice
