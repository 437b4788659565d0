#include <cctype>
#include <charconv>
#include <optional>

#include "io/error.h"
#include "model/template/token.h"
#include "model/utf8.h"

namespace sluice::jinja {
namespace {

std::optional<char> simple_escape(char c) {
  switch (c) {
    case '\\':
    case '\'':
    case '"':
      return c;
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'v':
      return '\v';
    default:
      return std::nullopt;
  }
}

// Reads exactly `count` digits at the beginning of rest.
char32_t read_hexadecimal(std::string_view rest, size_t count) {
  uint32_t code_point = 0;
  const char* end = rest.data() + std::min(count, rest.size());
  const auto [stop, error] = std::from_chars(rest.data(), end, code_point, 16);
  if (rest.size() < count || stop != rest.data() + count || error != std::errc()) {
    throw Error("an escape in a string has fewer than ", count, " hexadecimal digits");
  }
  if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000)) {
    throw Error("an escape in a string is no Unicode character");
  }
  return code_point;
}

}  // namespace

std::string unescape(std::string_view literal) {
  std::string text;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      text += literal[i];
      continue;
    }
    const char c = literal[++i];
    const std::string_view rest = literal.substr(i + 1);
    if (const auto simple = simple_escape(c)) {
      text += *simple;
    } else if (c == '\n') {
      // A line that goes on.
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      utf8_append(read_hexadecimal(rest, digits), text);
      i += digits;
    } else if (c >= '0' && c <= '7') {
      char32_t code_point = 0;
      size_t digits = 0;
      for (; digits < 3 && i + digits < literal.size(); ++digits) {
        const char digit = literal[i + digits];
        if (digit < '0' || digit > '7') break;
        code_point = code_point * 8 + static_cast<char32_t>(digit - '0');
      }
      utf8_append(code_point, text);
      i += digits - 1;
    } else if (c == 'N') {
      throw Error("characters by name (\\N{...}) are not supported; write them, or \\uXXXX");
    } else {
      text += '\\';
      text += c;
    }
  }
  return text;
}

}  // namespace sluice::jinja
