#include "model/template/text.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "model/template/characters.h"

namespace sluice::jinja {
namespace {

void add_quoted(std::string_view text, TextBuilder& out) {
  const bool has_single = text.find('\'') != text.npos;
  const char quote = has_single && text.find('"') == text.npos ? '"' : '\'';
  std::string quoted(1, quote);
  for_each_character(text, [&](std::string_view character) {
    const char32_t code_point = first_character(character);
    char escape[16];
    if (character == "\n") {
      quoted += "\\n";
    } else if (character == "\r") {
      quoted += "\\r";
    } else if (character == "\t") {
      quoted += "\\t";
    } else if (character == "\\" || character[0] == quote) {
      quoted += '\\';
      quoted += character;
    } else if (is_printable(code_point)) {
      quoted += character;
    } else {
      const char* format = code_point < 0x100     ? "\\x%02x"
                           : code_point < 0x10000 ? "\\u%04x"
                                                  : "\\U%08x";
      std::snprintf(escape, sizeof escape, format, static_cast<unsigned>(code_point));
      quoted += escape;
    }
    if (quoted.size() > 4096) {
      out.add(quoted);
      quoted.clear();
    }
  });
  quoted += quote;
  out.add(quoted);
}

void add_items(const std::vector<Value>& items, Heap& heap, TextBuilder& out) {
  bool first = true;
  for (const Value& item : items) {
    if (!first) out.add(", ");
    first = false;
    add_repr(item, heap, out);
  }
}

void add_list(const List& list, Heap& heap, TextBuilder& out) {
  const Nesting nesting(heap.meter());
  switch (list.flavor) {
    case List::Flavor::list:
      out.add("[");
      add_items(list.items, heap, out);
      out.add("]");
      return;
    case List::Flavor::tuple:
      out.add("(");
      add_items(list.items, heap, out);
      out.add(list.items.size() == 1 ? ",)" : ")");
      return;
    case List::Flavor::range:
    case List::Flavor::view:
    case List::Flavor::generator:
      // Python prints what made it, or an address.
      throw Error(kind_name(Value::list(const_cast<List*>(&list))),
                  " has no text; turn it into a list first (|list)");
  }
}

void add_dict(const Dict& dict, Heap& heap, TextBuilder& out) {
  const Nesting nesting(heap.meter());
  out.add("{");
  bool first = true;
  for (const Dict::Entry& entry : dict.entries()) {
    if (!first) out.add(", ");
    first = false;
    add_repr(entry.key, heap, out);
    out.add(": ");
    add_repr(entry.value, heap, out);
  }
  out.add("}");
}

}  // namespace

std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto scientific =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string text(buffer, scientific.ptr);
  const size_t e = text.find('e');
  const int exponent = std::atoi(text.c_str() + e + 1);
  if (exponent < -4 || exponent >= 16) return text;
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  text.assign(buffer, fixed.ptr);
  return text.find('.') == std::string::npos ? text + ".0" : text;
}

void add_repr(const Value& value, Heap& heap, TextBuilder& out) {
  heap.meter().step();
  switch (value.kind()) {
    case Kind::undefined:
      return out.add("Undefined");
    case Kind::none:
      return out.add("None");
    case Kind::boolean:
      return out.add(value.boolean() ? "True" : "False");
    case Kind::integer:
      return out.add(std::to_string(value.integer()));
    case Kind::real:
      return out.add(real_text(value.real()));
    case Kind::string:
      return add_quoted(value.text(), out);
    case Kind::list:
      return add_list(value.list(), heap, out);
    case Kind::dict:
      return add_dict(value.dict(), heap, out);
    default:
      // Python would print the name of a class and an address.
      throw Error(kind_name(value), " has no text");
  }
}

void add_text(const Value& value, Heap& heap, TextBuilder& out) {
  if (value.is(Kind::undefined)) return;
  if (value.is(Kind::string)) return out.add(value.text());
  add_repr(value, heap, out);
}

Value to_string(const Value& value, Heap& heap) {
  if (value.is(Kind::string)) return value;
  TextBuilder out(heap);
  add_text(value, heap, out);
  return out.finish();
}

}  // namespace sluice::jinja
