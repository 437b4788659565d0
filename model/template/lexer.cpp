#include <algorithm>
#include <optional>

#include "io/error.h"
#include "model/template/characters.h"
#include "model/template/token.h"

namespace sluice::jinja {
namespace {

// Longer ones first.
constexpr std::string_view kSymbols[] = {"==", "!=", ">=", "<=", "//", "**", "+", "-", "/",
                                         "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                         ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}
bool is_name(char c) { return is_name_start(c) || is_digit(c); }

class Lexer {
 public:
  Lexer(std::string_view source, std::deque<std::string>& strings)
      : source_(source), strings_(strings) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) lex_text();
    add(TokenKind::end, {});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string_view message) const {
    throw Error("line ", line_, ": ", message);
  }
  bool at(std::string_view text) const { return source_.substr(at_).starts_with(text); }
  void add(TokenKind kind, std::string_view text) {
    tokens_.push_back({.kind = kind, .line = line_, .text = text});
  }
  void advance_to(size_t place) {
    line_ +=
        static_cast<uint32_t>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                         source_.begin() + static_cast<ptrdiff_t>(place), '\n'));
    at_ = place;
  }
  void skip_white_space() {
    advance_to(source_.size() - stripped_left(source_.substr(at_)).size());
  }

  // The next place where a tag or comment begins, or the end.
  size_t find_tag(size_t from) const {
    while ((from = source_.find('{', from)) != std::string_view::npos) {
      const char next = from + 1 < source_.size() ? source_[from + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return from;
      ++from;
    }
    return source_.size();
  }

  // Text up to a tag, and the tag.
  void lex_text() {
    const size_t tag = find_tag(at_);
    if (tag == source_.size()) {
      add(TokenKind::text, source_.substr(at_));
      advance_to(tag);
      return;
    }
    add_text_before(tag);
    const char kind = source_[tag + 1];
    advance_to(tag + 2);
    if (at("-") || at("+")) ++at_;
    if (kind == '#') return skip_comment();
    if (kind == '%' && lex_raw()) return;
    add(kind == '{' ? TokenKind::variable_begin : TokenKind::block_begin, {});
    lex_expression(kind == '{');
  }

  // at_ .. tag is text; how much of its end stays depends on the tag.
  void add_text_before(size_t tag) {
    std::string_view text = source_.substr(at_, tag - at_);
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    if (sign == '-') {
      text = stripped_right(text);
    } else if (sign != '+' && source_[tag + 1] != '{') {
      const size_t line_start = text.rfind('\n') + 1;  // npos + 1 is 0
      if ((line_start > 0 || line_starting_) && stripped_left(text.substr(line_start)).empty()) {
        text = text.substr(0, line_start);
      }
    }
    if (!text.empty()) add(TokenKind::text, text);
  }

  // Consumes the end of a block tag or comment if it stands here: "-%}" with white space behind
  // it, "+%}", or "%}" with a line break behind it.
  bool end_tag(std::string_view end) {
    const std::string_view rest = source_.substr(at_);
    const bool strip = rest.starts_with('-') && rest.substr(1).starts_with(end);
    const bool keep = rest.starts_with('+') && rest.substr(1).starts_with(end);
    if (!strip && !keep && !rest.starts_with(end)) return false;
    advance_to(at_ + end.size() + (strip || keep ? 1 : 0));
    if (strip) skip_white_space();
    if (!strip && !keep && at("\n")) advance_to(at_ + 1);
    line_starting_ = source_[at_ - 1] == '\n';
    return true;
  }

  void skip_comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) fail("a comment that does not end");
    const bool sign = end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+');
    advance_to(sign ? end - 1 : end);
    end_tag("#}");
  }

  // {% raw %}: everything up to {% endraw %} is text. at_: behind "{%" and its sign.
  bool lex_raw() {
    const std::string_view rest = stripped_left(source_.substr(at_));
    if (!rest.starts_with("raw") || (rest.size() > 3 && is_name(rest[3]))) return false;
    advance_to(source_.size() - rest.size() + 3);
    skip_white_space();
    if (at("-%}")) {
      advance_to(at_ + 3);
      skip_white_space();
    } else if (at("%}")) {
      advance_to(at_ + 2);
    } else {
      fail("expected the end of the tag \"raw\"");
    }
    line_starting_ = source_[at_ - 1] == '\n';
    for (size_t from = at_; (from = source_.find("{%", from)) != std::string_view::npos; ++from) {
      std::string_view tag = source_.substr(from + 2);
      if (tag.starts_with('-') || tag.starts_with('+')) tag.remove_prefix(1);
      tag = stripped_left(tag);
      if (!tag.starts_with("endraw")) continue;
      add_text_before(from);
      advance_to(source_.size() - tag.size() + 6);
      skip_white_space();
      if (!end_tag("%}")) fail("expected the end of the tag \"endraw\"");
      return true;
    }
    fail("\"raw\" without \"endraw\"");
  }

  // at_: behind the beginning of a tag. Brackets are counted, since "}}" may end two dicts.
  void lex_expression(bool is_variable) {
    std::vector<char> open;
    while (true) {
      skip_white_space();
      if (at_ == source_.size()) fail("a tag that does not end");
      if (open.empty() && is_variable && (at("}}") || at("-}}"))) {
        const bool strip = at("-");
        add(TokenKind::variable_end, {});
        advance_to(at_ + (strip ? 3 : 2));
        if (strip) skip_white_space();
        line_starting_ = source_[at_ - 1] == '\n';
        return;
      }
      if (open.empty() && !is_variable) {
        const uint32_t line = line_;
        if (end_tag("%}")) {
          tokens_.push_back({.kind = TokenKind::block_end, .line = line, .text = {}});
          return;
        }
      }
      lex_token(open);
    }
  }

  void lex_token(std::vector<char>& open) {
    const char c = source_[at_];
    if (is_digit(c)) return lex_number();
    if (c == '"' || c == '\'') return lex_string(c);
    if (is_name_start(c)) {
      size_t end = at_;
      while (end < source_.size() && is_name(source_[end])) ++end;
      add(TokenKind::name, source_.substr(at_, end - at_));
      at_ = end;
      return;
    }
    const auto symbol =
        std::ranges::find_if(kSymbols, [this](std::string_view s) { return at(s); });
    if (symbol == std::end(kSymbols)) fail("unexpected character \"" + std::string(1, c) + "\"");
    balance(*symbol, open);
    add(TokenKind::symbol, *symbol);
    at_ += symbol->size();
  }

  void balance(std::string_view symbol, std::vector<char>& open) const {
    if (symbol == "(") open.push_back(')');
    if (symbol == "[") open.push_back(']');
    if (symbol == "{") open.push_back('}');
    if (symbol == ")" || symbol == "]" || symbol == "}") {
      if (open.empty() || open.back() != symbol[0]) {
        fail("unexpected \"" + std::string(symbol) + "\"");
      }
      open.pop_back();
    }
  }

  // Digits with single underscores between them, from `from` on; where they end.
  template <class IsDigit>
  size_t digits_end(size_t from, IsDigit is_one) const {
    size_t end = from;
    while (end < source_.size()) {
      const bool underscore = source_[end] == '_' && end > from && end + 1 < source_.size();
      if (!is_one(source_[underscore ? end + 1 : end])) break;
      end += underscore ? 2 : 1;
    }
    return end;
  }

  void lex_number() {
    const auto hexadecimal = [](char c) {
      return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    };
    const char prefix = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : 0;
    TokenKind kind = TokenKind::integer;
    size_t end = 0;
    if (source_[at_] == '0' && (prefix == 'x' || prefix == 'o' || prefix == 'b')) {
      end = digits_end(at_ + 2, hexadecimal);
    } else {
      end = digits_end(at_, is_digit);
      // "x.1.2" is two subscripts, not a float.
      const bool behind_dot = at_ > 0 && source_[at_ - 1] == '.';
      if (!behind_dot) {
        if (const size_t real_end = fraction_end(end); real_end > end) {
          end = real_end;
          kind = TokenKind::real;
        }
      }
    }
    std::string number(source_.substr(at_, end - at_));
    std::erase(number, '_');
    add(kind, strings_.emplace_back(std::move(number)));
    at_ = end;
  }

  // Where a fraction or an exponent that begins at `from` ends; `from` if there is none.
  size_t fraction_end(size_t from) const {
    size_t end = from;
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
      end = digits_end(end + 1, is_digit);
    }
    if (end < source_.size() && (source_[end] | 0x20) == 'e') {
      size_t exponent = end + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) {
        ++exponent;
      }
      if (exponent < source_.size() && is_digit(source_[exponent])) {
        end = digits_end(exponent, is_digit);
      }
    }
    return end;
  }

  void lex_string(char quote) {
    size_t end = at_ + 1;
    bool escaped = false;
    while (end < source_.size() && source_[end] != quote) {
      if (source_[end] == '\\') {
        escaped = true;
        ++end;
      }
      ++end;
    }
    if (end >= source_.size()) fail("a string that does not end");
    const std::string_view content = source_.substr(at_ + 1, end - at_ - 1);
    try {
      add(TokenKind::string, escaped ? strings_.emplace_back(unescape(content)) : content);
    } catch (const Error& error) {
      fail(error.what());
    }
    advance_to(end + 1);
  }

  std::string_view source_;
  std::deque<std::string>& strings_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  bool line_starting_ = true;  // the last tag ended with a line break, or there was none
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, std::deque<std::string>& strings) {
  return Lexer(source, strings).run();
}

}  // namespace sluice::jinja
