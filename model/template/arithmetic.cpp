#include <cmath>
#include <string>

#include "model/template/characters.h"
#include "model/template/operators.h"
#include "model/template/text.h"

namespace sluice::jinja {
namespace {

std::string_view symbol(Operator op) {
  switch (op) {
    case Operator::add:
      return "+";
    case Operator::subtract:
      return "-";
    case Operator::multiply:
      return "*";
    case Operator::divide:
      return "/";
    case Operator::floor_divide:
      return "//";
    case Operator::modulo:
      return "%";
    default:
      return "**";
  }
}

[[noreturn]] void throw_overflow() { throw Error("an integer does not fit in 64 bits"); }

// As Python's //: towards minus infinity.
int64_t floor_quotient(int64_t left, int64_t right) {
  if (left == INT64_MIN && right == -1) throw_overflow();
  const int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

int64_t floor_remainder(int64_t left, int64_t right) {
  if (right == -1) return 0;
  const int64_t remainder = left % right;
  return remainder != 0 && (remainder < 0) != (right < 0) ? remainder + right : remainder;
}

int64_t integer_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if (exponent % 2 == 1 && __builtin_mul_overflow(result, base, &result)) throw_overflow();
    exponent /= 2;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) throw_overflow();
  }
  return result;
}

Value real_arithmetic(Operator op, double left, double right) {
  switch (op) {
    case Operator::add:
      return Value::real(left + right);
    case Operator::subtract:
      return Value::real(left - right);
    case Operator::multiply:
      return Value::real(left * right);
    case Operator::power: {
      if (left == 0 && right < 0) throw Error("0 to a negative power");
      if (left < 0 && right != std::floor(right)) {
        throw Error("a negative number to a power that is no integer");
      }
      const double power = std::pow(left, right);
      if (std::isinf(power) && std::isfinite(left) && std::isfinite(right)) {
        throw Error("a float is too large");
      }
      return Value::real(power);
    }
    default:
      break;
  }
  if (right == 0) throw Error("division by zero");
  if (op == Operator::divide) return Value::real(left / right);
  double remainder = std::fmod(left, right);
  if (remainder != 0 && (remainder < 0) != (right < 0)) remainder += right;
  if (op == Operator::modulo) {
    return Value::real(remainder == 0 ? std::copysign(0.0, right) : remainder);
  }
  return Value::real(std::round((left - remainder) / right));
}

Value integer_arithmetic(Operator op, int64_t left, int64_t right) {
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case Operator::add:
      overflow = __builtin_add_overflow(left, right, &result);
      break;
    case Operator::subtract:
      overflow = __builtin_sub_overflow(left, right, &result);
      break;
    case Operator::multiply:
      overflow = __builtin_mul_overflow(left, right, &result);
      break;
    case Operator::power:
      if (right < 0) {
        return real_arithmetic(op, static_cast<double>(left), static_cast<double>(right));
      }
      result = integer_power(left, right);
      break;
    default:
      if (right == 0) throw Error("division by zero");
      if (op == Operator::divide) {
        return Value::real(static_cast<double>(left) / static_cast<double>(right));
      }
      result = op == Operator::modulo ? floor_remainder(left, right) : floor_quotient(left, right);
  }
  if (overflow) throw_overflow();
  return Value::integer(result);
}

Value repeated(const Value& value, int64_t count, Heap& heap) {
  if (!is_true(value)) return value;
  if (value.is(Kind::string)) {
    TextBuilder out(heap);
    for (int64_t i = 0; i < count; ++i) out.add(value.text());
    return out.finish();
  }
  const List& source = value.list();
  List& list = heap.list(source.flavor);
  for (int64_t i = 0; i < count; ++i) {
    heap.meter().elements(source.items.size());
    for (const Value& item : source.items) heap.append(list, item);
  }
  return Value::list(&list);
}

bool is_sequence(const Value& value) {
  return value.is(Kind::list) &&
         (value.list().flavor == List::Flavor::list || value.list().flavor == List::Flavor::tuple);
}

Value joined_strings(const Value& left, const Value& right, Heap& heap) {
  TextBuilder out(heap);
  const bool safe = left.is_safe() || right.is_safe();
  for (const Value& part : {left, right}) {
    out.add(safe && !part.is_safe() ? escaped(part.text()) : part.text());
  }
  return Value::string(heap.keep(out.take()), safe);
}

Value joined_lists(const List& left, const List& right, Heap& heap) {
  List& list = heap.list(left.flavor);
  heap.meter().elements(left.items.size() + right.items.size());
  for (const Value& item : left.items) heap.append(list, item);
  for (const Value& item : right.items) heap.append(list, item);
  return Value::list(&list);
}

}  // namespace

Value arithmetic(Operator op, const Value& left, const Value& right, Heap& heap) {
  if (left.is(Kind::undefined)) throw_undefined(left);
  if (right.is(Kind::undefined)) throw_undefined(right);
  if (left.is_integral() && right.is_integral()) {
    return integer_arithmetic(op, left.integer(), right.integer());
  }
  if (left.is_number() && right.is_number()) {
    return real_arithmetic(op, left.number(), right.number());
  }
  if (op == Operator::add) {
    if (left.is(Kind::string) && right.is(Kind::string)) return joined_strings(left, right, heap);
    if (is_sequence(left) && is_sequence(right) && left.list().flavor == right.list().flavor) {
      return joined_lists(left.list(), right.list(), heap);
    }
  }
  if (op == Operator::multiply) {
    const auto repeatable = [](const Value& value) {
      return value.is(Kind::string) || is_sequence(value);
    };
    if (repeatable(left) && right.is_integral()) return repeated(left, right.integer(), heap);
    if (repeatable(right) && left.is_integral()) return repeated(right, left.integer(), heap);
  }
  throw Error("\"", symbol(op), "\" takes no ", kind_name(left), " and ", kind_name(right));
}

Value negative(const Value& value) {
  if (value.is(Kind::undefined)) throw_undefined(value);
  if (value.is_integral()) return integer_arithmetic(Operator::subtract, 0, value.integer());
  if (value.is(Kind::real)) return Value::real(-value.real());
  throw Error("\"-\" takes no ", kind_name(value));
}

Value positive(const Value& value) {
  if (value.is(Kind::undefined)) throw_undefined(value);
  if (value.is_integral()) return Value::integer(value.integer());
  if (value.is(Kind::real)) return value;
  throw Error("\"+\" takes no ", kind_name(value));
}

}  // namespace sluice::jinja
