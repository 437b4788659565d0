// The methods of lists, dicts and loops.
#include <algorithm>
#include <string>

#include "model/template/builtins.h"
#include "model/template/operators.h"

namespace sluice::jinja {
namespace {

using Entries = std::vector<Dict::Entry>;

enum class Part : uint8_t { keys, values, items };

template <Part part>
Value view(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "the method", {}, 0);
  List& list = runtime.heap.list(List::Flavor::view);
  const Entries& entries = subject.dict().entries();
  runtime.meter.elements(entries.size());
  for (const Dict::Entry& entry : entries) {
    if (part == Part::items) {
      List& pair = runtime.heap.list(List::Flavor::tuple);
      runtime.heap.append(pair, entry.key);
      runtime.heap.append(pair, entry.value);
      runtime.heap.append(list, Value::list(&pair));
    } else {
      runtime.heap.append(list, part == Part::keys ? entry.key : entry.value);
    }
  }
  return Value::list(&list);
}

Value get(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "get()", {"key", "default"}, 1);
  if (const Value* found = runtime.heap.find(subject.dict(), given[0])) return *found;
  return given.given(1) ? given[1] : Value::none();
}

Value copy_dict(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "copy()", {}, 0);
  Dict& copy = runtime.heap.dict();
  for (const Dict::Entry& entry : subject.dict().entries()) {
    runtime.heap.set(copy, entry.key, entry.value);
  }
  return Value::dict(&copy);
}

Value copy_list(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "copy()", {}, 0);
  List& copy = runtime.heap.list();
  runtime.meter.elements(subject.list().items.size());
  for (const Value& item : subject.list().items) runtime.heap.append(copy, item);
  return Value::list(&copy);
}

Value index(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "index()", {"value"}, 1);
  int64_t place = 0;
  for (const Value& item : subject.list().items) {
    if (equal(item, given[0], runtime.meter)) return Value::integer(place);
    ++place;
  }
  throw Error("index(): the value is not in the list");
}

Value count(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "count()", {"value"}, 1);
  int64_t found = 0;
  for (const Value& item : subject.list().items) {
    found += equal(item, given[0], runtime.meter) ? 1 : 0;
  }
  return Value::integer(found);
}

// What follows changes its subject.

Value append(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "append()", {"object"}, 1);
  runtime.heap.append(subject.list(), given[0]);
  return Value::none();
}

Value extend(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "extend()", {"iterable"}, 1);
  const std::vector<Value> added = iterate(given[0], runtime.heap);  // it may be the list itself
  runtime.meter.elements(added.size());
  for (const Value& item : added) runtime.heap.append(subject.list(), item);
  return Value::none();
}

Value pop_item(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "pop()", {"index"}, 0);
  std::vector<Value>& items = subject.list().items;
  const auto size = static_cast<int64_t>(items.size());
  int64_t place = given.integer(0, -1);
  if (place < 0) place += size;
  if (place < 0 || place >= size) throw Error("pop(): no such element");
  runtime.meter.elements(items.size());
  const Value popped = items[static_cast<size_t>(place)];
  items.erase(items.begin() + place);
  return popped;
}

Value update(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "update()", {"other"}, 1);
  if (!given[0].is(Kind::dict)) throw Error("update() takes a dict, not ", kind_name(given[0]));
  const Entries added = given[0].dict().entries();  // it may be the dict itself
  for (const Dict::Entry& entry : added) runtime.heap.set(subject.dict(), entry.key, entry.value);
  return Value::none();
}

Value set_default(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "setdefault()", {"key", "default"}, 1);
  const Value* found = runtime.heap.find(subject.dict(), given[0]);
  if (found != nullptr) return *found;
  const Value value = given.given(1) ? given[1] : Value::none();
  runtime.heap.set(subject.dict(), given[0], value);
  return value;
}

Value pop_entry(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "pop()", {"key", "default"}, 1);
  runtime.meter.step(1 + subject.dict().entries().size());
  if (const Value* found = runtime.heap.find(subject.dict(), given[0])) {
    const Value popped = *found;
    subject.dict().remove(given[0]);
    return popped;
  }
  if (!given.given(1)) throw Error("pop(): no such key");
  return given[1];
}

Value cycle(Runtime&, const Value& subject, const Arguments& arguments) {
  if (arguments.positional.empty()) throw Error("cycle(): no values are given");
  return arguments.positional[subject.loop().index % arguments.positional.size()];
}

Value changed(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  List& asked = runtime.heap.list(List::Flavor::tuple);
  for (const Value& value : arguments.positional) runtime.heap.append(asked, value);
  const Value now = Value::list(&asked);
  const bool same = equal(now, subject.loop().last_changed, runtime.meter);
  subject.loop().last_changed = now;
  return Value::boolean(!same);
}

struct ContainerMethod {
  Kind kind;
  bool changes;  // its subject
  Function function;
};

constexpr ContainerMethod kMethods[] = {
    {Kind::dict, false, {"keys", view<Part::keys>}},
    {Kind::dict, false, {"values", view<Part::values>}},
    {Kind::dict, false, {"items", view<Part::items>}},
    {Kind::dict, false, {"get", get}},
    {Kind::dict, false, {"copy", copy_dict}},
    {Kind::dict, true, {"update", update}},
    {Kind::dict, true, {"setdefault", set_default}},
    {Kind::dict, true, {"pop", pop_entry}},
    {Kind::list, false, {"index", index}},
    {Kind::list, false, {"count", count}},
    {Kind::list, false, {"copy", copy_list}},
    {Kind::list, true, {"append", append}},
    {Kind::list, true, {"extend", extend}},
    {Kind::list, true, {"pop", pop_item}},
    {Kind::loop, false, {"cycle", cycle}},
    {Kind::loop, false, {"changed", changed}},
};

const ContainerMethod* find_container_method(const Value& subject, std::string_view name) {
  const auto place = std::ranges::find_if(kMethods, [&](const ContainerMethod& method) {
    return subject.is(method.kind) && method.function.name == name;
  });
  return place == std::end(kMethods) ? nullptr : place;
}

// Tuples, views and the rest cannot be changed, and have fewer methods.
bool has_method(const Value& subject, const ContainerMethod& method) {
  if (!subject.is(Kind::list)) return true;
  const List& list = subject.list();
  if (list.flavor == List::Flavor::list) return true;
  return list.can_index() && !method.changes && method.function.name != "copy";
}

}  // namespace

bool is_method(const Value& subject, std::string_view name) {
  if (subject.is(Kind::string)) return find_string_method(name) != nullptr;
  const ContainerMethod* method = find_container_method(subject, name);
  return method != nullptr && !method->changes && has_method(subject, *method);
}

Value call_method(Runtime& runtime, const Value& subject, std::string_view name,
                  const Arguments& arguments) {
  runtime.meter.step();
  if (subject.is(Kind::undefined)) throw_undefined(subject);
  if (subject.is(Kind::string)) return call_string_method(runtime, subject, name, arguments);
  const ContainerMethod* method = find_container_method(subject, name);
  if (method == nullptr || !has_method(subject, *method)) {
    throw Error(kind_name(subject), " has no method \"", excerpt(name), "\"");
  }
  return method->function.call(runtime, subject, arguments);
}

}  // namespace sluice::jinja
