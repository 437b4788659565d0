// ExpressionParser: the part of the parser that reads expressions. It stands at a token, and each
// parse function leaves it behind what it read. Throws Error, beginning with "line N: ".
#pragma once

#include <string_view>
#include <vector>

#include "model/template/syntax.h"
#include "model/template/token.h"

namespace sluice::jinja {

class ExpressionParser {
 public:
  // tokens: end with TokenKind::end. Borrows both.
  ExpressionParser(const std::vector<Token>& tokens, SyntaxTree& tree)
      : tokens_(tokens), tree_(tree) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next();  // the current token, which is left behind
  bool is_symbol(std::string_view symbol) const;
  bool is_name(std::string_view name) const;
  bool skip_symbol(std::string_view symbol);
  bool skip_name(std::string_view name);
  void expect_symbol(std::string_view symbol);
  void expect(TokenKind kind, std::string_view what);
  std::string_view expect_name(std::string_view what);

  enum class Ternary : bool { refused, allowed };  // refused where an "if" follows
  const Expression* parse_expression(Ternary ternary = Ternary::allowed);
  // Expressions with commas between them make a tuple, one without does not.
  const Expression* parse_tuple(Ternary ternary = Ternary::allowed);
  // What may be assigned to: names, tuples of names, and attributes of names if `with_attributes`.
  const Expression* parse_target(bool with_attributes);
  ArgumentList parse_arguments();  // at "("
  // A call, for the call statement; the filters of a filter statement, applied to null.
  const Expression* parse_unary();
  const Expression* parse_filters(const Expression* subject);

  [[noreturn]] void fail(std::string_view message) const;
  [[noreturn]] void fail_unexpected() const;

  // One level of recursion, of statements too.
  class Level {
   public:
    explicit Level(ExpressionParser& parser);
    ~Level() { --parser_.levels_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    ExpressionParser& parser_;
  };

 private:
  const Expression* make(Expression made);
  const Expression* make(ExpressionKind kind, uint32_t line,
                         std::vector<const Expression*> operands);
  const Expression* arithmetic(Operator op, uint32_t line, const Expression* left,
                               const Expression* right);
  const Expression* parse_or();
  const Expression* parse_and();
  const Expression* parse_not();
  const Expression* parse_comparison();
  const Expression* parse_sum();
  const Expression* parse_concatenation();
  const Expression* parse_product();
  const Expression* parse_power();
  const Expression* parse_signed(bool with_filters);
  const Expression* parse_primary();
  const Expression* parse_number();
  const Expression* parse_list();
  const Expression* parse_dict();
  const Expression* parse_postfix(const Expression* subject);
  const Expression* parse_filters_and_tests(const Expression* subject);
  const Expression* parse_filter(const Expression* subject);
  const Expression* parse_test(const Expression* subject);
  const Expression* parse_attribute(const Expression* subject);
  const Expression* parse_subscript(const Expression* subject);
  const Expression* parse_subscript_part();
  const Expression* parse_call(const Expression* callee);
  bool at_tuple_end() const;
  bool at_test_argument() const;

  const std::vector<Token>& tokens_;
  SyntaxTree& tree_;
  size_t at_ = 0;
  uint32_t levels_ = 0;
};

}  // namespace sluice::jinja
