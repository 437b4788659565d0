// The filters that apply an attribute, a filter or a test to every element.
#include <algorithm>
#include <charconv>

#include "model/template/builtins.h"
#include "model/template/item_getter.h"
#include "model/template/operators.h"

namespace sluice::jinja {
namespace {

Value step_of(std::string_view name) {
  int64_t place = 0;
  const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), place);
  const bool is_place =
      error == std::errc() && stop == name.data() + name.size() && !name.starts_with('-');
  return is_place ? Value::integer(place) : Value::string(name);
}

// arguments without the first `count` positional ones.
Arguments without_first(const Arguments& arguments, size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

std::string_view leading_name(const Arguments& arguments, size_t index, std::string_view callee) {
  if (index >= arguments.positional.size() || !arguments.positional[index].is(Kind::string)) {
    throw Error(callee, ": expected a name, a string, as argument ", index + 1);
  }
  return arguments.positional[index].text();
}

Value map_attribute(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "map", {"attribute", "default"}, 1);
  if (!arguments.positional.empty()) throw Error("map: expected only named arguments");
  const ItemGetter getter(given[0], runtime.meter);
  List& result = runtime.heap.list(List::Flavor::generator);
  for (const Value& element : iterate(subject, runtime.heap)) {
    runtime.meter.step();
    Value value = getter.get(element, runtime.heap);
    if (value.is(Kind::undefined) && given.given(1)) value = given[1];
    runtime.heap.append(result, value);
  }
  return Value::list(&result);
}

Value map(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  if (arguments.positional.empty()) return map_attribute(runtime, subject, arguments);
  const std::string_view filter = leading_name(arguments, 0, "map");
  const Arguments rest = without_first(arguments, 1);
  List& result = runtime.heap.list(List::Flavor::generator);
  const Nesting nesting(runtime.meter);  // map may be what is mapped
  for (const Value& element : iterate(subject, runtime.heap)) {
    runtime.heap.append(result, apply_filter(runtime, filter, element, rest));
  }
  return Value::list(&result);
}

// Keeps the elements for which the test, or without one the truth, is `wanted`.
//   place: that of the test's name among the arguments.
Value filtered(Runtime& runtime, const Value& subject, const Arguments& arguments, bool wanted,
               const ItemGetter* getter, size_t place, std::string_view callee) {
  const bool has_test = arguments.positional.size() > place;
  if (!has_test && !arguments.named.empty()) throw Error(callee, ": expected the name of a test");
  const std::string_view test = has_test ? leading_name(arguments, place, callee) : "";
  const Arguments rest = has_test ? without_first(arguments, place + 1) : Arguments();
  List& result = runtime.heap.list(List::Flavor::generator);
  for (const Value& element : iterate(subject, runtime.heap)) {
    runtime.meter.step();
    const Value value = getter != nullptr ? getter->get(element, runtime.heap) : element;
    const bool holds = has_test ? apply_test(runtime, test, value, rest) : is_true(value);
    if (holds == wanted) runtime.heap.append(result, element);
  }
  return Value::list(&result);
}

template <bool wanted>
Value select(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  return filtered(runtime, subject, arguments, wanted, nullptr, 0, wanted ? "select" : "reject");
}

template <bool wanted>
Value select_by_attribute(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  constexpr std::string_view kCallee = wanted ? "selectattr" : "rejectattr";
  if (arguments.positional.empty()) throw Error(kCallee, ": expected the name of an attribute");
  const ItemGetter getter(arguments.positional[0], runtime.meter);
  return filtered(runtime, subject, arguments, wanted, &getter, 1, kCallee);
}

constexpr Function kFilters[] = {{"map", map},
                                 {"select", select<true>},
                                 {"reject", select<false>},
                                 {"selectattr", select_by_attribute<true>},
                                 {"rejectattr", select_by_attribute<false>}};

}  // namespace

ItemGetter::ItemGetter(const Value& attribute, Meter& meter) {
  if (attribute.is_integral()) {
    steps_.push_back(attribute);
    return;
  }
  if (!attribute.is(Kind::string)) {
    throw Error("the name of an attribute is ", kind_name(attribute), "; expected a string");
  }
  std::string_view rest = attribute.text();
  meter.elements(rest.size());
  while (true) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    steps_.push_back(step_of(rest.substr(0, dot)));
    if (dot == rest.size()) break;
    rest.remove_prefix(dot + 1);
  }
}

Value ItemGetter::get(const Value& subject, Heap& heap) const {
  Value value = subject;
  for (const Value& step : steps_) {
    heap.meter().step();
    value = item(value, step, heap);
  }
  return value;
}

std::span<const Function> selecting_filters() { return kFilters; }

}  // namespace sluice::jinja
