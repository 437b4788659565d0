// Values from JSON text and back. Threads: one, by the heap.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "model/template/heap.h"

namespace sluice::jinja {

// Levels of a JSON text: those of its values and of their texts are bounded by Limits::depth.
inline constexpr int kMaxJsonDepth = 100;

// Objects keep the order of their keys; of a key given twice the last value counts, at the place of
// the first, as in Python. what: for messages. Throws Error: not JSON, nested too deeply, an
// integer that does not fit in 64 bits.
Value parse_json_value(std::string_view text, const std::string& what, Heap& heap);

// As json.dumps of Python.
struct JsonStyle {
  std::optional<std::string> indent;  // one level's; absent: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
  bool ensure_ascii = false;
};
// Throws Error: a value that JSON has not, such as undefined.
void add_json(const Value& value, const JsonStyle& style, Heap& heap, TextBuilder& out);

}  // namespace sluice::jinja
