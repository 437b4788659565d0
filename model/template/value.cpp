#include "model/template/value.h"

namespace sluice::jinja {
namespace {

bool same_key(const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.integer() == right.integer();
    return left.number() == right.number();
  }
  return left.kind() == right.kind() && left.same_object(right);
}

}  // namespace

size_t Dict::place_of(const Value& key) const {
  if (key.is(Kind::string) && entries_.size() >= kIndexFrom) {
    const auto place = places_.find(key.text());
    return place == places_.end() ? entries_.size() : place->second;
  }
  size_t place = 0;
  while (place < entries_.size() && !same_key(entries_[place].key, key)) ++place;
  return place;
}

const Value* Dict::find(const Value& key) const {
  const size_t place = place_of(key);
  return place == entries_.size() ? nullptr : &entries_[place].value;
}

void Dict::set(const Value& key, const Value& value) {
  const size_t place = place_of(key);
  if (place < entries_.size()) {
    entries_[place].value = value;
    return;
  }
  entries_.push_back({key, value});
  if (entries_.size() == kIndexFrom) {
    index_strings();
  } else if (entries_.size() > kIndexFrom && key.is(Kind::string)) {
    places_.emplace(key.text(), place);
  }
}

bool Dict::remove(const Value& key) {
  const size_t place = place_of(key);
  if (place == entries_.size()) return false;
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(place));
  index_strings();
  return true;
}

void Dict::index_strings() {
  places_.clear();
  if (entries_.size() < kIndexFrom) return;
  for (size_t place = 0; place < entries_.size(); ++place) {
    const Value& key = entries_[place].key;
    if (key.is(Kind::string)) places_.emplace(key.text(), place);
  }
}

std::string_view kind_name(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return "undefined";
    case Kind::none:
      return "None";
    case Kind::boolean:
      return "a boolean";
    case Kind::integer:
      return "an integer";
    case Kind::real:
      return "a float";
    case Kind::string:
      return "a string";
    case Kind::list:
      break;
    case Kind::dict:
      return "a dict";
    case Kind::name_space:
      return "a namespace";
    case Kind::macro:
      return "a macro";
    case Kind::loop:
      return "a loop";
    case Kind::method:
      return "a method";
    case Kind::function:
      return "a function";
  }
  switch (value.list().flavor) {
    case List::Flavor::list:
      return "a list";
    case List::Flavor::tuple:
      return "a tuple";
    case List::Flavor::range:
      return "a range";
    case List::Flavor::view:
      return "a view of a dict";
    case List::Flavor::generator:
      return "a generator";
  }
  return "a list";
}

}  // namespace sluice::jinja
