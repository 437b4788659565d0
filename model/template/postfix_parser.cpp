// What stands behind an expression: attributes, subscripts, calls, filters and tests.
#include <string>

#include "model/template/expression_parser.h"

namespace sluice::jinja {

const Expression* ExpressionParser::parse_postfix(const Expression* subject) {
  while (true) {
    if (is_symbol(".")) {
      subject = parse_attribute(subject);
    } else if (is_symbol("[")) {
      subject = parse_subscript(subject);
    } else if (is_symbol("(")) {
      subject = parse_call(subject);
    } else {
      return subject;
    }
  }
}

const Expression* ExpressionParser::parse_filters_and_tests(const Expression* subject) {
  while (true) {
    if (is_symbol("|")) {
      next();
      subject = parse_filter(subject);
    } else if (is_name("is")) {
      subject = parse_test(subject);
    } else if (is_symbol("(")) {
      subject = parse_call(subject);
    } else {
      return subject;
    }
  }
}

const Expression* ExpressionParser::parse_filters(const Expression* subject) {
  do {
    subject = parse_filter(subject);
  } while (skip_symbol("|"));
  return subject;
}

const Expression* ExpressionParser::parse_filter(const Expression* subject) {
  const uint32_t line = current().line;
  const std::string_view name = expect_name("the name of a filter");
  ArgumentList arguments;
  if (is_symbol("(")) arguments = parse_arguments();
  return make({.kind = ExpressionKind::filter,
               .line = line,
               .name = name,
               .operands = {subject},
               .arguments = std::move(arguments)});
}

bool ExpressionParser::at_test_argument() const {
  switch (current().kind) {
    case TokenKind::name:
      return !is_name("else") && !is_name("or") && !is_name("and");
    case TokenKind::string:
    case TokenKind::integer:
    case TokenKind::real:
      return true;
    default:
      return is_symbol("[") || is_symbol("{");
  }
}

const Expression* ExpressionParser::parse_test(const Expression* subject) {
  const uint32_t line = next().line;
  const bool negated = skip_name("not");
  const std::string_view name = expect_name("the name of a test");
  ArgumentList arguments;
  if (is_symbol("(")) {
    arguments = parse_arguments();
  } else if (at_test_argument()) {
    if (is_name("is")) fail("tests cannot be chained with \"is\"");
    // What follows a ternary's or a loop's test is no argument of the test.
    if (!is_name("if") && !is_name("in") && !is_name("not")) {
      arguments.positional.push_back(parse_postfix(parse_primary()));
    }
  }
  const Expression* test = make({.kind = ExpressionKind::test,
                                 .line = line,
                                 .name = name,
                                 .operands = {subject},
                                 .arguments = std::move(arguments)});
  return negated ? make(ExpressionKind::logical_not, line, {test}) : test;
}

const Expression* ExpressionParser::parse_attribute(const Expression* subject) {
  const uint32_t line = next().line;
  if (current().kind == TokenKind::integer) {
    return make(ExpressionKind::item, line, {subject, parse_number()});
  }
  const std::string_view name = expect_name("the name of an attribute");
  return make(
      {.kind = ExpressionKind::attribute, .line = line, .name = name, .operands = {subject}});
}

const Expression* ExpressionParser::parse_subscript(const Expression* subject) {
  const uint32_t line = next().line;
  std::vector<const Expression*> parts;
  while (!is_symbol("]")) {
    if (!parts.empty()) expect_symbol(",");
    parts.push_back(parse_subscript_part());
  }
  next();
  const Expression* key =
      parts.size() == 1 ? parts[0] : make(ExpressionKind::tuple, line, std::move(parts));
  return make(ExpressionKind::item, line, {subject, key});
}

const Expression* ExpressionParser::parse_subscript_part() {
  const uint32_t line = current().line;
  std::vector<const Expression*> bounds(3, nullptr);
  if (!is_symbol(":")) {
    bounds[0] = parse_expression();
    if (!is_symbol(":")) return bounds[0];
  }
  next();
  const auto parse_bound = [this]() -> const Expression* {
    return is_symbol(":") || is_symbol("]") || is_symbol(",") ? nullptr : parse_expression();
  };
  bounds[1] = parse_bound();
  if (skip_symbol(":")) bounds[2] = parse_bound();
  return make(ExpressionKind::slice, line, std::move(bounds));
}

const Expression* ExpressionParser::parse_call(const Expression* callee) {
  const uint32_t line = current().line;
  ArgumentList arguments = parse_arguments();
  return make({.kind = ExpressionKind::call,
               .line = line,
               .operands = {callee},
               .arguments = std::move(arguments)});
}

ArgumentList ExpressionParser::parse_arguments() {
  ArgumentList arguments;
  expect_symbol("(");
  bool first = true;
  while (!is_symbol(")")) {
    if (!first) expect_symbol(",");
    first = false;
    if (is_symbol(")")) break;
    const bool more = arguments.more_positional != nullptr || arguments.more_named != nullptr;
    if (is_symbol("*") && !more) {
      next();
      arguments.more_positional = parse_expression();
    } else if (is_symbol("**") && arguments.more_named == nullptr) {
      next();
      arguments.more_named = parse_expression();
    } else if (current().kind == TokenKind::name && tokens_[at_ + 1].kind == TokenKind::symbol &&
               tokens_[at_ + 1].text == "=" && arguments.more_named == nullptr) {
      const std::string_view name = next().text;
      next();
      arguments.named.push_back({name, parse_expression()});
    } else if (arguments.named.empty() && !more) {
      arguments.positional.push_back(parse_expression());
    } else {
      fail("a positional argument behind a named one");
    }
  }
  next();
  return arguments;
}

}  // namespace sluice::jinja
