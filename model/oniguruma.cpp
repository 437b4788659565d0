// pcre2_from_oniguruma: one pass over the pattern that copies, translates or refuses each
// construct.
#include <cctype>
#include <string>
#include <string_view>

#include "io/error.h"
#include "model/split_regex.h"

namespace sluice {
namespace {

class Translation {
 public:
  Translation(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      switch (pattern_[at_]) {
        case '\\':
          escape();
          break;
        case '[':
          character_class();
          break;
        case '(':
          group();
          break;
        case '{':
          interval();
          break;
        default:
          copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  char peek(size_t ahead) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  void copy(size_t bytes) {
    out_ += pattern_.substr(at_, bytes);
    at_ += bytes;
  }
  void replace(size_t bytes, std::string_view with) {
    out_ += with;
    at_ += bytes;
  }
  [[noreturn]] void refuse(size_t bytes, std::string_view what) const {
    throw Error(where_, ": the pattern has ", what, " (\"", pattern_.substr(at_, bytes),
                "\" at byte ", at_, "), which Sluice does not support");
  }

  // Escapes that mean the same inside and outside a class. Escaped punctuation is itself.
  void escape() {
    const char kind = peek(1);
    if (kind == 's') return replace(2, "\\p{White_Space}");
    if (kind == 'S') return replace(2, "\\P{White_Space}");
    if (kind == 'p' || kind == 'P') return property();
    if (kind == 'x' && peek(2) != '{') refuse(2, "a byte escape");
    if (kind == 'u') return code_unit();
    const bool same = std::string_view("dDnrtfaexAzZ").find(kind) != std::string_view::npos;
    const bool letter_or_digit = std::isalnum(static_cast<unsigned char>(kind)) != 0;
    if (kind == '\0' || (letter_or_digit && !same)) refuse(2, "an escape");
    copy(2);
  }

  // \p{Name}, whole, so that its braces are not taken for an interval.
  void property() {
    const size_t close = pattern_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) refuse(3, "a property without braces");
    copy(close + 1 - at_);
  }

  // \uHHHH
  void code_unit() {
    for (size_t i = 2; i < 6; ++i) {
      if (std::isxdigit(static_cast<unsigned char>(peek(i))) == 0) refuse(6, "an escape");
    }
    const std::string digits(pattern_.substr(at_ + 2, 4));
    replace(6, "\\x{" + digits + "}");
  }

  void character_class() {
    copy(1);
    if (peek(0) == '^') copy(1);
    if (peek(0) == ']') refuse(1, "an empty class");
    while (peek(0) != ']') {
      if (at_ >= pattern_.size()) refuse(0, "a class without an end");
      if (peek(0) == '[') refuse(2, "a class inside a class");
      if (next_is("&&")) refuse(2, "an intersection of classes");
      if (peek(0) == '\\') {
        escape();
      } else {
        copy(1);
      }
    }
    copy(1);
  }

  // "(", "(?:", "(?i:", "(?-i:", look-around and atomic groups. A bare (?i) is refused: how far it
  // reaches over alternatives differs.
  void group() {
    if (peek(1) == '*') refuse(2, "a verb");
    if (peek(1) != '?') return copy(1);
    for (const std::string_view known :
         {"(?:", "(?i:", "(?-i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (next_is(known)) return copy(known.size());
    }
    refuse(4, "a group");
  }

  // "{2}", "{1,3}", "{1,}", "{,3}"; anything else is a literal brace in both. A "+" behind an
  // interval repeats it in Ruby and makes it possessive in PCRE2.
  void interval() {
    const size_t close = pattern_.find('}', at_);
    const size_t length = close == std::string_view::npos ? 0 : close + 1 - at_;
    const std::string_view inside = length < 3 ? "" : pattern_.substr(at_ + 1, length - 2);
    if (inside.empty() || inside == "," ||
        inside.find_first_not_of("0123456789,") != std::string_view::npos) {
      return copy(1);
    }
    if (peek(length) == '+') refuse(length + 1, "a repeated interval");
    if (inside.front() == ',') {
      replace(2, "{0,");
      copy(length - 2);
    } else {
      copy(length);
    }
  }

  std::string_view pattern_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string pcre2_from_oniguruma(std::string_view pattern, const std::string& where) {
  return Translation(pattern, where).run();
}

}  // namespace sluice
