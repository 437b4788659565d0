// Operators of the language, with Python's meaning. Where Python raises a TypeError or the like,
// they throw Error. Threads: one, by the heap.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "model/template/heap.h"
#include "model/template/syntax.h"

namespace sluice::jinja {

// "'name' is undefined". For what undefined values must not be used for.
[[noreturn]] void throw_undefined(const Value& value);

bool is_true(const Value& value);
// Lists and dicts are compared by content.
bool equal(const Value& left, const Value& right, Meter& meter);
// Numbers, strings by code points, lists and tuples by their first difference.
bool less(const Value& left, const Value& right, Meter& meter);
// op: one of the comparisons, in and not_in.
bool compare(Operator op, const Value& left, const Value& right, Heap& heap);
bool contains(const Value& container, const Value& item, Heap& heap);

// op: one of add to power.
Value arithmetic(Operator op, const Value& left, const Value& right, Heap& heap);
Value negative(const Value& value);
Value positive(const Value& value);

// The elements that iterating over a value gives: of a list its own, of a dict its keys, of a
// string its characters, of undefined none. A generator is used up by it.
const std::vector<Value>& iterate(const Value& value, Heap& heap);
// len(); nullopt for what has none.
std::optional<int64_t> length(const Value& value);

// subject.name and subject[key]; undefined where there is none.
Value attribute(const Value& subject, std::string_view name, Heap& heap);
Value item(const Value& subject, const Value& key, Heap& heap);
// subject[start:stop:step]; each bound an integer, or None where absent.
struct SliceBounds {
  Value start, stop, step;
};
Value slice(const Value& subject, const SliceBounds& bounds, Heap& heap);

}  // namespace sluice::jinja
