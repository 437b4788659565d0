// Filters of single values.
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "model/template/builtins.h"
#include "model/template/characters.h"
#include "model/template/json.h"
#include "model/template/operators.h"
#include "model/template/text.h"

namespace sluice::jinja {
namespace {

std::string_view text_of(Runtime& runtime, const Value& value) {
  const std::string_view text = to_string(value, runtime.heap).text();
  runtime.meter.bytes(text.size());
  return text;
}

// A filter of a text without arguments.
template <std::string (*change)(std::string_view)>
Value changing(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "the filter", {}, 0);
  const std::string_view text = text_of(runtime, subject);
  return Value::string(runtime.heap.keep(change(text)), subject.is_safe());
}

// The first letter behind white space, "-", "(", "{", "[" or "<" upper, the rest lower.
std::string titled(std::string_view text) {
  std::string result;
  std::string word;
  const auto finish_word = [&] {
    result += capitalized(word);
    word.clear();
  };
  for_each_character(text, [&](std::string_view character) {
    const bool separates = is_space(first_character(character)) ||
                           std::string_view("-({[<").find(character) != std::string_view::npos;
    if (separates) finish_word();
    (separates ? result : word) += character;
  });
  finish_word();
  return result;
}

Value tojson(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"},
                         0);
  JsonStyle style;
  style.ensure_ascii = given.truth(0, false);
  style.sort_keys = given.truth(3, false);
  if (given.given(1) && !given[1].is(Kind::none)) {
    constexpr int64_t kMaxIndent = 64;
    style.item_separator = ",";
    if (given[1].is(Kind::string)) {
      runtime.meter.bytes(given[1].text().size());
      style.indent = std::string(given[1].text());
    } else {
      const int64_t width = given.integer(1, 0);
      if (width > kMaxIndent) throw Error("tojson: an indent of more than ", kMaxIndent);
      style.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
  }
  if (given.given(2) && !given[2].is(Kind::none)) {
    const std::vector<Value>& separators = iterate(given[2], runtime.heap);
    if (separators.size() != 2 || !separators[0].is(Kind::string) ||
        !separators[1].is(Kind::string)) {
      throw Error("tojson: expected separators of two strings");
    }
    runtime.meter.bytes(separators[0].text().size() + separators[1].text().size());
    style.item_separator = separators[0].text();
    style.key_separator = separators[1].text();
  }
  TextBuilder out(runtime.heap);
  add_json(subject, style, runtime.heap, out);
  return out.finish();
}

Value from_json(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "from_json", {}, 0);
  if (!subject.is(Kind::string)) throw Error("from_json takes a string, not ", kind_name(subject));
  runtime.meter.bytes(subject.text().size());
  return parse_json_value(subject.text(), "from_json", runtime.heap);
}

Value trim(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Value text = to_string(subject, runtime.heap);
  return call_string_method(runtime, text, "strip", arguments);
}

Value replace(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "replace", {"old", "new", "count"}, 2);
  Arguments texts;
  texts.positional = {to_string(given[0], runtime.heap), to_string(given[1], runtime.heap),
                      Value::integer(given.integer(2, -1))};
  return call_string_method(runtime, to_string(subject, runtime.heap), "replace", texts);
}

Value string(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "string", {}, 0);
  return to_string(subject, runtime.heap);
}

Value safe(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "safe", {}, 0);
  return Value::string(to_string(subject, runtime.heap).text(), /*safe=*/true);
}

Value escape(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "escape", {}, 0);
  if (subject.is_safe()) return subject;
  const std::string_view text = text_of(runtime, subject);
  return Value::string(runtime.heap.keep(escaped(text)), /*safe=*/true);
}

Value default_value(Runtime&, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "default", {"default_value", "boolean"}, 0);
  const bool replaced = subject.is(Kind::undefined) || (given.truth(1, false) && !is_true(subject));
  if (!replaced) return subject;
  return given.given(0) ? given[0] : Value::string({});
}

