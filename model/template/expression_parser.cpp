#include "model/template/expression_parser.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>

#include "io/error.h"
#include "model/template/parser.h"

namespace sluice::jinja {
namespace {

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::text:
      return "text";
    case TokenKind::variable_begin:
      return "\"{{\"";
    case TokenKind::variable_end:
      return "\"}}\"";
    case TokenKind::block_begin:
      return "\"{%\"";
    case TokenKind::block_end:
      return "\"%}\"";
    case TokenKind::end:
      return "the end of the template";
    default:
      return "\"" + excerpt(token.text) + "\"";
  }
}

std::optional<Operator> find_operator(const Token& token, std::string_view symbols,
                                      std::initializer_list<Operator> operators) {
  if (token.kind != TokenKind::symbol) return std::nullopt;
  for (const Operator op : operators) {
    const size_t end = symbols.find(' ');
    if (symbols.substr(0, end) == token.text) return op;
    symbols.remove_prefix(end == symbols.npos ? symbols.size() : end + 1);
  }
  return std::nullopt;
}

std::optional<Value> constant_of(std::string_view name) {
  if (name == "true" || name == "True") return Value::boolean(true);
  if (name == "false" || name == "False") return Value::boolean(false);
  if (name == "none" || name == "None") return Value::none();
  return std::nullopt;
}

}  // namespace

ExpressionParser::Level::Level(ExpressionParser& parser) : parser_(parser) {
  if (parser.levels_ == kMaxNesting) {
    parser.fail("nested deeper than " + std::to_string(kMaxNesting) + " levels");
  }
  ++parser_.levels_;
}

void ExpressionParser::fail(std::string_view message) const {
  throw Error("line ", current().line, ": ", message);
}
void ExpressionParser::fail_unexpected() const { fail("unexpected " + describe(current())); }

const Token& ExpressionParser::next() {
  const Token& token = tokens_[at_];
  if (token.kind != TokenKind::end) ++at_;
  return token;
}
bool ExpressionParser::is_symbol(std::string_view symbol) const {
  return current().kind == TokenKind::symbol && current().text == symbol;
}
bool ExpressionParser::is_name(std::string_view name) const {
  return current().kind == TokenKind::name && current().text == name;
}
bool ExpressionParser::skip_symbol(std::string_view symbol) {
  if (!is_symbol(symbol)) return false;
  next();
  return true;
}
bool ExpressionParser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  next();
  return true;
}
void ExpressionParser::expect_symbol(std::string_view symbol) {
  if (!skip_symbol(symbol)) {
    fail("expected \"" + std::string(symbol) + "\", not " + describe(current()));
  }
}
void ExpressionParser::expect(TokenKind kind, std::string_view what) {
  if (current().kind != kind) {
    fail("expected " + std::string(what) + ", not " + describe(current()));
  }
  next();
}
std::string_view ExpressionParser::expect_name(std::string_view what) {
  const Token& token = current();
  expect(TokenKind::name, what);
  return token.text;
}

const Expression* ExpressionParser::make(Expression made) {
  uint32_t height = 0;
  const auto count = [&height](const Expression* part) {
    if (part != nullptr) height = std::max(height, part->height);
  };
  std::ranges::for_each(made.operands, count);
  std::ranges::for_each(made.arguments.positional, count);
  for (const Keyword& keyword : made.arguments.named) count(keyword.value);
  count(made.arguments.more_positional);
  count(made.arguments.more_named);
  // A row of operators of one rank makes a high tree without any recursion here.
  if (height >= kMaxNesting) {
    fail("an expression of more than " + std::to_string(kMaxNesting) + " levels");
  }
  made.height = height + 1;
  return &tree_.expressions.emplace_back(std::move(made));
}

const Expression* ExpressionParser::make(ExpressionKind kind, uint32_t line,
                                         std::vector<const Expression*> operands) {
  Expression made{.kind = kind, .line = line, .operands = std::move(operands)};
  return make(std::move(made));
}

const Expression* ExpressionParser::arithmetic(Operator op, uint32_t line, const Expression* left,
                                               const Expression* right) {
  return make({.kind = ExpressionKind::arithmetic,
               .line = line,
               .operands = {left, right},
               .operators = {op}});
}

