// Interpreter: runs a syntax tree once. Threads: one.
#pragma once

#include <string>
#include <utility>

#include "model/template/builtins.h"
#include "model/template/syntax.h"

namespace sluice::jinja {

class Interpreter {
 public:
  // Borrows both.
  Interpreter(const SyntaxTree& tree, Runtime& runtime) : tree_(tree), runtime_(runtime) {}

  // variables: those of the template, which it may add to.
  // Throws Error, which line() then belongs to; Raised if the template says so.
  std::string run(Scope& variables);
  uint32_t line() const { return line_; }

 private:
  // How a body ended: at its end, or at a break or continue of the loop around it.
  enum class Flow : uint8_t { end, loop_break, loop_continue };

  // statements.cpp
  Flow execute(const Body& body, Scope& scope);
  Flow execute(const Statement& statement, Scope& scope);
  Flow execute_branch(const Statement& statement, Scope& scope);
  Flow execute_loop(const Statement& statement, Scope& scope);
  const std::vector<Value>& loop_items(const Statement& statement, Scope& scope);
  Flow execute_scope(const Statement& statement, const Scope& scope);
  void execute_call(const Statement& statement, const Scope& scope);
  void assign(const Expression& target, const Value& value, Scope& scope);
  // What a body puts out, through the statement's filter if it has one.
  Value captured(const Statement& statement, const Scope& scope);

  // evaluate.cpp
  Value evaluate(const Expression& expression, const Scope& scope);
  Value dispatch(const Expression& expression, const Scope& scope);
  Value operand(const Expression& expression, size_t index, const Scope& scope);
  Value look_up(std::string_view name, const Scope& scope) const;
  Value evaluate_list(const Expression& expression, const Scope& scope);
  Value evaluate_dict(const Expression& expression, const Scope& scope);
  Value evaluate_concatenation(const Expression& expression, const Scope& scope);
  Value evaluate_comparison(const Expression& expression, const Scope& scope);
  Value evaluate_item(const Expression& expression, const Scope& scope);
  Value evaluate_filter(const Expression& expression, const Scope& scope);
  Value evaluate_call(const Expression& expression, const Scope& scope, const Value* caller);
  Arguments evaluate_arguments(const ArgumentList& list, const Scope& scope);
  Value call(const Value& callee, const Arguments& arguments);
  Value call_macro(const Macro& macro, const Arguments& arguments);
  void bind(const Macro& macro, const Arguments& arguments, Scope& scope);

  const SyntaxTree& tree_;
  Runtime& runtime_;
  TextBuilder* out_ = nullptr;  // what is put out at the moment
  bool captures_ = false;       // out_ is not the result yet
  Value filtered_;              // what the filter of a block is applied to
  uint32_t line_ = 1;           // of what was begun last
};

}  // namespace sluice::jinja
