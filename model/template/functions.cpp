// The functions of the environment: range, dict, namespace, raise_exception, strftime_now.
#include <algorithm>
#include <string>

#include "model/template/builtins.h"
#include "model/template/operators.h"
#include "model/template/text.h"

namespace sluice::jinja {
namespace {

// As the reference's sandbox.
constexpr int64_t kMaxRange = 100'000;

Value make_range(Runtime& runtime, const Value&, const Arguments& arguments) {
  const Parameters given(arguments, "range()", {"start", "stop", "step"}, 1);
  for (size_t i = 0; i < 3; ++i) {
    if (given.given(i) && !given[i].is_integral()) {
      throw Error("range() takes integers, not ", kind_name(given[i]));
    }
  }
  const int64_t start = given.given(1) ? given[0].integer() : 0;
  const int64_t stop = given.given(1) ? given[1].integer() : given[0].integer();
  const int64_t step = given.given(2) ? given[2].integer() : 1;
  if (step == 0) throw Error("range() takes no step of 0");
  List& list = runtime.heap.list(List::Flavor::range);
  for (int64_t at = start; step > 0 ? at < stop : at > stop;) {
    if (list.items.size() == kMaxRange) {
      throw Error("range() of more than ", kMaxRange, " integers");
    }
    runtime.heap.append(list, Value::integer(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  runtime.meter.elements(list.items.size());
  return Value::list(&list);
}

// Key and value of each element of an iterable of pairs, or of a dict.
void add_entries(const Value& source, Runtime& runtime, Dict& dict) {
  if (source.is(Kind::dict)) {
    const std::vector<Dict::Entry> entries = source.dict().entries();
    for (const Dict::Entry& entry : entries) runtime.heap.set(dict, entry.key, entry.value);
    return;
  }
  for (const Value& pair : iterate(source, runtime.heap)) {
    const std::vector<Value>& parts = iterate(pair, runtime.heap);
    if (parts.size() != 2) throw Error("expected pairs of a key and a value");
    runtime.heap.set(dict, parts[0], parts[1]);
  }
}

void fill(const Arguments& arguments, std::string_view callee, Runtime& runtime, Dict& dict) {
  if (arguments.positional.size() > 1) throw Error(callee, " takes at most one argument");
  for (const Value& source : arguments.positional) add_entries(source, runtime, dict);
  for (const NamedArgument& argument : arguments.named) {
    runtime.heap.set(dict, Value::string(argument.name), argument.value);
  }
}

Value make_dict(Runtime& runtime, const Value&, const Arguments& arguments) {
  Dict& dict = runtime.heap.dict();
  fill(arguments, "dict()", runtime, dict);
  return Value::dict(&dict);
}

Value make_name_space(Runtime& runtime, const Value&, const Arguments& arguments) {
  Namespace& made = runtime.heap.name_space();
  fill(arguments, "namespace()", runtime, made.attributes);
  return Value::name_space(&made);
}

Value raise_exception(Runtime& runtime, const Value&, const Arguments& arguments) {
  const Parameters given(arguments, "raise_exception()", {"message"}, 1);
  throw Raised(to_string(given[0], runtime.heap).text());
}

// "%d %B %Y", with "-" behind the percent sign for numbers without their leading zero. Widths and
// other extensions of the C library are refused, so that the result is short.
Value strftime_now(Runtime& runtime, const Value&, const Arguments& arguments) {
  constexpr std::string_view kKnown = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%";
  const Parameters given(arguments, "strftime_now()", {"format"}, 1);
  if (!runtime.clock) throw Error("strftime_now(): no clock is given");
  const std::tm now = runtime.clock();
  TextBuilder out(runtime.heap);
  std::string_view rest = given.text(0);
  while (!rest.empty()) {
    const size_t percent = std::min(rest.find('%'), rest.size());
    out.add(rest.substr(0, percent));
    rest.remove_prefix(percent);
    if (rest.empty()) break;
    const size_t size = rest.starts_with("%-") ? 3 : 2;
    if (rest.size() < size || kKnown.find(rest[size - 1]) == kKnown.npos) {
      throw Error("strftime_now(): \"", excerpt(rest.substr(0, 4)), "\" is not known");
    }
    char buffer[128];
    const std::string format(rest.substr(0, size));
    out.add({buffer, std::strftime(buffer, sizeof buffer, format.c_str(), &now)});
    rest.remove_prefix(size);
  }
  return out.finish();
}

constexpr Function kFunctions[] = {{"range", make_range},
                                   {"dict", make_dict},
                                   {"namespace", make_name_space},
                                   {"raise_exception", raise_exception},
                                   {"strftime_now", strftime_now}};

}  // namespace

const Function* find_function(std::string_view name) {
  const auto place = std::ranges::find(kFunctions, name, &Function::name);
  return place == std::end(kFunctions) ? nullptr : place;
}

}  // namespace sluice::jinja
