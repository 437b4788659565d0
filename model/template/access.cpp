// Attributes, items, slices, iteration and length.
#include <algorithm>

#include "model/template/builtins.h"
#include "model/template/characters.h"
#include "model/template/operators.h"

namespace sluice::jinja {
namespace {

// The loop's list may have changed under it.
Value element_at(const Loop& loop, int64_t place, std::string_view name) {
  if (place < 0 || place >= static_cast<int64_t>(loop.items->size())) {
    return Value::undefined(name);
  }
  return (*loop.items)[static_cast<size_t>(place)];
}

Value loop_attribute(Loop& loop, std::string_view name, Heap& heap) {
  const auto index = static_cast<int64_t>(loop.index);
  const auto count = static_cast<int64_t>(loop.items->size());
  if (name == "index") return Value::integer(index + 1);
  if (name == "index0") return Value::integer(index);
  if (name == "revindex") return Value::integer(count - index);
  if (name == "revindex0") return Value::integer(count - index - 1);
  if (name == "first") return Value::boolean(index == 0);
  if (name == "last") return Value::boolean(index == count - 1);
  if (name == "length") return Value::integer(count);
  if (name == "depth") return Value::integer(1);  // more only where loops recur
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem") return element_at(loop, index - 1, name);
  if (name == "nextitem") return element_at(loop, index + 1, name);
  if (name == "cycle" || name == "changed") return heap.method(Value::loop(&loop), name);
  return Value::undefined(name);
}

// The element of a list or character of a string; undefined past either end.
Value element(const Value& subject, int64_t index, Heap& heap) {
  const int64_t count = length(subject).value_or(0);
  if (subject.is(Kind::string)) heap.meter().bytes(subject.text().size());
  if (index < 0) index += count;
  if (index < 0 || index >= count) return Value();
  if (subject.is(Kind::list)) return subject.list().items[static_cast<size_t>(index)];
  std::string_view text = subject.text();
  for (; index > 0; --index) text.remove_prefix(utf8_length(text[0]));
  return Value::string(text.substr(0, utf8_length(text[0])));
}

// What Python slices by, an undefined bound among what it refuses.
void check_bound(const Value& value) {
  if (value.is(Kind::undefined)) throw_undefined(value);
  if (!value.is(Kind::none) && !value.is_integral()) {
    throw Error("the bounds of a slice are integers or None, not ", kind_name(value));
  }
}

// Where each character of text begins, and the end.
std::vector<size_t> character_places(std::string_view text, Heap& heap) {
  const uint64_t bytes = text.size() * sizeof(size_t);
  heap.meter().memory(bytes);  // refused before it is taken, and soon gone
  heap.meter().give_back(bytes);
  heap.meter().bytes(text.size());
  std::vector<size_t> places;
  places.reserve(text.size() + 1);
  size_t place = 0;
  for_each_character(text, [&](std::string_view character) {
    places.push_back(place);
    place += character.size();
  });
  places.push_back(place);
  return places;
}

// What a slice takes: start, start + step, ... `count` of them.
struct Progression {
  int64_t start;
  int64_t step;
  int64_t count;
};

Progression resolve(const SliceBounds& bounds, int64_t length) {
  const auto given = [](const Value& bound) { return bound.is_integral(); };
  const int64_t step = given(bounds.step) ? bounds.step.integer() : 1;
  if (step == 0) throw Error("the step of a slice is 0");
  // The lowest and the highest place; going backwards they are one lower.
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? length : length - 1;
  const auto clamped = [&](const Value& bound, int64_t otherwise) {
    if (!given(bound)) return otherwise;
    int64_t place = bound.integer();
    if (place < 0) place += length;
    return std::clamp(place, low, high);
  };
  const int64_t start = clamped(bounds.start, step > 0 ? low : high);
  const int64_t stop = clamped(bounds.stop, step > 0 ? high : low);
  // The size of a step beyond the length does not matter; it must not overflow.
  const int64_t size = std::clamp(step, -length - 1, length + 1);
  int64_t count = 0;
  if (step > 0 && stop > start) count = (stop - start + size - 1) / size;
  if (step < 0 && stop < start) count = (start - stop - size - 1) / -size;
  return {.start = start, .step = size, .count = count};
}

Value slice_string(std::string_view text, const SliceBounds& bounds, Heap& heap) {
  const std::vector<size_t> places = character_places(text, heap);
  const Progression taken = resolve(bounds, static_cast<int64_t>(places.size()) - 1);
  if (taken.count == 0) return Value::string({});
  const auto start = static_cast<size_t>(taken.start);
  if (taken.step == 1) {
    const size_t from = places[start];
    const size_t to = places[start + static_cast<size_t>(taken.count)];
    return Value::string(text.substr(from, to - from));
  }
  std::string result;
  for (int64_t i = 0; i < taken.count; ++i) {
    const auto place = static_cast<size_t>(taken.start + i * taken.step);
    result += text.substr(places[place], places[place + 1] - places[place]);
  }
  return heap.string(std::move(result));
}

}  // namespace

std::optional<int64_t> length(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return 0;
    case Kind::string:
      return static_cast<int64_t>(character_count(value.text()));
    case Kind::dict:
      return static_cast<int64_t>(value.dict().entries().size());
    case Kind::loop:
      return static_cast<int64_t>(value.loop().items->size());
    case Kind::list:
      if (value.list().has_length()) return static_cast<int64_t>(value.list().items.size());
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

const std::vector<Value>& iterate(const Value& value, Heap& heap) {
  if (value.is(Kind::list)) {
    List& list = value.list();
    if (list.flavor != List::Flavor::generator) return list.items;
    if (list.consumed) return heap.list().items;
    list.consumed = true;
    return list.items;
  }
  List& made = heap.list();
  switch (value.kind()) {
    case Kind::undefined:
      return made.items;
    case Kind::dict:
      heap.meter().elements(value.dict().entries().size());
      for (const Dict::Entry& entry : value.dict().entries()) heap.append(made, entry.key);
      return made.items;
    case Kind::string:
      heap.meter().elements(value.text().size());
      for_each_character(value.text(), [&](std::string_view character) {
        heap.append(made, Value::string(character));
      });
      return made.items;
    default:
      throw Error(kind_name(value), " cannot be iterated over");
  }
}

Value attribute(const Value& subject, std::string_view name, Heap& heap) {
  switch (subject.kind()) {
    case Kind::undefined:
      throw_undefined(subject);
    case Kind::string:
    case Kind::list:
      if (is_method(subject, name)) return heap.method(subject, name);
      return Value::undefined(name);
    case Kind::dict:
      if (is_method(subject, name)) return heap.method(subject, name);
      break;
    case Kind::name_space:
      if (const Value* found = heap.find(subject.name_space().attributes, Value::string(name))) {
        return *found;
      }
      return Value::undefined(name);
    case Kind::loop:
      return loop_attribute(subject.loop(), name, heap);
    default:
      return Value::undefined(name);
  }
  const Value* found = heap.find(subject.dict(), Value::string(name));
  return found != nullptr ? *found : Value::undefined(name);
}

Value item(const Value& subject, const Value& key, Heap& heap) {
  if (subject.is(Kind::undefined)) throw_undefined(subject);
  if (subject.is(Kind::dict)) {
    if (const Value* found = heap.find(subject.dict(), key)) return *found;
  } else if (key.is_integral() &&
             (subject.is(Kind::string) || (subject.is(Kind::list) && subject.list().can_index()))) {
    return element(subject, key.integer(), heap);
  }
  // As the reference does: what is no item may be an attribute.
  if (key.is(Kind::string)) return attribute(subject, key.text(), heap);
  return Value();
}

Value slice(const Value& subject, const SliceBounds& bounds, Heap& heap) {
  if (subject.is(Kind::undefined)) throw_undefined(subject);
  const bool is_list = subject.is(Kind::list) && subject.list().can_index();
  if (!is_list && !subject.is(Kind::string)) return Value();
  for (const Value& bound : {bounds.start, bounds.stop, bounds.step}) check_bound(bound);
  if (!is_list) return slice_string(subject.text(), bounds, heap);
  const List& source = subject.list();
  const Progression taken = resolve(bounds, static_cast<int64_t>(source.items.size()));
  List& result = heap.list(source.flavor);
  heap.meter().elements(static_cast<uint64_t>(taken.count));
  for (int64_t i = 0; i < taken.count; ++i) {
    heap.append(result, source.items[static_cast<size_t>(taken.start + i * taken.step)]);
  }
  return Value::list(&result);
}

}  // namespace sluice::jinja
