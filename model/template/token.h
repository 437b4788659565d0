// Tokens of a template: the text between tags, and what stands within them.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::jinja {

enum class TokenKind : uint8_t {
  text,            // between tags
  variable_begin,  // {{
  variable_end,    // }}
  block_begin,     // {%
  block_end,       // %}
  name,
  string,   // unescaped
  integer,  // without underscores, with its 0x, 0o or 0b
  real,
  symbol,  // + - == and so on
  end,
};

struct Token {
  TokenKind kind;
  uint32_t line;          // from 1
  std::string_view text;  // into the source or into the strings that were given
};

// Cuts a template into tokens, as the reference does with trim_blocks and lstrip_blocks on: the
// line break behind a block tag or a comment goes, and so does the white space before one that
// begins its line; "-" inside a tag takes all white space on its side, "+" keeps it.
//   source: valid UTF-8 with "\n" line breaks; must outlive the tokens.
//   strings: takes what is not in the source as it is. The last token is `end`.
// Throws Error, beginning with "line N: ". O(n).
std::vector<Token> tokenize(std::string_view source, std::deque<std::string>& strings);

// The content of a string literal, without its quotes, unescaped as in Python.
// Throws Error: an escape that is cut, or one of half a surrogate pair.
std::string unescape(std::string_view literal);

}  // namespace sluice::jinja
