// The syntax tree of a template. Nodes belong to a SyntaxTree and point to each other freely; it
// keeps the source that their names point into. Threads: any, once parsed.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "model/template/value.h"

namespace sluice::jinja {

struct Expression;

enum class ExpressionKind : uint8_t {
  constant,       // value
  name,           // name
  list,           // [operands...]
  tuple,          // (operands...)
  dict,           // {operands[0]: operands[1], ...}
  negative,       // -operands[0]
  positive,       // +operands[0]
  logical_not,    // not operands[0]
  arithmetic,     // operands[0] operators[0] operands[1]
  concatenation,  // operands[0] ~ operands[1] ~ ...
  comparison,     // operands[0] operators[0] operands[1] operators[1] ...
  logical_and,    // operands[0] and operands[1]
  logical_or,     // operands[0] or operands[1]
  conditional,    // operands[1] if operands[0] else operands[2], which may be null
  attribute,      // operands[0].name
  item,           // operands[0][operands[1]]
  slice,          // operands[0]:operands[1]:operands[2], each of which may be null
  call,           // operands[0](arguments)
  filter,         // operands[0]|name(arguments); operands[0] is null in a filter block
  test,           // operands[0] is name(arguments)
};

enum class Operator : uint8_t {
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  equal,
  unequal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  not_in,
};

struct Keyword {
  std::string_view name;
  const Expression* value;
};

struct ArgumentList {
  std::vector<const Expression*> positional;
  std::vector<Keyword> named;
  const Expression* more_positional = nullptr;  // *expression
  const Expression* more_named = nullptr;       // **expression
};

struct Expression {
  ExpressionKind kind;
  uint32_t line;
  uint32_t height = 1;  // levels of nodes from here down
  std::string_view name = {};
  Value value = {};
  std::vector<const Expression*> operands = {};
  std::vector<Operator> operators = {};
  ArgumentList arguments = {};
};

enum class StatementKind : uint8_t {
  text,              // text
  output,            // expression
  loop,              // for targets[0] in expression if condition: body, else otherwise
  branch,            // if branches[0] elif branches[1] ... else otherwise
  assignment,        // set targets[0] = expression
  block_assignment,  // set targets[0] | filter: body
  macro,             // macro name(parameters): body
  call_block,        // call(parameters) expression: body, which the callee knows as caller()
  filter_block,      // filter `filter`: body
  scope,             // with targets = values: body; and generation blocks, without targets
  loop_break,
  loop_continue,
};

struct Statement;
using Body = std::vector<const Statement*>;

struct Branch {
  const Expression* condition;
  Body body;
};

struct Parameter {
  std::string_view name;
  const Expression* otherwise;  // null: none
};

struct Statement {
  StatementKind kind;
  uint32_t line;
  std::string_view text = {};  // or a macro's name
  const Expression* expression = nullptr;
  const Expression* condition = nullptr;  // of a loop
  const Expression* filter = nullptr;     // null: none
  // Names, attributes of names (namespaces), or tuples of such.
  std::vector<const Expression*> targets = {};
  std::vector<const Expression*> values = {};
  std::vector<Parameter> parameters = {};
  std::vector<Branch> branches = {};
  Body body = {};
  Body otherwise = {};
};

struct SyntaxTree {
  std::string source;
  std::deque<std::string> strings;  // unescaped literals
  std::deque<Expression> expressions;
  std::deque<Statement> statements;
  Body body;
};

}  // namespace sluice::jinja
