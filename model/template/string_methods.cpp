// The methods of strings.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "model/template/builtins.h"
#include "model/template/characters.h"
#include "model/template/operators.h"
#include "model/template/text.h"

namespace sluice::jinja {
namespace {

// Where `part` begins in text first, from `from` on; npos if nowhere. Linear, unlike find().
size_t find_first(std::string_view text, std::string_view part, size_t from) {
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

// The same from the end. Its worst cost is the product of what is scanned and of the part's size;
// a long part is counted before it is looked for.
size_t find_last(std::string_view text, std::string_view part, Meter& meter) {
  constexpr size_t kShortPart = 256;
  if (part.size() > kShortPart) meter.step(text.size() / 16 * (part.size() / 16));
  const size_t place = text.rfind(part);
  meter.bytes(place == text.npos ? text.size() : text.size() - place);
  return place;
}

template <bool left, bool right>
Value strip(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "strip()", {"chars"}, 0);
  std::string_view text = subject.text();
  if (!given.given(0) || given[0].is(Kind::none)) {
    runtime.meter.bytes(text.size());
    if (left) text = stripped_left(text);
    if (right) text = stripped_right(text);
  } else {
    const std::string_view set = given.text(0);
    runtime.meter.step(1 + text.size() / 16 * std::max<size_t>(1, set.size()));
    if (left) text = stripped_left(text, set);
    if (right) text = stripped_right(text, set);
  }
  return Value::string(text, subject.is_safe());
}

// Where the first word ends, and where the last one begins; text has no white space on that side.
size_t word_end(std::string_view text) {
  size_t end = 0;
  while (end < text.size() && !is_space(first_character(text.substr(end)))) {
    end += utf8_length(text[end]);
  }
  return end;
}
size_t word_start(std::string_view text) {
  size_t start = text.size();
  while (start > 0) {
    size_t before = start - 1;
    while (before > 0 && (text[before] & 0xC0) == 0x80) --before;
    if (is_space(first_character(text.substr(before)))) break;
    start = before;
  }
  return start;
}

// Pieces between runs of white space; at most `most` cuts, from the left or the right.
void split_at_space(std::string_view text, int64_t most, bool from_right, Heap& heap,
                    List& pieces) {
  text = from_right ? stripped_right(text) : stripped_left(text);
  while (!text.empty()) {
    if (most-- == 0) {
      // What is left keeps the white space within it, and on the side that is not cut.
      heap.append(pieces, Value::string(text));
      return;
    }
    heap.meter().step();
    const size_t cut = from_right ? word_start(text) : word_end(text);
    if (from_right) {
      heap.append(pieces, Value::string(text.substr(cut)));
      text = stripped_right(text.substr(0, cut));
    } else {
      heap.append(pieces, Value::string(text.substr(0, cut)));
      text = stripped_left(text.substr(cut));
    }
  }
}

template <bool from_right>
Value split(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "split()", {"sep", "maxsplit"}, 0);
  std::string_view text = subject.text();
  runtime.meter.bytes(text.size());
  int64_t most = given.integer(1, -1);
  if (most < 0) most = INT64_MAX;
  List& pieces = runtime.heap.list();
  const auto add = [&](std::string_view piece) {
    runtime.meter.step();
    runtime.heap.append(pieces, Value::string(piece));
  };
  if (!given.given(0) || given[0].is(Kind::none)) {
    split_at_space(text, most, from_right, runtime.heap, pieces);
  } else {
    const std::string_view separator = given.text(0);
    if (separator.empty()) throw Error("split(): the separator is empty");
    while (most-- > 0) {
      const size_t place =
          from_right ? find_last(text, separator, runtime.meter) : find_first(text, separator, 0);
      if (place == text.npos) break;
      add(from_right ? text.substr(place + separator.size()) : text.substr(0, place));
      text = from_right ? text.substr(0, place) : text.substr(place + separator.size());
    }
    add(text);
  }
  if (from_right) std::ranges::reverse(pieces.items);
  return Value::list(&pieces);
}

Value splitlines(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "splitlines()", {"keepends"}, 0);
  const bool keep = given.truth(0, false);
  List& lines = runtime.heap.list();
  std::string_view rest = subject.text();
  runtime.meter.bytes(rest.size());
  while (!rest.empty()) {
    const size_t end = std::min(rest.find_first_of("\n\r"), rest.size());
    const size_t breaks = end == rest.size() ? 0 : rest.substr(end).starts_with("\r\n") ? 2 : 1;
    runtime.meter.step();
    runtime.heap.append(lines, Value::string(rest.substr(0, keep ? end + breaks : end)));
    rest.remove_prefix(end + breaks);
  }
  return Value::list(&lines);
}

// Whether text has one affix, or one of a tuple of them, at its beginning or end.
template <bool at_end>
Value has_affix(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, at_end ? "endswith()" : "startswith()", {"affix"}, 1);
  const auto matches = [&](const Value& affix) {
    if (!affix.is(Kind::string)) {
      throw Error(at_end ? "endswith()" : "startswith()", " takes a string or a tuple of strings");
    }
    runtime.meter.bytes(affix.text().size());
    return at_end ? subject.text().ends_with(affix.text())
                  : subject.text().starts_with(affix.text());
  };
  if (given[0].is(Kind::list) && given[0].list().flavor == List::Flavor::tuple) {
    return Value::boolean(std::ranges::any_of(given[0].list().items, matches));
  }
  return Value::boolean(matches(given[0]));
}