// A number that is written out, without underscores: "  -12 ".
template <class Number>
std::optional<Number> read_number(std::string_view text) {
  text = stripped_right(stripped_left(text));
  if (text.starts_with('+')) text.remove_prefix(1);
  Number number{};
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<int64_t> truncated(double value) {
  if (!(std::abs(value) < 9.2e18)) return std::nullopt;
  return static_cast<int64_t>(value);
}

Value to_integer(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "int", {"default", "base"}, 0);
  if (given.integer(1, 10) != 10) throw Error("int: only base 10 is supported");
  if (subject.is(Kind::undefined)) throw_undefined(subject);
  std::optional<int64_t> result;
  if (subject.is_integral()) {
    result = subject.integer();
  } else if (subject.is(Kind::real)) {
    result = truncated(subject.real());
  } else if (subject.is(Kind::string)) {
    runtime.meter.bytes(subject.text().size());
    result = read_number<int64_t>(subject.text());
    if (!result) {
      if (const auto real = read_number<double>(subject.text())) result = truncated(*real);
    }
  }
  if (result) return Value::integer(*result);
  return given.given(0) ? given[0] : Value::integer(0);
}

Value to_real(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "float", {"default"}, 0);
  if (subject.is(Kind::undefined)) throw_undefined(subject);
  if (subject.is_number()) return Value::real(subject.number());
  if (subject.is(Kind::string)) {
    runtime.meter.bytes(subject.text().size());
    if (const auto real = read_number<double>(subject.text())) return Value::real(*real);
  }
  return given.given(0) ? given[0] : Value::real(0);
}

Value absolute(Runtime&, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "abs", {}, 0);
  if (subject.is_integral() && subject.integer() < 0) return negative(subject);
  if (subject.is(Kind::real)) return Value::real(std::abs(subject.real()));
  return positive(subject);
}

Value rounded(Runtime&, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "round", {"precision", "method"}, 0);
  const int64_t precision = given.integer(0, 0);
  const std::string_view method = given.text(1, "common");
  if (precision < 0 || precision > 15) throw Error("round: expected a precision from 0 to 15");
  if (subject.is(Kind::undefined)) throw_undefined(subject);
  if (!subject.is_number()) throw Error("round takes a number, not ", kind_name(subject));
  if (method == "common") {
    if (subject.is_integral()) return Value::integer(subject.integer());
    char digits[400];  // the largest float has 309 digits before the point
    std::snprintf(digits, sizeof digits, "%.*f", static_cast<int>(precision), subject.real());
    return Value::real(std::strtod(digits, nullptr));
  }
  const double factor = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value::real(std::ceil(subject.number() * factor) / factor);
  if (method == "floor") return Value::real(std::floor(subject.number() * factor) / factor);
  throw Error("round: the method is \"", excerpt(method), "\"; expected common, ceil or floor");
}

Value indent(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "indent", {"width", "first", "blank"}, 0);
  constexpr int64_t kMaxIndent = 1000;
  std::string margin(4, ' ');
  if (given.given(0) && given[0].is(Kind::string)) {
    runtime.meter.bytes(given[0].text().size());
    margin = given[0].text();
  } else if (given.given(0)) {
    const int64_t width = std::max<int64_t>(given.integer(0, 4), 0);
    if (width > kMaxIndent) throw Error("indent: more than ", kMaxIndent);
    margin.assign(static_cast<size_t>(width), ' ');
  }
  const bool blank_too = given.truth(2, false);
  TextBuilder out(runtime.heap);
  std::string_view rest = text_of(runtime, subject);
  bool first = true;
  while (true) {
    const size_t end = std::min(rest.find_first_of("\r\n"), rest.size());
    const std::string_view line = rest.substr(0, end);
    if (!first) out.add("\n");
    if (first ? given.truth(1, false) : (blank_too || !line.empty())) out.add(margin);
    out.add(line);
    first = false;
    if (end == rest.size()) break;
    rest.remove_prefix(end + (rest.substr(end).starts_with("\r\n") ? 2 : 1));
  }
  return out.finish();
}

Value count(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "length", {}, 0);
  if (subject.is(Kind::string)) runtime.meter.bytes(subject.text().size());
  const auto result = length(subject);
  if (!result) throw Error(kind_name(subject), " has no length");
  return Value::integer(*result);
}

constexpr Function kFilters[] = {
    {"tojson", tojson},
    {"from_json", from_json},
    {"fromjson", from_json},
    {"trim", trim},
    {"upper", changing<upper>},
    {"lower", changing<lower>},
    {"title", changing<titled>},
    {"capitalize", changing<capitalized>},
    {"replace", replace},
    {"string", string},
    {"safe", safe},
    {"escape", escape},
    {"e", escape},
    {"default", default_value},
    {"d", default_value},
    {"int", to_integer},
    {"float", to_real},
    {"abs", absolute},
    {"round", rounded},
    {"indent", indent},
    {"length", count},
    {"count", count},
};

}  // namespace

std::span<const Function> text_filters() { return kFilters; }

}  // namespace sluice::jinja
