// Filters of lists, dicts and what else can be iterated over.
#include <algorithm>
#include <string>

#include "model/template/builtins.h"
#include "model/template/characters.h"
#include "model/template/item_getter.h"
#include "model/template/operators.h"
#include "model/template/text.h"

namespace sluice::jinja {
namespace {

const std::vector<Value>& elements(Runtime& runtime, const Value& value) {
  const std::vector<Value>& items = iterate(value, runtime.heap);
  runtime.meter.elements(items.size());
  return items;
}

// What an element is ordered or told apart by: its attribute, strings without regard to case.
class SortKey {
 public:
  SortKey(Runtime& runtime, const Value* attribute, bool case_sensitive)
      : runtime_(runtime), case_sensitive_(case_sensitive) {
    if (attribute != nullptr && !attribute->is(Kind::none))
      getter_.emplace(*attribute, runtime.meter);
  }
  Value of(const Value& element) const {
    const Value key = getter_ ? getter_->get(element, runtime_.heap) : element;
    if (case_sensitive_ || !key.is(Kind::string)) return key;
    runtime_.meter.bytes(key.text().size());
    return runtime_.heap.string(lower(key.text()));
  }

 private:
  Runtime& runtime_;
  bool case_sensitive_;
  std::optional<ItemGetter> getter_;
};

const Value* argument(const Parameters& given, size_t index) {
  return given.given(index) ? &given[index] : nullptr;
}

struct Keyed {
  Value key;
  Value value;
};

// Stable, as Python's, in both directions.
void sort_by_key(Runtime& runtime, std::vector<Keyed>& items, bool reverse) {
  std::ranges::stable_sort(items, [&](const Keyed& left, const Keyed& right) {
    return reverse ? less(right.key, left.key, runtime.meter)
                   : less(left.key, right.key, runtime.meter);
  });
}

Value list_of(Runtime& runtime, const std::vector<Keyed>& items) {
  List& list = runtime.heap.list();
  for (const Keyed& item : items) runtime.heap.append(list, item.value);
  return Value::list(&list);
}

Value sort(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "sort", {"reverse", "case_sensitive", "attribute"}, 0);
  const SortKey key(runtime, argument(given, 2), given.truth(1, false));
  std::vector<Keyed> items;
  for (const Value& element : elements(runtime, subject)) {
    runtime.meter.memory(sizeof(Keyed));
    items.push_back({key.of(element), element});
  }
  sort_by_key(runtime, items, given.truth(0, false));
  return list_of(runtime, items);
}

Value entry_tuple(Runtime& runtime, const Dict::Entry& entry) {
  List& pair = runtime.heap.list(List::Flavor::tuple);
  runtime.heap.append(pair, entry.key);
  runtime.heap.append(pair, entry.value);
  return Value::list(&pair);
}

Value dictsort(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "dictsort", {"case_sensitive", "by", "reverse"}, 0);
  const std::string_view by = given.text(1, "key");
  if (by != "key" && by != "value") {
    throw Error("dictsort: by is \"", excerpt(by), "\"; expected \"key\" or \"value\"");
  }
  if (subject.is(Kind::undefined)) throw_undefined(subject);
  if (!subject.is(Kind::dict)) throw Error("dictsort takes a dict, not ", kind_name(subject));
  const SortKey key(runtime, nullptr, given.truth(0, false));
  std::vector<Keyed> items;
  for (const Dict::Entry& entry : subject.dict().entries()) {
    runtime.meter.memory(sizeof(Keyed));
    items.push_back({key.of(by == "key" ? entry.key : entry.value), entry_tuple(runtime, entry)});
  }
  sort_by_key(runtime, items, given.truth(2, false));
  return list_of(runtime, items);
}

Value unique(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "unique", {"case_sensitive", "attribute"}, 0);
  const SortKey key(runtime, argument(given, 1), given.truth(0, false));
  Dict& seen = runtime.heap.dict();
  List& result = runtime.heap.list(List::Flavor::generator);
  for (const Value& element : elements(runtime, subject)) {
    const size_t before = seen.entries().size();
    runtime.heap.set(seen, key.of(element), element);
    if (seen.entries().size() > before) runtime.heap.append(result, element);
  }
  return Value::list(&result);
}

