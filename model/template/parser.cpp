#include "model/template/parser.h"

#include <algorithm>
#include <initializer_list>
#include <string>

#include "io/error.h"
#include "model/template/expression_parser.h"
#include "model/utf8.h"

namespace sluice::jinja {
namespace {

using Names = std::initializer_list<std::string_view>;
using Ternary = ExpressionParser::Ternary;

class StatementParser {
 public:
  StatementParser(const std::vector<Token>& tokens, SyntaxTree& tree)
      : in_(tokens, tree), tree_(tree) {}

  Body parse_template() {
    Body body;
    while (in_.current().kind != TokenKind::end) parse_one(body, {});
    return body;
  }

 private:
  const Statement* make(Statement made) { return &tree_.statements.emplace_back(std::move(made)); }

  // Statements up to a block tag whose name is one of `ends`; leaves the parser behind that name.
  Body parse_body(Names ends, std::string_view& end) {
    const ExpressionParser::Level level(in_);
    const uint32_t line = in_.current().line;
    in_.expect(TokenKind::block_end, "\"%}\"");
    Body body;
    end = {};
    while (end.empty()) {
      if (in_.current().kind == TokenKind::end) {
        throw Error("line ", line, ": a block without \"", *ends.begin(), "\"");
      }
      end = parse_one(body, ends);
    }
    return body;
  }
  Body parse_body(std::string_view end) {
    std::string_view found;
    return parse_body({end}, found);
  }
  void finish_tag() { in_.expect(TokenKind::block_end, "\"%}\""); }

  // Text, an output or a statement, which is added to body. At a block tag of one of the names in
  // ends, that name.
  std::string_view parse_one(Body& body, Names ends) {
    const Token& token = in_.next();
    if (token.kind == TokenKind::text) {
      body.push_back(make({.kind = StatementKind::text, .line = token.line, .text = token.text}));
    } else if (token.kind == TokenKind::variable_begin) {
      const Expression* expression = in_.parse_tuple();
      in_.expect(TokenKind::variable_end, "\"}}\"");
      body.push_back(make({.kind = StatementKind::output,
                           .line = token.line,
                           .text = {},
                           .expression = expression}));
    } else {
      const std::string_view name = in_.current().text;
      const auto end = std::ranges::find(ends, name);
      if (in_.current().kind == TokenKind::name && end != ends.end()) {
        in_.next();
        return *end;
      }
      body.push_back(parse_statement());
    }
    return {};
  }

  const Statement* parse_statement() {
    const uint32_t line = in_.current().line;
    const std::string_view name = in_.expect_name("the name of a tag");
    if (name == "for") return parse_for(line);
    if (name == "if") return parse_if(line);
    if (name == "set") return parse_set(line);
    if (name == "macro") return parse_macro(line);
    if (name == "call") return parse_call(line);
    if (name == "filter") return parse_filter(line);
    if (name == "with") return parse_with(line);
    if (name == "generation") {
      Statement made{.kind = StatementKind::scope, .line = line};
      made.body = parse_body("endgeneration");
      return finished(std::move(made));
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) {
        throw Error("line ", line, ": \"", name, "\" outside of a loop");
      }
      const bool is_break = name == "break";
      return finished({.kind = is_break ? StatementKind::loop_break : StatementKind::loop_continue,
                       .line = line});
    }
    throw Error("line ", line, ": the tag \"", excerpt(name),
                "\" is not known; known are for, if, set, macro, call, filter, with, generation, "
                "break, continue and raw");
  }

  const Statement* finished(Statement made) {
    finish_tag();
    return make(std::move(made));
  }

  const Statement* parse_for(uint32_t line) {
    Statement made{.kind = StatementKind::loop, .line = line};
    made.targets.push_back(in_.parse_target(/*with_attributes=*/false));
    if (!in_.skip_name("in")) in_.fail("expected \"in\"");
    made.expression = in_.parse_tuple(Ternary::refused);
    if (in_.skip_name("if")) made.condition = in_.parse_expression();
    if (in_.is_name("recursive")) in_.fail("recursive loops are not supported");
    std::string_view end;
    ++loops_;
    made.body = parse_body({"endfor", "else"}, end);
    --loops_;
    if (end == "else") made.otherwise = parse_body("endfor");
    return finished(std::move(made));
  }