const Expression* ExpressionParser::parse_expression(Ternary ternary) {
  const Level level(*this);
  const Expression* result = parse_or();
  while (ternary == Ternary::allowed && is_name("if")) {
    const uint32_t line = next().line;
    const Expression* condition = parse_or();
    const Expression* otherwise = skip_name("else") ? parse_expression() : nullptr;
    result = make(ExpressionKind::conditional, line, {condition, result, otherwise});
  }
  return result;
}

const Expression* ExpressionParser::parse_or() {
  const Expression* left = parse_and();
  while (is_name("or")) {
    const uint32_t line = next().line;
    left = make(ExpressionKind::logical_or, line, {left, parse_and()});
  }
  return left;
}

const Expression* ExpressionParser::parse_and() {
  const Expression* left = parse_not();
  while (is_name("and")) {
    const uint32_t line = next().line;
    left = make(ExpressionKind::logical_and, line, {left, parse_not()});
  }
  return left;
}

const Expression* ExpressionParser::parse_not() {
  const Level level(*this);
  if (!is_name("not")) return parse_comparison();
  const uint32_t line = next().line;
  return make(ExpressionKind::logical_not, line, {parse_not()});
}

const Expression* ExpressionParser::parse_comparison() {
  const uint32_t line = current().line;
  const Expression* first = parse_sum();
  Expression chain{.kind = ExpressionKind::comparison, .line = line, .operands = {first}};
  while (true) {
    if (const auto op =
            find_operator(current(), "== != < <= > >=",
                          {Operator::equal, Operator::unequal, Operator::less, Operator::less_equal,
                           Operator::greater, Operator::greater_equal})) {
      next();
      chain.operators.push_back(*op);
    } else if (skip_name("in")) {
      chain.operators.push_back(Operator::in);
    } else if (is_name("not") && tokens_[at_ + 1].kind == TokenKind::name &&
               tokens_[at_ + 1].text == "in") {
      next();
      next();
      chain.operators.push_back(Operator::not_in);
    } else {
      break;
    }
    chain.operands.push_back(parse_sum());
  }
  return chain.operators.empty() ? first : make(std::move(chain));
}

const Expression* ExpressionParser::parse_sum() {
  const Expression* left = parse_concatenation();
  while (const auto op = find_operator(current(), "+ -", {Operator::add, Operator::subtract})) {
    const uint32_t line = next().line;
    left = arithmetic(*op, line, left, parse_concatenation());
  }
  return left;
}

const Expression* ExpressionParser::parse_concatenation() {
  const uint32_t line = current().line;
  std::vector<const Expression*> parts = {parse_product()};
  while (skip_symbol("~")) parts.push_back(parse_product());
  if (parts.size() == 1) return parts[0];
  return make(ExpressionKind::concatenation, line, std::move(parts));
}

const Expression* ExpressionParser::parse_product() {
  const Expression* left = parse_power();
  while (const auto op = find_operator(
             current(), "* / // %",
             {Operator::multiply, Operator::divide, Operator::floor_divide, Operator::modulo})) {
    const uint32_t line = next().line;
    left = arithmetic(*op, line, left, parse_power());
  }
  return left;
}

const Expression* ExpressionParser::parse_power() {
  const Expression* left = parse_unary();
  while (is_symbol("**")) {
    const uint32_t line = next().line;
    left = arithmetic(Operator::power, line, left, parse_unary());
  }
  return left;
}

const Expression* ExpressionParser::parse_unary() { return parse_signed(true); }

const Expression* ExpressionParser::parse_signed(bool with_filters) {
  const Level level(*this);
  const uint32_t line = current().line;
  const Expression* result = nullptr;
  if (skip_symbol("-")) {
    result = make(ExpressionKind::negative, line, {parse_signed(false)});
  } else if (skip_symbol("+")) {
    result = make(ExpressionKind::positive, line, {parse_signed(false)});
  } else {
    result = parse_primary();
  }
  result = parse_postfix(result);
  return with_filters ? parse_filters_and_tests(result) : result;
}

