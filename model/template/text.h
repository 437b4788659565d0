// Values as text: what str() and repr() of Python give. Threads: one, by the heap.
#pragma once

#include <string>

#include "model/template/heap.h"

namespace sluice::jinja {

// str(): a string is itself, None is "None", undefined is "".
void add_text(const Value& value, Heap& heap, TextBuilder& out);
// repr(): strings in quotes, as within lists and dicts.
void add_repr(const Value& value, Heap& heap, TextBuilder& out);
// str() as a value that keeps the bytes of a string where they are.
Value to_string(const Value& value, Heap& heap);

// "1.0", "1e+16", "inf": the shortest digits that give the same number back.
std::string real_text(double value);

}  // namespace sluice::jinja
