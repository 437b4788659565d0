#include "model/template/json.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "io/json_text.h"
#include "model/template/characters.h"
#include "model/template/text.h"

namespace sluice::jinja {
namespace {

// Builds values from the JSON library's events.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(const std::string& what, Heap& heap) : what_(what), heap_(heap) {}

  const Value& result() const { return result_; }

  bool null() override { return add(Value::none()); }
  bool boolean(bool value) override { return add(Value::boolean(value)); }
  bool number_integer(int64_t value) override { return add(Value::integer(value)); }
  bool number_unsigned(uint64_t value) override {
    if (value > INT64_MAX) refuse_integer(std::to_string(value));
    return add(Value::integer(static_cast<int64_t>(value)));
  }
  bool number_float(double value, const std::string& digits) override {
    if (digits.find_first_of(".eE") == std::string::npos) refuse_integer(digits);
    return add(Value::real(value));
  }
  bool string(std::string& value) override { return add(heap_.string(std::move(value))); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Value::dict(&heap_.dict())); }
  bool key(std::string& value) override {
    keys_.back() = heap_.string(std::move(value));
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(Value::list(&heap_.list())); }
  bool end_array() override { return close(); }
  bool parse_error(size_t place, const std::string&, const nlohmann::json::exception&) override {
    throw Error(what_, ": not valid JSON at byte ", place);
  }

 private:
  [[noreturn]] void refuse_integer(const std::string& digits) const {
    throw Error(what_, ": the integer ", excerpt(digits), " does not fit in 64 bits");
  }
  bool add(const Value& value) {
    if (open_.empty()) {
      result_ = value;
    } else if (open_.back().is(Kind::list)) {
      heap_.append(open_.back().list(), value);
    } else {
      heap_.set(open_.back().dict(), keys_.back(), value);
    }
    return true;
  }
  bool open(const Value& container) {
    if (open_.size() == kMaxJsonDepth) {
      throw Error(what_, ": nested deeper than ", kMaxJsonDepth, " levels");
    }
    add(container);
    open_.push_back(container);
    keys_.emplace_back();
    return true;
  }
  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  const std::string& what_;
  Heap& heap_;
  Value result_;
  std::vector<Value> open_;
  std::vector<Value> keys_;  // the key at hand of each of open_
};

void add_escape(char32_t code_point, std::string& out) {
  const auto add_unit = [&out](uint32_t unit) {
    char escape[8];
    std::snprintf(escape, sizeof escape, "\\u%04x", unit & 0xFFFFu);
    out += escape;
  };
  if (code_point >= 0x10000) {
    const uint32_t rest = code_point - 0x10000;
    add_unit(0xD800 + (rest >> 10));
    add_unit(0xDC00 + (rest & 0x3FF));
  } else {
    add_unit(code_point);
  }
}

// In pieces, so that a text that grows by its escapes is counted as it does.
void add_quoted(std::string_view text, bool ensure_ascii, TextBuilder& out) {
  constexpr size_t kPiece = 4096;
  std::string piece = "\"";
  for_each_character(text, [&](std::string_view character) {
    constexpr std::string_view kShort = "\"\\\b\f\n\r\t";
    constexpr std::string_view kLetters = "\"\\bfnrt";
    const char32_t code_point = first_character(character);
    if (const size_t place = kShort.find(character[0]); place != kShort.npos) {
      piece += '\\';
      piece += kLetters[place];
    } else if (code_point < 0x20 || (ensure_ascii && code_point > 0x7E)) {
      add_escape(code_point, piece);
    } else {
      piece += character;
    }
    if (piece.size() > kPiece) {
      out.add(piece);
      piece.clear();
    }
  });
  out.add(piece);
  out.add("\"");
}

class Writer {
 public:
  Writer(const JsonStyle& style, Heap& heap, TextBuilder& out)
      : style_(style), heap_(heap), out_(out) {}

  void add(const Value& value) {
    heap_.meter().step();
    switch (value.kind()) {
      case Kind::none:
        return out_.add("null");
      case Kind::boolean:
        return out_.add(value.boolean() ? "true" : "false");
      case Kind::integer:
        return out_.add(std::to_string(value.integer()));
      case Kind::real:
        return out_.add(number(value.real()));
      case Kind::string:
        return add_quoted(value.text(), style_.ensure_ascii, out_);
      case Kind::list:
        if (value.list().can_index() && value.list().flavor != List::Flavor::range) {
          return add_list(value.list());
        }
        break;
      case Kind::dict:
        return add_dict(value.dict());
      default:
        break;
    }
    throw Error(kind_name(value), " cannot be written as JSON");
  }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return real_text(value);
  }

  std::string key_text(const Value& key) const {
    switch (key.kind()) {
      case Kind::string:
        return std::string(key.text());
      case Kind::none:
        return "null";
      case Kind::boolean:
        return key.boolean() ? "true" : "false";
      case Kind::integer:
        return std::to_string(key.integer());
      case Kind::real:
        return number(key.real());
      default:
        throw Error(kind_name(key), " cannot be a key in JSON");
    }
  }

  void new_line() {
    if (!style_.indent) return;
    out_.add("\n");
    for (uint32_t level = 0; level < levels_; ++level) out_.add(*style_.indent);
  }

  void add_list(const List& list) {
    if (list.items.empty()) return out_.add("[]");
    const Nesting nesting(heap_.meter());
    out_.add("[");
    ++levels_;
    bool first = true;
    for (const Value& item : list.items) {
      if (!first) out_.add(style_.item_separator);
      first = false;
      new_line();
      add(item);
    }
    --levels_;
    new_line();
    out_.add("]");
  }

  void add_dict(const Dict& dict) {
    if (dict.entries().empty()) return out_.add("{}");
    const Nesting nesting(heap_.meter());
    std::vector<std::pair<std::string, const Value*>> entries;
    for (const Dict::Entry& entry : dict.entries()) {
      // Sorting compares each with some 16 others.
      const size_t bytes = entry.key.is(Kind::string) ? entry.key.text().size() : 1;
      heap_.meter().bytes(style_.sort_keys ? 16 * bytes : bytes);
      entries.emplace_back(key_text(entry.key), &entry.value);
    }
    if (style_.sort_keys) {
      std::ranges::stable_sort(entries, {}, &std::pair<std::string, const Value*>::first);
    }
    out_.add("{");
    ++levels_;
    bool first = true;
    for (const auto& [key, value] : entries) {
      if (!first) out_.add(style_.item_separator);
      first = false;
      new_line();
      add_quoted(key, style_.ensure_ascii, out_);
      out_.add(style_.key_separator);
      add(*value);
    }
    --levels_;
    new_line();
    out_.add("}");
  }

  const JsonStyle& style_;
  Heap& heap_;
  TextBuilder& out_;
  uint32_t levels_ = 0;
};

}  // namespace

Value parse_json_value(std::string_view text, const std::string& what, Heap& heap) {
  Builder builder(what, heap);
  sax_parse_json(text, builder);
  return builder.result();
}

void add_json(const Value& value, const JsonStyle& style, Heap& heap, TextBuilder& out) {
  Writer(style, heap, out).add(value);
}

}  // namespace sluice::jinja
