#include "model/template/characters.h"

#include <utf8proc.h>

#include <algorithm>

namespace sluice::jinja {
namespace {

utf8proc_category_t category(char32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}
char32_t to_upper(char32_t code_point) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code_point)));
}
char32_t to_lower(char32_t code_point) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point)));
}

// drop(character): whether it goes.
template <class Drop>
std::string_view drop_left(std::string_view text, Drop drop) {
  while (!text.empty()) {
    const size_t bytes = utf8_length(text[0]);
    if (!drop(text.substr(0, bytes))) break;
    text.remove_prefix(bytes);
  }
  return text;
}

template <class Drop>
std::string_view drop_right(std::string_view text, Drop drop) {
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && (text[start] & 0xC0) == 0x80) --start;
    if (!drop(text.substr(start))) break;
    text = text.substr(0, start);
  }
  return text;
}

bool is_space_text(std::string_view character) { return is_space(first_character(character)); }

auto one_of(std::string_view set) {
  return [set](std::string_view character) { return set.find(character) != set.npos; };
}

template <class Change>
std::string changed(std::string_view text, Change change) {
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](std::string_view character) {
    utf8_append(change(first_character(character)), result);
  });
  return result;
}

}  // namespace

bool is_space(char32_t code_point) {
  return is_white_space(code_point) || (code_point >= 0x1C && code_point <= 0x1F);
}

bool is_printable(char32_t code_point) {
  switch (category(code_point)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return code_point == ' ';
    default:
      return true;
  }
}

std::string_view stripped_left(std::string_view text) { return drop_left(text, is_space_text); }
std::string_view stripped_right(std::string_view text) { return drop_right(text, is_space_text); }
std::string_view stripped_left(std::string_view text, std::string_view set) {
  return drop_left(text, one_of(set));
}
std::string_view stripped_right(std::string_view text, std::string_view set) {
  return drop_right(text, one_of(set));
}

size_t character_count(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char byte) { return (byte & 0xC0) != 0x80; }));
}

char32_t first_character(std::string_view text) { return utf8_head(text).code_point; }

std::string upper(std::string_view text) {
  std::string result;
  for_each_character(text, [&result](std::string_view character) {
    const char32_t code_point = first_character(character);
    // The only character of two in capitals that text in a Latin alphabet often has.
    if (code_point == 0xDF) {
      result += "SS";
    } else {
      utf8_append(to_upper(code_point), result);
    }
  });
  return result;
}
std::string lower(std::string_view text) { return changed(text, to_lower); }

std::string title(std::string_view text) {
  bool in_word = false;
  return changed(text, [&in_word](char32_t c) {
    const char32_t result = in_word ? to_lower(c) : to_upper(c);
    in_word = is_upper(c) || is_lower(c);
    return result;
  });
}

std::string capitalized(std::string_view text) {
  bool first = true;
  return changed(text, [&first](char32_t c) {
    const char32_t result = first ? to_upper(c) : to_lower(c);
    first = false;
    return result;
  });
}

bool is_letter(char32_t code_point) {
  const utf8proc_category_t kind = category(code_point);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal_digit(char32_t code_point) { return category(code_point) == UTF8PROC_CATEGORY_ND; }
bool is_upper(char32_t code_point) { return category(code_point) == UTF8PROC_CATEGORY_LU; }
bool is_lower(char32_t code_point) { return category(code_point) == UTF8PROC_CATEGORY_LL; }

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&#34;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace sluice::jinja