const Expression* ExpressionParser::parse_primary() {
  const Token& token = current();
  const auto constant = [&](const Value& value) {
    return make({.kind = ExpressionKind::constant, .line = token.line, .value = value});
  };
  if (token.kind == TokenKind::name) {
    next();
    const std::string_view name = token.text;
    if (const auto value = constant_of(name)) return constant(*value);
    return make({.kind = ExpressionKind::name, .line = token.line, .name = name});
  }
  if (token.kind == TokenKind::string) {
    next();
    if (current().kind != TokenKind::string) return constant(Value::string(token.text));
    std::string joined(token.text);
    while (current().kind == TokenKind::string) joined += next().text;
    return constant(Value::string(tree_.strings.emplace_back(std::move(joined))));
  }
  if (token.kind == TokenKind::integer || token.kind == TokenKind::real) return parse_number();
  if (is_symbol("[")) return parse_list();
  if (is_symbol("{")) return parse_dict();
  if (!skip_symbol("(")) fail_unexpected();
  if (is_symbol(")")) {
    next();
    return make(ExpressionKind::tuple, token.line, {});
  }
  const Expression* inner = parse_tuple();
  expect_symbol(")");
  return inner;
}

const Expression* ExpressionParser::parse_number() {
  const Token& token = next();
  std::string_view digits = token.text;
  Value value;
  bool whole = false;
  if (token.kind == TokenKind::real) {
    double real = 0;
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), real);
    // A number too large or too small for a double is refused.
    whole = error == std::errc() && stop == digits.data() + digits.size();
    value = Value::real(real);
  } else {
    int base = 10;
    if (digits.size() > 1 && digits[0] == '0' && digits[1] > '9') {
      const char letter = static_cast<char>(digits[1] | 0x20);
      base = letter == 'x' ? 16 : letter == 'o' ? 8 : 2;
      digits.remove_prefix(2);
    }
    int64_t integer = 0;
    const auto [stop, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), integer, base);
    whole = error == std::errc() && stop == digits.data() + digits.size();
    value = Value::integer(integer);
  }
  if (!whole) {
    throw Error("line ", token.line, ": \"", excerpt(token.text),
                "\" is no number, or does not fit in 64 bits");
  }
  return make({.kind = ExpressionKind::constant, .line = token.line, .value = value});
}

const Expression* ExpressionParser::parse_list() {
  const uint32_t line = next().line;
  std::vector<const Expression*> items;
  while (!is_symbol("]")) {
    if (!items.empty()) expect_symbol(",");
    if (is_symbol("]")) break;
    items.push_back(parse_expression());
  }
  next();
  return make(ExpressionKind::list, line, std::move(items));
}

const Expression* ExpressionParser::parse_dict() {
  const uint32_t line = next().line;
  std::vector<const Expression*> items;
  while (!is_symbol("}")) {
    if (!items.empty()) expect_symbol(",");
    if (is_symbol("}")) break;
    items.push_back(parse_expression());
    expect_symbol(":");
    items.push_back(parse_expression());
  }
  next();
  return make(ExpressionKind::dict, line, std::move(items));
}

bool ExpressionParser::at_tuple_end() const {
  const TokenKind kind = current().kind;
  return kind == TokenKind::variable_end || kind == TokenKind::block_end || is_symbol(")") ||
         is_name("in");
}

const Expression* ExpressionParser::parse_tuple(Ternary ternary) {
  const uint32_t line = current().line;
  std::vector<const Expression*> items = {parse_expression(ternary)};
  if (!is_symbol(",")) return items[0];
  while (skip_symbol(",") && !at_tuple_end()) items.push_back(parse_expression(ternary));
  return make(ExpressionKind::tuple, line, std::move(items));
}

const Expression* ExpressionParser::parse_target(bool with_attributes) {
  const Level level(*this);
  const uint32_t line = current().line;
  std::vector<const Expression*> targets;
  bool is_tuple = false;
  do {
    if (at_tuple_end() && !targets.empty()) break;
    if (skip_symbol("(")) {
      targets.push_back(parse_target(with_attributes));
      expect_symbol(")");
    } else {
      const Expression* target = nullptr;
      const Token& token = current();
      const std::string_view name = expect_name("a name to assign to");
      if (constant_of(name)) {
        throw Error("line ", token.line, ": \"", name, "\" cannot be assigned to");
      }
      target = make({.kind = ExpressionKind::name, .line = line, .name = name});
      if (with_attributes && skip_symbol(".")) {
        const std::string_view attribute = expect_name("the name of an attribute");
        target = make({.kind = ExpressionKind::attribute,
                       .line = line,
                       .name = attribute,
                       .operands = {target}});
      }
      targets.push_back(target);
    }
    is_tuple = is_tuple || is_symbol(",");
  } while (skip_symbol(","));
  return is_tuple ? make(ExpressionKind::tuple, line, std::move(targets)) : targets[0];
}

}  // namespace sluice::jinja