  const Statement* parse_if(uint32_t line) {
    Statement made{.kind = StatementKind::branch, .line = line};
    std::string_view end = "elif";
    while (end == "elif") {
      const Expression* condition = in_.parse_tuple(Ternary::refused);
      made.branches.push_back({condition, parse_body({"endif", "elif", "else"}, end)});
    }
    if (end == "else") made.otherwise = parse_body("endif");
    return finished(std::move(made));
  }

  const Statement* parse_set(uint32_t line) {
    Statement made{.kind = StatementKind::assignment, .line = line};
    made.targets.push_back(in_.parse_target(/*with_attributes=*/true));
    if (in_.skip_symbol("=")) {
      made.expression = in_.parse_tuple();
      return finished(std::move(made));
    }
    made.kind = StatementKind::block_assignment;
    if (in_.skip_symbol("|")) made.filter = in_.parse_filters(nullptr);
    made.body = parse_body("endset");
    return finished(std::move(made));
  }

  // At "(", or not: then there are none.
  std::vector<Parameter> parse_parameters() {
    std::vector<Parameter> parameters;
    if (!in_.skip_symbol("(")) return parameters;
    while (!in_.is_symbol(")")) {
      if (!parameters.empty()) in_.expect_symbol(",");
      if (in_.is_symbol(")")) break;
      Parameter parameter{.name = in_.expect_name("the name of a parameter"), .otherwise = nullptr};
      if (in_.skip_symbol("=")) {
        parameter.otherwise = in_.parse_expression();
      } else if (!parameters.empty() && parameters.back().otherwise != nullptr) {
        in_.fail("a parameter without a default behind one that has one");
      }
      parameters.push_back(parameter);
    }
    in_.next();
    return parameters;
  }

  // The body of a macro is no part of a loop around it.
  Body parse_macro_body(std::string_view end) {
    const uint32_t outer_loops = std::exchange(loops_, 0);
    Body body = parse_body(end);
    loops_ = outer_loops;
    return body;
  }

  const Statement* parse_macro(uint32_t line) {
    Statement made{.kind = StatementKind::macro, .line = line};
    made.text = in_.expect_name("the name of a macro");
    if (!in_.is_symbol("(")) in_.fail("expected \"(\"");
    made.parameters = parse_parameters();
    made.body = parse_macro_body("endmacro");
    return finished(std::move(made));
  }

  const Statement* parse_call(uint32_t line) {
    Statement made{.kind = StatementKind::call_block, .line = line, .text = "caller"};
    made.parameters = parse_parameters();
    made.expression = in_.parse_unary();
    if (made.expression->kind != ExpressionKind::call) in_.fail("expected a call");
    made.body = parse_macro_body("endcall");
    return finished(std::move(made));
  }

  const Statement* parse_filter(uint32_t line) {
    Statement made{.kind = StatementKind::filter_block, .line = line};
    made.filter = in_.parse_filters(nullptr);
    made.body = parse_body("endfilter");
    return finished(std::move(made));
  }

  const Statement* parse_with(uint32_t line) {
    Statement made{.kind = StatementKind::scope, .line = line};
    while (in_.current().kind == TokenKind::name) {
      made.targets.push_back(in_.parse_target(/*with_attributes=*/false));
      in_.expect_symbol("=");
      made.values.push_back(in_.parse_expression());
      if (!in_.skip_symbol(",")) break;
    }
    made.body = parse_body("endwith");
    return finished(std::move(made));
  }

  ExpressionParser in_;
  SyntaxTree& tree_;
  uint32_t loops_ = 0;  // around the statement at hand
};

// With "\n" line breaks, and without the last one.
std::string normalized(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

}  // namespace

std::unique_ptr<const SyntaxTree> parse(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    throw Error("a template of ", source.size(), " bytes; expected at most ", kMaxTemplateBytes);
  }
  if (!utf8_valid(source)) throw Error("the template is not valid UTF-8");
  auto tree = std::make_unique<SyntaxTree>();
  tree->source = normalized(source);
  const std::vector<Token> tokens = tokenize(tree->source, tree->strings);
  tree->body = StatementParser(tokens, *tree).parse_template();
  return tree;
}

}  // namespace sluice::jinja
