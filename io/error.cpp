#include "io/error.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <system_error>

namespace sluice {
namespace {

template <class Number, class... Form>
std::string_view digits_of(Number number, std::array<char, 32>& digits, Form... form) {
  char* const end = std::to_chars(digits.begin(), digits.end(), number, form...).ptr;
  return {digits.begin(), end};
}

}  // namespace

Error::Part::Part(long long number) : text_(digits_of(number, digits_)) {}
Error::Part::Part(unsigned long long number) : text_(digits_of(number, digits_)) {}
Error::Part::Part(double number)
    : text_(digits_of(number, digits_, std::chars_format::general, 6)) {}

std::string Error::join(std::initializer_list<Part> parts) {
  std::string message;
  for (const Part& part : parts) message += part.text();
  return message;
}

std::string errno_text(int error) {
  // std::error_code goes through strerror_r; strerror itself may share one buffer between threads.
  return std::generic_category().message(error) + " (errno " + std::to_string(error) + ")";
}

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

std::string excerpt(std::string_view text) {
  constexpr size_t kMaxShown = 160;
  constexpr std::string_view kDigits = "0123456789abcdef";
  size_t shown = std::min(text.size(), kMaxShown);
  // Not in the middle of a UTF-8 character.
  while (shown < text.size() && shown > 0 && (text[shown] & 0xc0) == 0x80) --shown;
  std::string result;
  for (const char c : text.substr(0, shown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      result += c;
    } else {
      result += "\\x";
      result += kDigits[byte >> 4];
      result += kDigits[byte & 15];
    }
  }
  return shown < text.size() ? result + "..." : result;
}

}  // namespace sluice
