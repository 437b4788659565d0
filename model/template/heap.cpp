#include "model/template/heap.h"

#include <utility>

namespace sluice::jinja {

std::string_view Heap::keep(std::string text) {
  meter_.memory(text.size());
  return add(strings_, std::move(text));
}

List& Heap::list(List::Flavor flavor) {
  return add(lists_, List{.flavor = flavor, .consumed = false, .items = {}});
}

void Heap::append(List& list, const Value& value) {
  meter_.memory(sizeof(Value));
  list.items.push_back(value);
}

Dict& Heap::dict() { return add(dicts_, Dict()); }

void Heap::set(Dict& dict, const Value& key, const Value& value) {
  if (key.is(Kind::list) || key.is(Kind::dict)) {
    throw Error(kind_name(key), " cannot be a key of a dict");
  }
  // Keys that are no strings are looked for one by one; an index entry takes about 64 bytes.
  meter_.elements(key.is(Kind::string) ? 0 : dict.entries().size());
  meter_.memory(sizeof(Dict::Entry) + 64);
  dict.set(key, value);
}

Namespace& Heap::name_space() { return add(name_spaces_, Namespace()); }

Scope& Heap::scope(const Scope* parent) {
  return add(scopes_, Scope{.parent = parent, .variables = {}});
}

void Heap::set(Scope& scope, std::string_view name, const Value& value) {
  const auto [place, is_new] = scope.variables.insert_or_assign(name, value);
  if (is_new) meter_.memory(sizeof(*place) + 64);
}

Loop& Heap::loop(const std::vector<Value>& items) {
  return add(loops_, Loop{.items = &items, .index = 0, .last_changed = {}});
}

Value Heap::macro(const Statement* definition, const Scope* scope) {
  return Value::macro(&add(macros_, Macro{.definition = definition, .scope = scope}));
}

Value Heap::method(const Value& subject, std::string_view name) {
  return Value::method(&add(methods_, Method{.subject = subject, .name = name}));
}

}  // namespace sluice::jinja