// The least, or with `most` the greatest; of equals the first.
Value extreme(Runtime& runtime, const Value& subject, const Arguments& arguments, bool most) {
  const Parameters given(arguments, most ? "max" : "min", {"case_sensitive", "attribute"}, 0);
  const SortKey key(runtime, argument(given, 1), given.truth(0, false));
  std::optional<Keyed> best;
  for (const Value& element : elements(runtime, subject)) {
    const Keyed candidate = {key.of(element), element};
    if (!best || (most ? less(best->key, candidate.key, runtime.meter)
                       : less(candidate.key, best->key, runtime.meter))) {
      best = candidate;
    }
  }
  return best ? best->value : Value();
}
Value least(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  return extreme(runtime, subject, arguments, false);
}
Value greatest(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  return extreme(runtime, subject, arguments, true);
}

Value join(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "join", {"d", "attribute"}, 0);
  const Value separator = given.given(0) ? to_string(given[0], runtime.heap) : Value::string({});
  std::optional<ItemGetter> getter;
  if (given.given(1) && !given[1].is(Kind::none)) getter.emplace(given[1], runtime.meter);
  TextBuilder out(runtime.heap);
  bool first = true;
  for (const Value& element : elements(runtime, subject)) {
    if (!first) out.add(separator.text());
    first = false;
    add_text(getter ? getter->get(element, runtime.heap) : element, runtime.heap, out);
  }
  return out.finish();
}

Value first(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "first", {}, 0);
  const std::vector<Value>& items = elements(runtime, subject);
  return items.empty() ? Value() : items.front();
}

Value last(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "last", {}, 0);
  if (subject.is(Kind::list) && !subject.list().has_length()) {
    throw Error("a generator has no last element; turn it into a list first (|list)");
  }
  const std::vector<Value>& items = elements(runtime, subject);
  return items.empty() ? Value() : items.back();
}

Value copy_to(Runtime& runtime, const Value& subject, List::Flavor flavor) {
  const std::vector<Value>& items = elements(runtime, subject);
  List& list = runtime.heap.list(flavor);
  for (const Value& item : items) runtime.heap.append(list, item);
  return Value::list(&list);
}

Value to_list(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "list", {}, 0);
  return copy_to(runtime, subject, List::Flavor::list);
}

Value reverse(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "reverse", {}, 0);
  if (subject.is(Kind::string)) {
    return slice(subject, {Value::none(), Value::none(), Value::integer(-1)}, runtime.heap);
  }
  const Value result = copy_to(runtime, subject, List::Flavor::generator);
  std::ranges::reverse(result.list().items);
  return result;
}

Value items(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "items", {}, 0);
  List& result = runtime.heap.list(List::Flavor::generator);
  if (subject.is(Kind::undefined)) return Value::list(&result);
  if (!subject.is(Kind::dict)) throw Error("items takes a dict, not ", kind_name(subject));
  for (const Dict::Entry& entry : subject.dict().entries()) {
    runtime.heap.append(result, entry_tuple(runtime, entry));
  }
  runtime.meter.elements(result.items.size());
  return Value::list(&result);
}

Value sum(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "sum", {"attribute", "start"}, 0);
  std::optional<ItemGetter> getter;
  if (given.given(0) && !given[0].is(Kind::none)) getter.emplace(given[0], runtime.meter);
  Value total = given.given(1) ? given[1] : Value::integer(0);
  for (const Value& element : elements(runtime, subject)) {
    total = arithmetic(Operator::add, total, getter ? getter->get(element, runtime.heap) : element,
                       runtime.heap);
  }
  return total;
}

constexpr Function kFilters[] = {
    {"sort", sort},    {"dictsort", dictsort}, {"unique", unique}, {"min", least},
    {"max", greatest}, {"join", join},         {"first", first},   {"last", last},
    {"list", to_list}, {"reverse", reverse},   {"items", items},   {"sum", sum},
};

}  // namespace

std::span<const Function> sequence_filters() { return kFilters; }

}  // namespace sluice::jinja
