#include "model/pre_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "io/error.h"
#include "model/byte_level.h"
#include "model/json_object.h"
#include "model/tokenizer_component.h"
#include "model/utf8.h"

namespace sluice {
namespace {

using nlohmann::json;

// The pattern that ByteLevel stands for when use_regex is set: GPT-2's.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Part {
  TextSpan span;
  bool match;
};

// All of text[word], as matches and the gaps between them; none is empty.
void find_parts(SplitRegex::Search& search, std::string_view text, TextSpan word, bool invert,
                std::vector<Part>& parts) {
  parts.clear();
  const auto add = [&](size_t begin, size_t end, bool match) {
    if (begin < end) parts.push_back({{word.begin + begin, word.begin + end}, match != invert});
  };
  const size_t length = word.end - word.begin;
  search.restart(text.substr(word.begin, length));
  size_t done = 0;
  while (const auto match = search.next()) {
    add(done, match->begin, false);
    add(match->begin, match->end, true);
    done = match->end;
  }
  add(done, length, false);
}

// Writes each word anew, with rewrite(word, index, out) appending what it becomes.
template <class Rewrite>
void rewrite_words(Words& words, Rewrite rewrite) {
  std::string text;
  text.reserve(words.text.size() + words.spans.size());
  words.from_start = words.from_start && !words.spans.empty() && words.spans.front().begin == 0;
  for (size_t i = 0; i < words.spans.size(); ++i) {
    TextSpan& span = words.spans[i];
    const size_t begin = text.size();
    rewrite(std::string_view(words.text).substr(span.begin, span.end - span.begin), i, text);
    span = {begin, text.size()};
  }
  words.text = std::move(text);
}

}  // namespace

PreTokenizer::PreTokenizer(const json& component, const std::string& where) {
  if (!component.is_null()) add(component, where);
}

void PreTokenizer::add(const json& component, const std::string& where) {
  const JsonObject object(component, where);
  const std::string type = object.required_text("type");
  if (type == "Sequence") {
    for_each_element(
        component, "pretokenizers", where,
        [this](const json& element, const std::string& place) { add(element, place); });
  } else if (type == "Split") {
    add_split(component, where);
  } else if (type == "ByteLevel") {
    add_byte_level(component, where);
  } else if (type == "Metaspace") {
    add_metaspace(component, where);
  } else if (type == "Digits") {
    const bool individual = object.boolean("individual_digits").value_or(false);
    steps_.emplace_back(Split{SplitRegex("\\p{N}", SplitRegex::Syntax::regex, where),
                              individual ? Behavior::isolated : Behavior::contiguous, false});
  } else {
    throw Error(where, ": a pre-tokenizer of type ", in_quotes(type),
                "; expected Sequence, Split, ByteLevel, Metaspace or Digits");
  }
}

void PreTokenizer::add_split(const json& component, const std::string& where) {
  static constexpr std::pair<std::string_view, Behavior> kBehaviors[] = {
      {"Isolated", Behavior::isolated},
      {"Contiguous", Behavior::contiguous},
      {"Removed", Behavior::removed},
      {"MergedWithPrevious", Behavior::merged_with_previous},
      {"MergedWithNext", Behavior::merged_with_next},
  };
  const JsonObject object(component, where);
  const std::string name = object.required_text("behavior");
  const auto behavior = std::find_if(std::begin(kBehaviors), std::end(kBehaviors),
                                     [&](const auto& known) { return known.first == name; });
  if (behavior == std::end(kBehaviors)) {
    throw Error(where, ": a Split of behavior ", in_quotes(name),
                "; expected Isolated, Contiguous, Removed, MergedWithPrevious or MergedWithNext");
  }
  steps_.emplace_back(Split{parse_pattern(component, where), behavior->second,
                            object.boolean("invert").value_or(false)});
}

void PreTokenizer::add_byte_level(const json& component, const std::string& where) {
  const JsonObject object(component, where);
  if (object.boolean("add_prefix_space").value_or(true)) steps_.emplace_back(Prefix{" ", false});
  if (object.boolean("use_regex").value_or(true)) {
    steps_.emplace_back(Split{SplitRegex(kByteLevelPattern, SplitRegex::Syntax::regex, where),
                              Behavior::isolated, false});
  }
  steps_.emplace_back(Bytes{});
}

// Older files say add_prefix_space where newer ones say prepend_scheme.
void PreTokenizer::add_metaspace(const json& component, const std::string& where) {
  const JsonObject object(component, where);
  const std::string mark = object.text("replacement").value_or("▁");
  if (mark.empty() || utf8_length(mark[0]) != mark.size()) {
    throw Error(where, ": the replacement ", in_quotes(mark), " is not one character");
  }
  const bool add_prefix = object.boolean("add_prefix_space").value_or(true);
  const std::string scheme =
      object.text("prepend_scheme").value_or(add_prefix ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    throw Error(where, ": a prepend_scheme of ", in_quotes(scheme),
                "; expected always, first or never");
  }
  steps_.emplace_back(Spaces{mark});
  if (scheme != "never") steps_.emplace_back(Prefix{mark, scheme == "first"});
  if (object.boolean("split").value_or(true)) {
    steps_.emplace_back(Split{SplitRegex(mark, SplitRegex::Syntax::literal, where),
                              Behavior::merged_with_next, false});
  }
}

bool PreTokenizer::joins_last(Behavior behavior, bool match, bool last_match) {
  switch (behavior) {
    case Behavior::isolated:
    case Behavior::removed:
      return false;
    case Behavior::contiguous:
      return match == last_match;
    // Of matches that touch, only the one next to the gap joins it.
    case Behavior::merged_with_previous:
      return match && !last_match;
    case Behavior::merged_with_next:
      return !match && last_match;
  }
  return false;
}

void PreTokenizer::apply(const Split& step, Words& words) {
  std::vector<TextSpan> spans;
  std::vector<Part> parts;
  SplitRegex::Search search(step.pattern, {});
  for (const TextSpan word : words.spans) {
    find_parts(search, words.text, word, step.invert, parts);
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto [span, match] = parts[i];
      if (step.behavior == Behavior::removed && match) continue;
      if (i > 0 && joins_last(step.behavior, match, parts[i - 1].match)) {
        spans.back().end = span.end;
      } else {
        spans.push_back(span);
      }
    }
  }
  words.spans = std::move(spans);
}

Words PreTokenizer::split(std::string text, bool from_start) const {
  Words words{std::move(text), {}, from_start};
  if (!words.text.empty()) words.spans.push_back({0, words.text.size()});
  for (const Step& step : steps_) {
    if (const auto* split = std::get_if<Split>(&step)) {
      apply(*split, words);
    } else if (const auto* prefix = std::get_if<Prefix>(&step)) {
      const bool at_start =
          words.from_start && !words.spans.empty() && words.spans.front().begin == 0;
      rewrite_words(words, [&](std::string_view word, size_t index, std::string& out) {
        const bool wanted = !prefix->only_at_start || (index == 0 && at_start);
        if (wanted && !word.starts_with(prefix->content)) out += prefix->content;
        out += word;
      });
    } else if (const auto* spaces = std::get_if<Spaces>(&step)) {
      rewrite_words(words, [&](std::string_view word, size_t, std::string& out) {
        for (const char c : word) c == ' ' ? out += spaces->replacement : out += c;
      });
    } else {
      rewrite_words(words, [](std::string_view word, size_t, std::string& out) {
        append_byte_level(word, out);
      });
    }
  }
  return words;
}

}  // namespace sluice
