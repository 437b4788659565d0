// Strings as Python sees them: characters are code points, white space is Unicode's.
// All texts are valid UTF-8. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "model/utf8.h"

namespace sluice::jinja {

bool is_space(char32_t code_point);      // str.isspace()
bool is_printable(char32_t code_point);  // str.isprintable()

// Without white space, or without the characters in `set`, on either side.
std::string_view stripped_left(std::string_view text);
std::string_view stripped_right(std::string_view text);
std::string_view stripped_left(std::string_view text, std::string_view set);
std::string_view stripped_right(std::string_view text, std::string_view set);

size_t character_count(std::string_view text);
// Calls use(character) for each, which is a piece of text.
template <class Use>
void for_each_character(std::string_view text, Use use);
//   Requires: text is not empty.
char32_t first_character(std::string_view text);

// One character for each, but for the German sharp s, whose capitals are two.
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string title(std::string_view text);  // the first letter of each word upper, others lower
std::string capitalized(std::string_view text);  // the first character upper, the rest lower

bool is_letter(char32_t code_point);
bool is_decimal_digit(char32_t code_point);
bool is_upper(char32_t code_point);
bool is_lower(char32_t code_point);

// For HTML: & < > " '
std::string escaped(std::string_view text);

template <class Use>
void for_each_character(std::string_view text, Use use) {
  while (!text.empty()) {
    const size_t bytes = utf8_length(text[0]);
    use(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
}

}  // namespace sluice::jinja
