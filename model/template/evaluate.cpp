// Interpreter's expressions.
#include <algorithm>

#include "model/template/interpreter.h"
#include "model/template/operators.h"
#include "model/template/text.h"

namespace sluice::jinja {

Value Interpreter::evaluate(const Expression& expression, Scope& scope) {
  const Nesting nesting(runtime_.meter);
  runtime_.meter.step();
  line_ = expression.line;
  return dispatch(expression, scope);
}

// An operand's value; what fails afterwards is the expression's.
Value Interpreter::operand(const Expression& expression, size_t index, Scope& scope) {
  const Value value = evaluate(*expression.operands[index], scope);
  line_ = expression.line;
  return value;
}

Value Interpreter::dispatch(const Expression& expression, Scope& scope) {
  switch (expression.kind) {
    case ExpressionKind::constant:
      return expression.value;
    case ExpressionKind::name:
      return look_up(expression.name, scope);
    case ExpressionKind::list:
    case ExpressionKind::tuple:
      return evaluate_list(expression, scope);
    case ExpressionKind::dict:
      return evaluate_dict(expression, scope);
    case ExpressionKind::negative:
      return negative(operand(expression, 0, scope));
    case ExpressionKind::positive:
      return positive(operand(expression, 0, scope));
    case ExpressionKind::logical_not:
      return Value::boolean(!is_true(operand(expression, 0, scope)));
    case ExpressionKind::arithmetic: {
      const Value left = operand(expression, 0, scope);
      const Value right = operand(expression, 1, scope);
      return arithmetic(expression.operators[0], left, right, runtime_.heap);
    }
    case ExpressionKind::concatenation:
      return evaluate_concatenation(expression, scope);
    case ExpressionKind::comparison:
      return evaluate_comparison(expression, scope);
    case ExpressionKind::logical_and: {
      const Value left = operand(expression, 0, scope);
      return is_true(left) ? operand(expression, 1, scope) : left;
    }
    case ExpressionKind::logical_or: {
      const Value left = operand(expression, 0, scope);
      return is_true(left) ? left : operand(expression, 1, scope);
    }
    case ExpressionKind::conditional:
      if (is_true(operand(expression, 0, scope))) return operand(expression, 1, scope);
      return expression.operands[2] != nullptr ? operand(expression, 2, scope) : Value();
    case ExpressionKind::attribute:
      return attribute(operand(expression, 0, scope), expression.name, runtime_.heap);
    case ExpressionKind::item:
      return evaluate_item(expression, scope);
    case ExpressionKind::slice:
      throw Error("a slice among several subscripts");
    case ExpressionKind::call:
      return evaluate_call(expression, scope, nullptr);
    case ExpressionKind::filter:
      return evaluate_filter(expression, scope);
    case ExpressionKind::test: {
      const Value subject = operand(expression, 0, scope);
      const Arguments arguments = evaluate_arguments(expression.arguments, scope);
      line_ = expression.line;
      return Value::boolean(apply_test(runtime_, expression.name, subject, arguments));
    }
  }
  return Value();
}

// The environment's functions come last: a variable of their name hides them.
Value Interpreter::look_up(std::string_view name, const Scope& scope) const {
  for (const Scope* place = &scope; place != nullptr; place = place->parent) {
    runtime_.meter.name(name.size());
    const auto found = place->variables.find(name);
    if (found != place->variables.end()) return found->second;
  }
  const Function* function = find_function(name);
  return function != nullptr ? Value::function(function) : Value::undefined(name);
}

Value Interpreter::evaluate_list(const Expression& expression, Scope& scope) {
  List& list = runtime_.heap.list(expression.kind == ExpressionKind::tuple ? List::Flavor::tuple
                                                                           : List::Flavor::list);
  for (const Expression* item : expression.operands) {
    runtime_.heap.append(list, evaluate(*item, scope));
  }
  return Value::list(&list);
}

Value Interpreter::evaluate_dict(const Expression& expression, Scope& scope) {
  Dict& dict = runtime_.heap.dict();
  for (size_t i = 0; i < expression.operands.size(); i += 2) {
    const Value key = operand(expression, i, scope);
    const Value value = operand(expression, i + 1, scope);
    runtime_.heap.set(dict, key, value);
  }
  return Value::dict(&dict);
}

Value Interpreter::evaluate_concatenation(const Expression& expression, Scope& scope) {
  TextBuilder text(runtime_.heap);
  for (size_t i = 0; i < expression.operands.size(); ++i) {
    add_text(operand(expression, i, scope), runtime_.heap, text);
  }
  return text.finish();
}

// a < b < c is a < b and b < c, with b evaluated once.
Value Interpreter::evaluate_comparison(const Expression& expression, Scope& scope) {
  Value left = operand(expression, 0, scope);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    const Value right = operand(expression, i + 1, scope);
    if (!compare(expression.operators[i], left, right, runtime_.heap)) {
      return Value::boolean(false);
    }
    left = right;
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate_item(const Expression& expression, Scope& scope) {
  const Value subject = operand(expression, 0, scope);
  const Expression& key = *expression.operands[1];
  if (key.kind != ExpressionKind::slice) {
    return item(subject, operand(expression, 1, scope), runtime_.heap);
  }
  const auto bound = [&](size_t index) {
    return key.operands[index] != nullptr ? operand(key, index, scope) : Value::none();
  };
  const Value start = bound(0);
  const Value stop = bound(1);
  const Value step = bound(2);
  line_ = expression.line;
  return slice(subject, {.start = start, .stop = stop, .step = step}, runtime_.heap);
}

Value Interpreter::evaluate_filter(const Expression& expression, Scope& scope) {
  const Value subject =
      expression.operands[0] != nullptr ? operand(expression, 0, scope) : filtered_;
  const Arguments arguments = evaluate_arguments(expression.arguments, scope);
  line_ = expression.line;
  return apply_filter(runtime_, expression.name, subject, arguments);
}

Arguments Interpreter::evaluate_arguments(const ArgumentList& list, Scope& scope) {
  Arguments arguments;
  for (const Expression* value : list.positional) {
    arguments.positional.push_back(evaluate(*value, scope));
  }
  if (list.more_positional != nullptr) {
    const Value more = evaluate(*list.more_positional, scope);
    const std::vector<Value>& items = iterate(more, runtime_.heap);
    runtime_.meter.memory(items.size() * sizeof(Value));
    runtime_.meter.elements(items.size());
    arguments.positional.insert(arguments.positional.end(), items.begin(), items.end());
  }
  for (const Keyword& keyword : list.named) {
    arguments.named.push_back({keyword.name, evaluate(*keyword.value, scope)});
  }
  if (list.more_named != nullptr) {
    const Value more = evaluate(*list.more_named, scope);
    if (!more.is(Kind::dict)) throw Error("** takes a dict, not ", kind_name(more));
    runtime_.meter.memory(more.dict().entries().size() * sizeof(NamedArgument));
    runtime_.meter.elements(more.dict().entries().size());
    for (const Dict::Entry& entry : more.dict().entries()) {
      if (!entry.key.is(Kind::string)) throw Error("** takes a dict whose keys are strings");
      arguments.named.push_back({entry.key.text(), entry.value});
    }
  }
  return arguments;
}

// caller: what a call block hands over, or null.
Value Interpreter::evaluate_call(const Expression& expression, Scope& scope, const Value* caller) {
  const Expression& callee = *expression.operands[0];
  const auto arguments_of_call = [&] {
    Arguments arguments = evaluate_arguments(expression.arguments, scope);
    if (caller != nullptr) arguments.named.push_back({"caller", *caller});
    line_ = expression.line;
    return arguments;
  };
  if (callee.kind != ExpressionKind::attribute) {
    const Value value = operand(expression, 0, scope);
    return call(value, arguments_of_call());
  }
  const Value subject = evaluate(*callee.operands[0], scope);
  line_ = callee.line;
  const Value value = attribute(subject, callee.name, runtime_.heap);
  // A method that changes its subject is found only here, where it is called at once.
  if (value.is(Kind::undefined) && (subject.is(Kind::list) || subject.is(Kind::dict))) {
    return call_method(runtime_, subject, callee.name, arguments_of_call());
  }
  return call(value, arguments_of_call());
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
  switch (callee.kind()) {
    case Kind::macro: {
      const uint32_t line = line_;
      const Value result = call_macro(callee.macro(), arguments);
      line_ = line;
      return result;
    }
    case Kind::method:
      return call_method(runtime_, callee.method().subject, callee.method().name, arguments);
    case Kind::function:
      runtime_.meter.step();
      return callee.function().call(runtime_, Value(), arguments);
    case Kind::undefined:
      throw_undefined(callee);
    default:
      throw Error(kind_name(callee), " cannot be called");
  }
}

Value Interpreter::call_macro(const Macro& macro, const Arguments& arguments) {
  const Nesting nesting(runtime_.meter);
  TextBuilder text(runtime_.heap);
  Scope& scope = runtime_.heap.scope(macro.scope);
  bind(macro, arguments, scope);
  TextBuilder* const outer = std::exchange(out_, &text);
  const bool outer_captures = std::exchange(captures_, true);
  execute(macro.definition->body, scope);
  out_ = outer;
  captures_ = outer_captures;
  return text.finish();
}

// Parameters that are not given take their default, which may use those before them.
void Interpreter::bind(const Macro& macro, const Arguments& arguments, Scope& scope) {
  const Statement& definition = *macro.definition;
  const std::vector<Parameter>& parameters = definition.parameters;
  if (arguments.positional.size() > parameters.size()) {
    throw Error("the macro '", excerpt(definition.text), "' takes at most ", parameters.size(),
                " arguments, not ", arguments.positional.size());
  }
  for (const NamedArgument& argument : arguments.named) {
    runtime_.meter.elements(parameters.size());
    runtime_.meter.name(argument.name.size(), parameters.size());
    const auto parameter = std::ranges::find(parameters, argument.name, &Parameter::name);
    const auto place = static_cast<size_t>(parameter - parameters.begin());
    const bool is_caller = argument.name == "caller" && parameter == parameters.end();
    if (!is_caller && (parameter == parameters.end() || place < arguments.positional.size())) {
      throw Error("the macro '", excerpt(definition.text), "' takes no argument '",
                  excerpt(argument.name), "', or has it already");
    }
    runtime_.heap.set(scope, argument.name, argument.value);
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& parameter = parameters[i];
    runtime_.meter.step();
    runtime_.meter.name(parameter.name.size());
    if (i < arguments.positional.size()) {
      runtime_.heap.set(scope, parameter.name, arguments.positional[i]);
    } else if (!scope.variables.contains(parameter.name)) {
      runtime_.heap.set(scope, parameter.name,
                        parameter.otherwise != nullptr ? evaluate(*parameter.otherwise, scope)
                                                       : Value::undefined(parameter.name));
    }
  }
}

}  // namespace sluice::jinja
