// Value: a value of the template language, which is Python's: undefined, None, booleans, integers
// of 64 bits, floats, strings, lists and tuples, dicts, and what can be called.
//
// A Value is small and copied freely. What it points to (the bytes of strings, lists, dicts, ...)
// belongs to a Heap (heap.h) or, for literals, to the syntax tree; both outlive the rendering.
// Threads: one.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace sluice::jinja {

class Dict;
struct List;
struct Namespace;
struct Macro;
struct Loop;
struct Method;
struct Function;

// In the order of Value's alternatives.
enum class Kind : uint8_t {
  undefined,
  none,
  boolean,
  integer,
  real,
  string,
  list,  // and tuples, views of dicts, generators
  dict,
  name_space,
  macro,
  loop,
  method,    // of a string, list or dict, bound to it
  function,  // one of the environment's
};

class Value {
 public:
  Value() = default;  // undefined, of no name
  static Value undefined(std::string_view name) { return Value(Undefined{name}); }
  static Value none() { return Value(None{}); }
  static Value boolean(bool value) { return Value(value); }
  static Value integer(int64_t value) { return Value(value); }
  static Value real(double value) { return Value(value); }
  // text: valid UTF-8. safe: as the filter of that name marks it; added to such a string, others
  // are escaped for HTML.
  static Value string(std::string_view text, bool safe = false) {
    // Never a null pointer: the C library's functions on memory do not take one, even for 0 bytes.
    return Value(Text{text.data() == nullptr ? std::string_view("") : text, safe});
  }
  static Value list(List* list) { return Value(list); }
  static Value dict(Dict* dict) { return Value(dict); }
  static Value name_space(Namespace* value) { return Value(value); }
  static Value macro(const Macro* macro) { return Value(macro); }
  static Value loop(Loop* loop) { return Value(loop); }
  static Value method(const Method* method) { return Value(method); }
  static Value function(const Function* function) { return Value(function); }

  Kind kind() const { return static_cast<Kind>(content_.index()); }
  bool is(Kind kind) const { return this->kind() == kind; }
  bool is_integral() const { return is(Kind::integer) || is(Kind::boolean); }
  bool is_number() const { return is_integral() || is(Kind::real); }

  //   Require the kind of their name.
  std::string_view undefined_name() const { return std::get<Undefined>(content_).name; }
  bool boolean() const { return std::get<bool>(content_); }
  double real() const { return std::get<double>(content_); }
  std::string_view text() const { return std::get<Text>(content_).text; }
  bool is_safe() const { return is(Kind::string) && std::get<Text>(content_).safe; }
  List& list() const { return *std::get<List*>(content_); }
  Dict& dict() const { return *std::get<Dict*>(content_); }
  Namespace& name_space() const { return *std::get<Namespace*>(content_); }
  const Macro& macro() const { return *std::get<const Macro*>(content_); }
  Loop& loop() const { return *std::get<Loop*>(content_); }
  const Method& method() const { return *std::get<const Method*>(content_); }
  const Function& function() const { return *std::get<const Function*>(content_); }
  //   Requires: is_integral(). True is 1.
  int64_t integer() const {
    return is(Kind::boolean) ? static_cast<int64_t>(boolean()) : std::get<int64_t>(content_);
  }
  //   Requires: is_number().
  double number() const { return is(Kind::real) ? real() : static_cast<double>(integer()); }

  // The very same object; only for the kinds that are one.
  bool same_object(const Value& other) const { return content_ == other.content_; }

 private:
  struct Undefined {
    std::string_view name;
    bool operator==(const Undefined&) const { return true; }
  };
  struct None {
    bool operator==(const None&) const = default;
  };
  struct Text {
    std::string_view text;
    bool safe;
    bool operator==(const Text& other) const { return text == other.text; }
  };
  using Content = std::variant<Undefined, None, bool, int64_t, double, Text, List*, Dict*,
                               Namespace*, const Macro*, Loop*, const Method*, const Function*>;
  template <class T>
  explicit Value(T content) : content_(content) {}

  Content content_;
};

struct List {
  enum class Flavor : uint8_t {
    list,
    tuple,
    range,
    view,       // what dict.items() and its like give: no indexing
    generator,  // what map, select and their like give: iterated once, without a length
  };
  Flavor flavor = Flavor::list;
  bool consumed = false;  // a generator that was iterated
  std::vector<Value> items;

  bool has_length() const { return flavor != Flavor::generator; }
  bool can_index() const { return has_length() && flavor != Flavor::view; }
};

// Keys in the order of their first insertion. Strings are found by hash, others one by one.
class Dict {
 public:
  struct Entry {
    Value key;
    Value value;
  };
  const std::vector<Entry>& entries() const { return entries_; }
  // Null if there is none. 1, 1.0 and True are the same key.
  const Value* find(const Value& key) const;
  //   Requires: key is hashable (no list, no dict).
  void set(const Value& key, const Value& value);
  bool remove(const Value& key);
  // From so many entries on, strings are found by hash; before, one by one.
  static constexpr size_t kIndexFrom = 12;

 private:
  size_t place_of(const Value& key) const;  // entries_.size() if absent
  void index_strings();

  std::vector<Entry> entries_;
  std::unordered_map<std::string_view, size_t> places_;
};

struct Namespace {
  Dict attributes;
};

// A method of a string, list or dict that was looked up and not yet called.
struct Method {
  Value subject;
  std::string_view name;
};

// "a string", "an integer": for messages.
std::string_view kind_name(const Value& value);

}  // namespace sluice::jinja
