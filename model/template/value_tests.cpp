// The tests that stand behind "is".
#include <algorithm>

#include "model/template/builtins.h"
#include "model/template/characters.h"
#include "model/template/operators.h"

namespace sluice::jinja {
namespace {

// A test of the value alone.
template <bool (*holds)(const Value&)>
Value simple(Runtime&, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "the test", {}, 0);
  return Value::boolean(holds(subject));
}

// A test that compares with its argument.
template <Operator op>
Value comparing(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "the test", {"other"}, 1);
  return Value::boolean(compare(op, subject, given[0], runtime.heap));
}

int64_t integer_of(const Value& value) {
  if (value.is(Kind::undefined)) throw_undefined(value);
  if (!value.is_integral()) throw Error("the test takes integers, not ", kind_name(value));
  return value.integer();
}

bool is_defined(const Value& v) { return !v.is(Kind::undefined); }
bool is_undefined(const Value& v) { return v.is(Kind::undefined); }
bool is_none(const Value& v) { return v.is(Kind::none); }
bool is_boolean(const Value& v) { return v.is(Kind::boolean); }
bool is_exactly_true(const Value& v) { return v.is(Kind::boolean) && v.boolean(); }
bool is_exactly_false(const Value& v) { return v.is(Kind::boolean) && !v.boolean(); }
bool is_integer(const Value& v) { return v.is(Kind::integer); }
bool is_real(const Value& v) { return v.is(Kind::real); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_string(const Value& v) { return v.is(Kind::string); }
bool is_mapping(const Value& v) { return v.is(Kind::dict); }
bool is_iterable(const Value& v) {
  return v.is(Kind::list) || v.is(Kind::dict) || v.is(Kind::string) || v.is(Kind::undefined) ||
         v.is(Kind::loop);
}
bool is_sequence(const Value& v) {
  return v.is(Kind::dict) || v.is(Kind::string) || v.is(Kind::undefined) ||
         (v.is(Kind::list) && v.list().can_index());
}
bool is_callable(const Value& v) {
  return v.is(Kind::macro) || v.is(Kind::method) || v.is(Kind::function) || v.is(Kind::undefined) ||
         v.is(Kind::loop);
}
bool is_odd(const Value& v) { return integer_of(v) % 2 != 0; }
bool is_even(const Value& v) { return integer_of(v) % 2 == 0; }
bool is_escaped(const Value& v) { return v.is_safe(); }

bool is_cased(const Value& v, bool (*wanted)(char32_t), bool (*other)(char32_t)) {
  if (!v.is(Kind::string)) return false;
  bool found = false;
  bool contrary = false;
  for_each_character(v.text(), [&](std::string_view character) {
    const char32_t code_point = first_character(character);
    found = found || wanted(code_point);
    contrary = contrary || other(code_point);
  });
  return found && !contrary;
}
// A test of all characters.
template <bool (*wanted)(char32_t), bool (*other)(char32_t)>
Value cased(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "the test", {}, 0);
  if (subject.is(Kind::string)) runtime.meter.bytes(subject.text().size());
  return Value::boolean(is_cased(subject, wanted, other));
}

Value divisible_by(Runtime&, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "divisibleby", {"num"}, 1);
  const int64_t divisor = integer_of(given[0]);
  if (divisor == 0) throw Error("division by zero");
  return Value::boolean(divisor == -1 || integer_of(subject) % divisor == 0);
}

Value same_as(Runtime& runtime, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "sameas", {"other"}, 1);
  if (subject.is(Kind::string)) runtime.meter.bytes(subject.text().size());
  return Value::boolean(subject.kind() == given[0].kind() && subject.same_object(given[0]));
}

template <const Function* (*find)(std::string_view)>
Value names_one(Runtime&, const Value& subject, const Arguments& arguments) {
  const Parameters given(arguments, "the test", {}, 0);
  return Value::boolean(subject.is(Kind::string) && find(subject.text()) != nullptr);
}

constexpr Function kTests[] = {
    {"defined", simple<is_defined>},
    {"undefined", simple<is_undefined>},
    {"none", simple<is_none>},
    {"boolean", simple<is_boolean>},
    {"true", simple<is_exactly_true>},
    {"false", simple<is_exactly_false>},
    {"integer", simple<is_integer>},
    {"float", simple<is_real>},
    {"number", simple<is_number>},
    {"string", simple<is_string>},
    {"mapping", simple<is_mapping>},
    {"iterable", simple<is_iterable>},
    {"sequence", simple<is_sequence>},
    {"callable", simple<is_callable>},
    {"odd", simple<is_odd>},
    {"even", simple<is_even>},
    {"escaped", simple<is_escaped>},
    {"upper", cased<is_upper, is_lower>},
    {"lower", cased<is_lower, is_upper>},
    {"divisibleby", divisible_by},
    {"sameas", same_as},
    {"filter", names_one<find_filter>},
    {"test", names_one<find_test>},
    {"in", comparing<Operator::in>},
    {"==", comparing<Operator::equal>},
    {"eq", comparing<Operator::equal>},
    {"equalto", comparing<Operator::equal>},
    {"!=", comparing<Operator::unequal>},
    {"ne", comparing<Operator::unequal>},
    {"<", comparing<Operator::less>},
    {"lt", comparing<Operator::less>},
    {"lessthan", comparing<Operator::less>},
    {"<=", comparing<Operator::less_equal>},
    {"le", comparing<Operator::less_equal>},
    {">", comparing<Operator::greater>},
    {"gt", comparing<Operator::greater>},
    {"greaterthan", comparing<Operator::greater>},
    {">=", comparing<Operator::greater_equal>},
    {"ge", comparing<Operator::greater_equal>},
};

}  // namespace

const Function* find_test(std::string_view name) {
  const auto place = std::ranges::find(kTests, name, &Function::name);
  return place == std::end(kTests) ? nullptr : place;
}

}  // namespace sluice::jinja
