// Builtins: the filters, tests, functions and methods that templates may use.
//
// Each takes the value that it is applied to (functions: undefined) and its arguments, and throws
// Error where Python or the reference raises an error. Threads: any for the tables; one for a
// Runtime.
#pragma once

#include <ctime>
#include <functional>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "model/template/heap.h"
#include "model/template/value.h"

namespace sluice::jinja {

// What strftime_now() shows; local time, as the reference does.
using Clock = std::function<std::tm()>;

// What a builtin works with.
struct Runtime {
  Meter& meter;
  Heap& heap;
  const Clock& clock;
};

struct NamedArgument {
  std::string_view name;
  Value value;
};
struct Arguments {
  std::vector<Value> positional;
  std::vector<NamedArgument> named;
};

// Arguments sorted to the parameters of a builtin, as Python does.
class Parameters {
 public:
  // The first `required` must be given. Throws Error naming `callee`.
  Parameters(const Arguments& arguments, std::string_view callee,
             std::initializer_list<std::string_view> names, size_t required);

  bool given(size_t index) const { return values_[index] != nullptr; }
  const Value& operator[](size_t index) const { return *values_[index]; }  // Requires: given
  //   These throw Error if the argument is of another kind.
  std::string_view text(size_t index) const;
  std::string_view text(size_t index, std::string_view otherwise) const;
  int64_t integer(size_t index, int64_t otherwise) const;
  bool truth(size_t index, bool otherwise) const;

 private:
  std::string_view callee_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

using Builtin = Value (*)(Runtime&, const Value& subject, const Arguments&);

struct Function {
  std::string_view name;
  Builtin call;
};

// Null if there is none of that name.
const Function* find_filter(std::string_view name);
const Function* find_test(std::string_view name);  // gives a boolean
const Function* find_function(std::string_view name);

// Throws Error if there is none of that name.
Value apply_filter(Runtime& runtime, std::string_view name, const Value& subject,
                   const Arguments& arguments);
bool apply_test(Runtime& runtime, std::string_view name, const Value& subject,
                const Arguments& arguments);

// Whether looking the name up gives a method. One that changes its subject is none, as in the
// reference's sandbox; call_method knows append and its like all the same.
bool is_method(const Value& subject, std::string_view name);
Value call_method(Runtime& runtime, const Value& subject, std::string_view name,
                  const Arguments& arguments);
//   Require: subject is of that kind.
Value call_string_method(Runtime& runtime, const Value& subject, std::string_view name,
                         const Arguments& arguments);
const Function* find_string_method(std::string_view name);

// Thrown by raise_exception(): what the template itself says about its input.
class Raised : public Error {
 public:
  explicit Raised(std::string_view message) : Error(message) {}
};

// The parts of the tables, each beside its functions.
std::span<const Function> text_filters();
std::span<const Function> sequence_filters();
std::span<const Function> selecting_filters();

}  // namespace sluice::jinja
