#include "model/template/builtins.h"

#include <algorithm>

#include "model/template/operators.h"

namespace sluice::jinja {
namespace {

const Function* find(std::span<const Function> table, std::string_view name) {
  const auto place = std::ranges::find(table, name, &Function::name);
  return place == table.end() ? nullptr : &*place;
}

}  // namespace

Parameters::Parameters(const Arguments& arguments, std::string_view callee,
                       std::initializer_list<std::string_view> names, size_t required)
    : callee_(callee), names_(names), values_(names.size(), nullptr) {
  if (arguments.positional.size() > names_.size()) {
    throw Error(callee, " takes at most ", names_.size(), " arguments, not ",
                arguments.positional.size());
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const NamedArgument& argument : arguments.named) {
    const auto name = std::ranges::find(names_, argument.name);
    if (name == names_.end()) {
      throw Error(callee, " takes no argument \"", excerpt(argument.name), "\"");
    }
    const Value*& value = values_[static_cast<size_t>(name - names_.begin())];
    if (value != nullptr) throw Error(callee, ": the argument \"", *name, "\" is given twice");
    value = &argument.value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!given(i)) throw Error(callee, ": the argument \"", names_[i], "\" is missing");
  }
}

std::string_view Parameters::text(size_t index) const {
  const Value& value = *values_[index];
  if (value.is(Kind::string)) return value.text();
  if (value.is(Kind::undefined)) throw_undefined(value);
  throw Error(callee_, ": the argument \"", names_[index], "\" is ", kind_name(value),
              "; expected a string");
}

std::string_view Parameters::text(size_t index, std::string_view otherwise) const {
  return given(index) && !values_[index]->is(Kind::none) ? text(index) : otherwise;
}

int64_t Parameters::integer(size_t index, int64_t otherwise) const {
  if (!given(index) || values_[index]->is(Kind::none)) return otherwise;
  const Value& value = *values_[index];
  if (value.is_integral()) return value.integer();
  throw Error(callee_, ": the argument \"", names_[index], "\" is ", kind_name(value),
              "; expected an integer");
}

bool Parameters::truth(size_t index, bool otherwise) const {
  return given(index) ? is_true(*values_[index]) : otherwise;
}

const Function* find_filter(std::string_view name) {
  for (const auto table : {text_filters(), sequence_filters(), selecting_filters()}) {
    if (const Function* found = find(table, name)) return found;
  }
  return nullptr;
}

Value apply_filter(Runtime& runtime, std::string_view name, const Value& subject,
                   const Arguments& arguments) {
  const Function* filter = find_filter(name);
  if (filter == nullptr) throw Error("the filter \"", excerpt(name), "\" is not known");
  runtime.meter.step();
  return filter->call(runtime, subject, arguments);
}

bool apply_test(Runtime& runtime, std::string_view name, const Value& subject,
                const Arguments& arguments) {
  const Function* test = find_test(name);
  if (test == nullptr) throw Error("the test \"", excerpt(name), "\" is not known");
  runtime.meter.step();
  return test->call(runtime, subject, arguments).boolean();
}

}  // namespace sluice::jinja
