#include "model/template/heap.h"

#include <algorithm>
#include <utility>

namespace sluice::jinja {
namespace {

// With its node and its part of the table.
constexpr uint64_t kVariableBytes = sizeof(std::pair<std::string_view, Value>) + 64;

}  // namespace

void count_search(const Dict& dict, const Value& key, Meter& meter) {
  if (key.is(Kind::string)) {
    meter.name(key.text().size(), 1 + std::min(dict.entries().size(), Dict::kIndexFrom));
  } else {
    meter.elements(dict.entries().size());
  }
}

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
  count_search(dict, key, meter_);
  meter_.memory(sizeof(Dict::Entry) + 64);  // an index entry takes about 64 bytes
  dict.set(key, value);
}

const Value* Heap::find(const Dict& dict, const Value& key) {
  count_search(dict, key, meter_);
  return dict.find(key);
}

Namespace& Heap::name_space() { return add(name_spaces_, Namespace()); }

Scope& Heap::scope(Scope* parent) { return add(scopes_, Scope{.parent = parent, .variables = {}}); }

Scope& Heap::next_scope(Scope& used) {
  if (used.kept) return scope(used.parent);
  meter_.give_back(used.variables.size() * kVariableBytes);
  used.variables.clear();
  return used;
}

void Heap::set(Scope& scope, std::string_view name, const Value& value) {
  meter_.name(name.size());
  const bool is_new = scope.variables.insert_or_assign(name, value).second;
  if (is_new) meter_.memory(kVariableBytes);
}

Loop& Heap::loop(const std::vector<Value>& items) {
  return add(loops_, Loop{.items = &items, .index = 0, .last_changed = {}});
}

Value Heap::macro(const Statement* definition, Scope* scope) {
  for (Scope* place = scope; place != nullptr && !place->kept; place = place->parent) {
    place->kept = true;
  }
  return Value::macro(&add(macros_, Macro{.definition = definition, .scope = scope}));
}

Value Heap::method(const Value& subject, std::string_view name) {
  return Value::method(&add(methods_, Method{.subject = subject, .name = name}));
}

}  // namespace sluice::jinja