template <bool at_end>
Value remove_affix(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, at_end ? "removesuffix()" : "removeprefix()", {"affix"}, 1);
  std::string_view text = subject.text();
  const std::string_view affix = given.text(0);
  runtime.meter.bytes(affix.size());
  if (at_end && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!at_end && text.starts_with(affix)) text.remove_prefix(affix.size());
  return Value::string(text);
}

Value replace(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "replace()", {"old", "new", "count"}, 2);
  const std::string_view old = given.text(0);
  const std::string_view replacement = given.text(1);
  int64_t most = given.integer(2, -1);
  if (most < 0) most = INT64_MAX;
  std::string_view rest = subject.text();
  TextBuilder out(runtime.heap);
  if (old.empty()) {  // stands before every character, and at the end
    while (most-- > 0) {
      out.add(replacement);
      if (rest.empty()) return out.finish();
      const size_t size = utf8_length(rest[0]);
      out.add(rest.substr(0, size));
      rest.remove_prefix(size);
    }
  }
  while (!old.empty() && most-- > 0) {
    const size_t place = find_first(rest, old, 0);
    if (place == rest.npos) break;
    out.add(rest.substr(0, place));
    out.add(replacement);
    rest.remove_prefix(place + old.size());
  }
  out.add(rest);
  return Value::string(runtime.heap.keep(out.take()), subject.is_safe());
}

template <std::string (*change)(std::string_view)>
Value changing(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "the method", {}, 0);
  runtime.meter.bytes(subject.text().size());
  return Value::string(runtime.heap.keep(change(subject.text())), subject.is_safe());
}

// The place of a part, in characters; -1 if there is none.
template <bool from_right, bool must_be>
Value find(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "find()", {"sub"}, 1);
  const std::string_view text = subject.text();
  runtime.meter.bytes(text.size());
  const size_t place = from_right ? find_last(text, given.text(0), runtime.meter)
                                  : find_first(text, given.text(0), 0);
  if (place == text.npos && must_be) throw Error("index(): the string is not there");
  if (place == text.npos) return Value::integer(-1);
  return Value::integer(static_cast<int64_t>(character_count(text.substr(0, place))));
}

Value count(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "count()", {"sub"}, 1);
  const std::string_view text = subject.text();
  const std::string_view part = given.text(0);
  runtime.meter.bytes(text.size());
  if (part.empty()) return Value::integer(static_cast<int64_t>(character_count(text)) + 1);
  int64_t found = 0;
  for (size_t at = 0; (at = find_first(text, part, at)) != text.npos; at += part.size()) ++found;
  return Value::integer(found);
}

Value join(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "join()", {"iterable"}, 1);
  TextBuilder out(runtime.heap);
  bool first = true;
  for (const Value& element : iterate(given[0], runtime.heap)) {
    if (!element.is(Kind::string)) throw Error("join() takes strings, not ", kind_name(element));
    if (!first) out.add(subject.text());
    first = false;
    out.add(element.text());
  }
  return out.finish();
}

// Whether there are characters, and the property holds for all of them.
template <bool (*property)(char32_t)>
Value all_characters(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "the method", {}, 0);
  runtime.meter.bytes(subject.text().size());
  bool all = !subject.text().empty();
  for_each_character(subject.text(), [&all](std::string_view character) {
    all = all && property(first_character(character));
  });
  return Value::boolean(all);
}
bool is_letter_or_digit(char32_t c) { return is_letter(c) || is_decimal_digit(c); }

template <const char* const& name>
Value tested(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  return Value::boolean(apply_test(runtime, name, subject, arguments));
}
const char* const kUpper = "upper";
const char* const kLower = "lower";

constexpr Function kMethods[] = {
    {"strip", strip<true, true>},
    {"lstrip", strip<true, false>},
    {"rstrip", strip<false, true>},
    {"split", split<false>},
    {"rsplit", split<true>},
    {"splitlines", splitlines},
    {"startswith", has_affix<false>},
    {"endswith", has_affix<true>},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
    {"replace", replace},
    {"upper", changing<upper>},
    {"lower", changing<lower>},
    {"title", changing<title>},
    {"capitalize", changing<capitalized>},
    {"find", find<false, false>},
    {"rfind", find<true, false>},
    {"index", find<false, true>},
    {"rindex", find<true, true>},
    {"count", count},
    {"join", join},
    {"isspace", all_characters<is_space>},
    {"isalpha", all_characters<is_letter>},
    {"isdigit", all_characters<is_decimal_digit>},
    {"isdecimal", all_characters<is_decimal_digit>},
    {"isnumeric", all_characters<is_decimal_digit>},
    {"isalnum", all_characters<is_letter_or_digit>},
    {"isupper", tested<kUpper>},
    {"islower", tested<kLower>},
};

}  // namespace

const Function* find_string_method(std::string_view name) {
  const auto place = std::ranges::find(kMethods, name, &Function::name);
  return place == std::end(kMethods) ? nullptr : place;
}

Value call_string_method(Runtime& runtime, const Value& subject, std::string_view name,
                         const Arguments& arguments) {
  const Function* method = find_string_method(name);
  if (method == nullptr) throw Error("a string has no method \"", excerpt(name), "\"");
  return method->call(runtime, subject, arguments);
}

}  // namespace sluice::jinja
