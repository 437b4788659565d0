#include "model/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "io/error.h"
#include "model/json_object.h"
#include "model/utf8.h"

namespace sluice {
namespace {

using nlohmann::json;

// Finding takes time in proportion to the longest token at each byte; published ones have under
// 100.
constexpr size_t kMaxContentBytes = 1024;

// What a word consists of where the reference tests for single words.
constexpr std::string_view kWordCharacter = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])";

AddedToken parse_token(const json& value, const std::string& where) {
  const JsonObject object(value, where);
  AddedToken token;
  token.id = static_cast<uint32_t>(object.required_count("id", {0, kMaxTokenId - 1}));
  token.content = object.required_text("content");
  if (token.content.size() > kMaxContentBytes) {
    throw Error(where, ": the content has ", token.content.size(), " bytes; the limit is ",
                kMaxContentBytes);
  }
  token.special = object.boolean("special").value_or(false);
  token.left_strip = object.boolean("lstrip").value_or(false);
  token.right_strip = object.boolean("rstrip").value_or(false);
  token.single_word = object.boolean("single_word").value_or(false);
  token.normalized = object.boolean("normalized").value_or(!token.special);
  return token;
}

// Where the last character of text begins.
size_t last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while ((text[begin] & 0xC0) == 0x80) --begin;
  return begin;
}

size_t skip_spaces_back(std::string_view text, size_t from, size_t limit) {
  while (from > limit) {
    const size_t begin = last_character(text.substr(0, from));
    if (!is_white_space(utf8_head(text.substr(begin)).code_point)) break;
    from = begin;
  }
  return std::max(from, limit);
}

size_t skip_spaces(std::string_view text, size_t from) {
  while (from < text.size()) {
    const Utf8Head head = utf8_head(text.substr(from));
    if (!is_white_space(head.code_point)) break;
    from += head.bytes;
  }
  return from;
}

}  // namespace

void LongestMatch::add(std::string text, const AddedToken* token) {
  if (text.empty()) return;
  starts_[static_cast<unsigned char>(text[0])] = true;
  entries_.push_back({std::move(text), token});
}

void LongestMatch::sort() {
  std::stable_sort(entries_.begin(), entries_.end(),
                   [](const Entry& a, const Entry& b) { return a.text < b.text; });
}

const LongestMatch::Entry* LongestMatch::find(std::string_view text) const {
  if (text.empty() || !starts_[static_cast<unsigned char>(text[0])]) return nullptr;
  const Entry* longest = nullptr;
  auto low = entries_.begin();
  auto high = entries_.end();
  for (size_t depth = 0; depth < text.size(); ++depth) {
    const auto byte_of = [depth](const Entry& entry) {
      return depth < entry.text.size() ? static_cast<unsigned char>(entry.text[depth]) : -1;
    };
    const int byte = static_cast<unsigned char>(text[depth]);
    low = std::partition_point(low, high, [&](const Entry& e) { return byte_of(e) < byte; });
    high = std::partition_point(low, high, [&](const Entry& e) { return byte_of(e) == byte; });
    if (low == high) break;
    if (low->text.size() == depth + 1) longest = &*low;
  }
  return longest;
}

AddedTokens::AddedTokens(const json& list, const Normalizer& normalizer,
                         const TokenTable& vocabulary, const std::string& where) {
  if (list.is_null()) return;
  if (!list.is_array()) throw Error(where, " is not an array");
  std::unordered_set<uint32_t> claimed_ids;
  auto next_id = static_cast<uint32_t>(vocabulary.size());
  tokens_.reserve(list.size());
  for (const json& value : list) {
    const std::string place = where + "[" + std::to_string(claimed_ids.size()) + "]";
    AddedToken token = parse_token(value, place);
    if (!claimed_ids.insert(token.id).second) {
      throw Error(place, ": the id ", token.id, " is given twice");
    }
    if (token.content.empty()) continue;
    token.id = vocabulary.find(token.content).value_or(next_id);
    next_id = std::max(next_id, token.id + 1);
    add(std::move(token), normalizer, place);
  }
  raw_.sort();
  normalized_.sort();
}

void AddedTokens::add(AddedToken&& parsed, const Normalizer& normalizer, const std::string& where) {
  const AddedToken& token = tokens_.emplace_back(std::move(parsed));
  if (!by_content_.emplace(token.content, &token).second) {
    throw Error(where, ": the content ", in_quotes(token.content), " is given twice");
  }
  by_id_.insert_or_assign(token.id, &token);
  if (token.single_word && !word_character_) {
    word_character_.emplace(kWordCharacter, SplitRegex::Syntax::regex, where);
  }
  if (token.normalized) {
    normalized_.add(normalizer.apply(token.content), &token);
  } else {
    raw_.add(token.content, &token);
  }
}

bool AddedTokens::stands_alone(std::string_view text, TextSpan span) const {
  const auto is_word = [this](std::string_view character) {
    return SplitRegex::Search(*word_character_, character).next().has_value();
  };
  if (span.begin > 0) {
    const size_t begin = last_character(text.substr(0, span.begin));
    if (is_word(text.substr(begin, span.begin - begin))) return false;
  }
  return span.end == text.size() || !is_word(text.substr(span.end, utf8_length(text[span.end])));
}

std::vector<Segment> AddedTokens::cut(std::string_view text, Text kind) const {
  const LongestMatch& patterns = kind == Text::raw ? raw_ : normalized_;
  std::vector<Segment> segments;
  size_t done = 0;
  for (size_t at = 0; !patterns.empty() && at < text.size();) {
    const auto* match = patterns.find(text.substr(at));
    if (match == nullptr) {
      ++at;
      continue;
    }
    const AddedToken& token = *match->token;
    TextSpan span{at, at + match->text.size()};
    at = span.end;
    if (token.single_word && !stands_alone(text, span)) continue;
    // White space that the token before has taken stays with it.
    span.begin = std::max(span.begin, done);
    if (token.left_strip) span.begin = skip_spaces_back(text, span.begin, done);
    if (token.right_strip) span.end = skip_spaces(text, span.end);
    if (done < span.begin) segments.push_back({{done, span.begin}, std::nullopt});
    segments.push_back({span, token.id});
    done = std::max(done, span.end);
  }
  if (done < text.size()) segments.push_back({{done, text.size()}, std::nullopt});
  return segments;
}

const AddedToken* AddedTokens::find(uint32_t id) const {
  const auto place = by_id_.find(id);
  return place == by_id_.end() ? nullptr : place->second;
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto place = by_content_.find(content);
  return place == by_content_.end() ? nullptr : place->second;
}

}  // namespace sluice
