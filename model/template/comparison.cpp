// Truth, equality, order and containment.
#include <cmath>
#include <cstring>
#include <string>

#include "model/template/characters.h"
#include "model/template/heap.h"
#include "model/template/operators.h"

namespace sluice::jinja {
namespace {

bool equal_dicts(const Dict& left, const Dict& right, Meter& meter) {
  if (left.entries().size() != right.entries().size()) return false;
  meter.elements(left.entries().size());
  for (const Dict::Entry& entry : left.entries()) {
    const Value* other = right.find(entry.key);
    count_search(right, entry.key, meter);
    if (other == nullptr || !equal(entry.value, *other, meter)) return false;
  }
  return true;
}

bool equal_lists(const List& left, const List& right, Meter& meter) {
  if (left.flavor != right.flavor || left.items.size() != right.items.size()) return false;
  if (!left.can_index()) return &left == &right;
  for (size_t i = 0; i < left.items.size(); ++i) {
    if (!equal(left.items[i], right.items[i], meter)) return false;
  }
  return true;
}

// Where two lists differ first, or the length of the shorter one.
size_t first_difference(const std::vector<Value>& left, const std::vector<Value>& right,
                        Meter& meter) {
  size_t i = 0;
  while (i < left.size() && i < right.size() && equal(left[i], right[i], meter)) ++i;
  return i;
}

}  // namespace

void throw_undefined(const Value& value) {
  if (value.undefined_name().empty()) throw Error("an element that is not there is used");
  throw Error("'", excerpt(value.undefined_name()), "' is undefined");
}

bool is_true(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
      return value.boolean();
    case Kind::integer:
      return value.integer() != 0;
    case Kind::real:
      return value.real() != 0;
    case Kind::string:
      return !value.text().empty();
    case Kind::list:
      return !value.list().has_length() || !value.list().items.empty();
    case Kind::dict:
      return !value.dict().entries().empty();
    default:
      return true;
  }
}

bool equal(const Value& left, const Value& right, Meter& meter) {
  const Nesting nesting(meter);
  meter.step();
  if (left.is_integral() && right.is_integral()) return left.integer() == right.integer();
  if (left.is_number() && right.is_number()) return left.number() == right.number();
  if (left.kind() != right.kind()) return false;
  if (left.is(Kind::list)) return equal_lists(left.list(), right.list(), meter);
  if (left.is(Kind::dict)) return equal_dicts(left.dict(), right.dict(), meter);
  if (left.is(Kind::string) && left.text().size() == right.text().size()) {
    meter.bytes(left.text().size());
  }
  return left.same_object(right);
}

bool less(const Value& left, const Value& right, Meter& meter) {
  const Nesting nesting(meter);
  meter.step();
  if (left.is(Kind::undefined)) throw_undefined(left);
  if (right.is(Kind::undefined)) throw_undefined(right);
  if (left.is_integral() && right.is_integral()) return left.integer() < right.integer();
  if (left.is_number() && right.is_number()) return left.number() < right.number();
  if (left.is(Kind::string) && right.is(Kind::string)) {
    meter.bytes(std::min(left.text().size(), right.text().size()));
    return left.text() < right.text();  // the order of UTF-8's bytes is that of the code points
  }
  if (left.is(Kind::list) && right.is(Kind::list) && left.list().can_index() &&
      left.list().flavor == right.list().flavor) {
    const std::vector<Value>& a = left.list().items;
    const std::vector<Value>& b = right.list().items;
    const size_t place = first_difference(a, b, meter);
    if (place == a.size() || place == b.size()) return a.size() < b.size();
    return less(a[place], b[place], meter);
  }
  throw Error(kind_name(left), " and ", kind_name(right), " have no order");
}

bool compare(Operator op, const Value& left, const Value& right, Heap& heap) {
  Meter& meter = heap.meter();
  const bool is_nan = (left.is(Kind::real) && std::isnan(left.real())) ||
                      (right.is(Kind::real) && std::isnan(right.real()));
  switch (op) {
    case Operator::equal:
      return equal(left, right, meter);
    case Operator::unequal:
      return !equal(left, right, meter);
    case Operator::less:
      return less(left, right, meter);
    case Operator::greater:
      return less(right, left, meter);
    case Operator::less_equal:
      return !less(right, left, meter) && !is_nan;
    case Operator::greater_equal:
      return !less(left, right, meter) && !is_nan;
    case Operator::in:
      return contains(right, left, heap);
    default:
      return !contains(right, left, heap);
  }
}

bool contains(const Value& container, const Value& item, Heap& heap) {
  if (container.is(Kind::string)) {
    if (item.is(Kind::undefined)) throw_undefined(item);
    if (!item.is(Kind::string)) throw Error("only a string is in a string, not ", kind_name(item));
    heap.meter().bytes(container.text().size());
    // Takes linear time, unlike find().
    return memmem(container.text().data(), container.text().size(), item.text().data(),
                  item.text().size()) != nullptr;
  }
  if (container.is(Kind::dict)) {
    return heap.find(container.dict(), item) != nullptr;
  }
  for (const Value& element : iterate(container, heap)) {
    if (equal(element, item, heap.meter())) return true;
  }
  return false;
}

}  // namespace sluice::jinja
