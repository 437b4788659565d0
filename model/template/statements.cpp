#include "model/template/interpreter.h"
#include "model/template/operators.h"
#include "model/template/text.h"

namespace sluice::jinja {

std::string Interpreter::run(Scope& variables) {
  TextBuilder out(runtime_.heap);
  out_ = &out;
  execute(tree_.body, variables);
  return out.take();
}

Interpreter::Flow Interpreter::execute(const Body& body, Scope& scope) {
  for (const Statement* statement : body) {
    if (const Flow flow = execute(*statement, scope); flow != Flow::end) return flow;
  }
  return Flow::end;
}

Interpreter::Flow Interpreter::execute(const Statement& statement, Scope& scope) {
  const Nesting nesting(runtime_.meter);
  runtime_.meter.step();
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::text:
      if (!captures_) runtime_.meter.output(statement.text.size());
      out_->add(statement.text);
      return Flow::end;
    case StatementKind::output: {
      const Value text = to_string(evaluate(*statement.expression, scope), runtime_.heap);
      if (text.is(Kind::undefined)) return Flow::end;
      if (!captures_) runtime_.meter.output(text.text().size());
      out_->add(text.text());
      return Flow::end;
    }
    case StatementKind::loop:
      return execute_loop(statement, scope);
    case StatementKind::branch:
      return execute_branch(statement, scope);
    case StatementKind::assignment: {
      const Value value = evaluate(*statement.expression, scope);
      line_ = statement.line;
      assign(*statement.targets[0], value, scope);
      return Flow::end;
    }
    case StatementKind::block_assignment:
      assign(*statement.targets[0], captured(statement, scope), scope);
      return Flow::end;
    case StatementKind::macro:
      runtime_.heap.set(scope, statement.text, runtime_.heap.macro(&statement, &scope));
      return Flow::end;
    case StatementKind::call_block:
      execute_call(statement, scope);
      return Flow::end;
    case StatementKind::filter_block: {
      const Value text = to_string(captured(statement, scope), runtime_.heap);
      if (!captures_) runtime_.meter.output(text.text().size());
      out_->add(text.text());
      return Flow::end;
    }
    case StatementKind::scope:
      return execute_scope(statement, scope);
    case StatementKind::loop_break:
      return Flow::loop_break;
    case StatementKind::loop_continue:
      return Flow::loop_continue;
  }
  return Flow::end;
}

Interpreter::Flow Interpreter::execute_branch(const Statement& statement, Scope& scope) {
  for (const Branch& branch : statement.branches) {
    if (is_true(evaluate(*branch.condition, scope))) return execute(branch.body, scope);
  }
  return execute(statement.otherwise, scope);
}

// What a loop goes over: the elements that its condition holds for.
const std::vector<Value>& Interpreter::loop_items(const Statement& statement, Scope& scope) {
  const Value iterable = evaluate(*statement.expression, scope);
  line_ = statement.line;
  const std::vector<Value>& items = iterate(iterable, runtime_.heap);
  if (statement.condition == nullptr) return items;
  List& kept = runtime_.heap.list();
  for (size_t i = 0; i < items.size(); ++i) {
    const Value element = items[i];
    Scope& inner = runtime_.heap.scope(&scope);
    assign(*statement.targets[0], element, inner);
    if (is_true(evaluate(*statement.condition, inner))) runtime_.heap.append(kept, element);
  }
  return kept.items;
}

Interpreter::Flow Interpreter::execute_loop(const Statement& statement, Scope& scope) {
  const std::vector<Value>& items = loop_items(statement, scope);
  if (items.empty()) return execute(statement.otherwise, runtime_.heap.scope(&scope));
  Loop& loop = runtime_.heap.loop(items);
  // By place, since the body may append to the list that it goes over.
  for (loop.index = 0; loop.index < items.size(); ++loop.index) {
    const Value element = items[loop.index];
    Scope& inner = runtime_.heap.scope(&scope);
    runtime_.meter.step();
    line_ = statement.line;
    runtime_.heap.set(inner, "loop", Value::loop(&loop));
    assign(*statement.targets[0], element, inner);
    if (execute(statement.body, inner) == Flow::loop_break) break;
  }
  return Flow::end;
}

Interpreter::Flow Interpreter::execute_scope(const Statement& statement, const Scope& scope) {
  Scope& inner = runtime_.heap.scope(&scope);
  for (size_t i = 0; i < statement.targets.size(); ++i) {
    assign(*statement.targets[i], evaluate(*statement.values[i], scope), inner);
  }
  return execute(statement.body, inner);
}

void Interpreter::execute_call(const Statement& statement, const Scope& scope) {
  const Value caller = runtime_.heap.macro(&statement, &scope);
  const Value result = evaluate_call(*statement.expression, scope, &caller);
  const Value text = to_string(result, runtime_.heap);
  if (text.is(Kind::undefined)) return;
  if (!captures_) runtime_.meter.output(text.text().size());
  out_->add(text.text());
}

void Interpreter::assign(const Expression& target, const Value& value, Scope& scope) {
  if (target.kind == ExpressionKind::name) {
    runtime_.heap.set(scope, target.name, value);
    return;
  }
  if (target.kind == ExpressionKind::attribute) {
    const std::string_view name = target.operands[0]->name;
    const Value owner = look_up(name, scope);
    if (!owner.is(Kind::name_space)) {
      throw Error("'", excerpt(name), "' is ", kind_name(owner),
                  "; only attributes of a namespace can be set");
    }
    runtime_.heap.set(owner.name_space().attributes, Value::string(target.name), value);
    return;
  }
  const std::vector<Value>& parts = iterate(value, runtime_.heap);
  if (parts.size() != target.operands.size()) {
    throw Error("expected ", target.operands.size(), " values to unpack, not ", parts.size());
  }
  for (size_t i = 0; i < parts.size(); ++i) assign(*target.operands[i], parts[i], scope);
}

Value Interpreter::captured(const Statement& statement, const Scope& scope) {
  TextBuilder text(runtime_.heap);
  TextBuilder* const outer = std::exchange(out_, &text);
  const bool outer_captures = std::exchange(captures_, true);
  // A break within would leave the block half captured.
  if (execute(statement.body, runtime_.heap.scope(&scope)) != Flow::end) {
    throw Error("break and continue cannot leave a block that is captured");
  }
  out_ = outer;
  captures_ = outer_captures;
  const Value result = text.finish();
  if (statement.filter == nullptr) return result;
  const Value outer_filtered = std::exchange(filtered_, result);
  const Value filtered = evaluate(*statement.filter, scope);
  filtered_ = outer_filtered;
  return filtered;
}

}  // namespace sluice::jinja
