// Heap: owns everything that one rendering makes, and counts it. Nothing is freed before the
// rendering ends, so values are plain pointers and may refer to each other in circles.
// Threads: one.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

#include "model/template/meter.h"
#include "model/template/value.h"

namespace sluice::jinja {

struct Statement;

// The variables of a block, and what encloses it. A macro keeps the scope that it was defined in.
struct Scope {
  Scope* parent = nullptr;
  std::unordered_map<std::string_view, Value> variables;
  bool kept = false;  // by a macro
};

struct Macro {
  const Statement* definition;
  Scope* scope;
};

struct Loop {
  const std::vector<Value>* items;
  size_t index;        // from 0
  Value last_changed;  // what changed() was asked last, as a tuple
};

// Counts looking for a key: strings by an index, or among few entries; others one by one.
void count_search(const Dict& dict, const Value& key, Meter& meter);

class Heap {
 public:
  explicit Heap(Meter& meter) : meter_(meter) {}
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  Meter& meter() { return meter_; }

  // The bytes stay where they are. text: valid UTF-8.
  std::string_view keep(std::string text);
  Value string(std::string text) { return Value::string(keep(std::move(text))); }
  List& list(List::Flavor flavor = List::Flavor::list);
  void append(List& list, const Value& value);
  Dict& dict();
  void set(Dict& dict, const Value& key, const Value& value);
  // Null if there is none.
  const Value* find(const Dict& dict, const Value& key);
  Namespace& name_space();
  Scope& scope(Scope* parent);
  void set(Scope& scope, std::string_view name, const Value& value);
  // An empty scope like `used`, which is not used any more: itself, unless a macro keeps it.
  Scope& next_scope(Scope& used);
  Loop& loop(const std::vector<Value>& items);
  Value macro(const Statement* definition, Scope* scope);
  Value method(const Value& subject, std::string_view name);

 private:
  template <class T>
  T& add(std::deque<T>& all, T made) {
    meter_.memory(sizeof(T) + 16);
    return all.emplace_back(std::move(made));
  }

  Meter& meter_;
  std::deque<std::string> strings_;
  std::deque<List> lists_;
  std::deque<Dict> dicts_;
  std::deque<Namespace> name_spaces_;
  std::deque<Scope> scopes_;
  std::deque<Loop> loops_;
  std::deque<Macro> macros_;
  std::deque<Method> methods_;
};

// A string that grows, counted as it does.
class TextBuilder {
 public:
  explicit TextBuilder(Heap& heap) : heap_(heap) {}

  void add(std::string_view text) {
    heap_.meter().bytes(text.size());
    heap_.meter().memory(text.size());
    text_ += text;
  }
  const std::string& text() const { return text_; }
  std::string take() { return std::move(text_); }
  Value finish() { return heap_.string(std::move(text_)); }

 private:
  Heap& heap_;
  std::string text_;
};

}  // namespace sluice::jinja
