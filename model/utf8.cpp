#include "model/utf8.h"

namespace sluice {
namespace {

using Kind = Utf8Head::Kind;

// The range that the second byte of a character must lie in, by its first byte. The narrow ranges
// exclude overlong forms (E0, F0), surrogates (ED) and what lies past U+10FFFF (F4).
struct SecondByte {
  unsigned char low, high;
};
SecondByte second_byte(unsigned char first) {
  switch (first) {
    case 0xE0:
      return {0xA0, 0xBF};
    case 0xED:
      return {0x80, 0x9F};
    case 0xF0:
      return {0x90, 0xBF};
    case 0xF4:
      return {0x80, 0x8F};
    default:
      return {0x80, 0xBF};
  }
}

}  // namespace

Utf8Head utf8_head(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return {Kind::character, 1, first};
  if (first < 0xC2 || first > 0xF4) return {Kind::broken, 1, 0xFFFD};
  const auto length = static_cast<uint32_t>(utf8_length(text[0]));
  char32_t code_point = first & (0x7Fu >> length);
  for (uint32_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Kind::incomplete, i, 0xFFFD};
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto [low, high] = i == 1 ? second_byte(first) : SecondByte{0x80, 0xBF};
    if (byte < low || byte > high) return {Kind::broken, i, 0xFFFD};
    code_point = code_point << 6 | (byte & 0x3Fu);
  }
  return {Kind::character, length, code_point};
}

bool utf8_valid(std::string_view text) {
  while (!text.empty()) {
    const Utf8Head head = utf8_head(text);
    if (head.kind != Kind::character) return false;
    text.remove_prefix(head.bytes);
  }
  return true;
}

std::string utf8_repaired(std::string_view text) {
  std::string out;
  Utf8Repair repair;
  repair.push(text, out);
  repair.finish(out);
  return out;
}

void utf8_append(char32_t code_point, std::string& text) {
  const auto tail = [&](unsigned shift) {
    text += static_cast<char>(0x80 | (code_point >> shift & 0x3F));
  };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xC0 | code_point >> 6);
    tail(0);
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xE0 | code_point >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0 | code_point >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

void Utf8Repair::push(std::string_view bytes, std::string& out) {
  kept_ += bytes;
  std::string_view rest = kept_;
  while (!rest.empty()) {
    const Utf8Head head = utf8_head(rest);
    if (head.kind == Kind::incomplete) break;
    out += head.kind == Kind::character ? rest.substr(0, head.bytes) : kReplacementCharacter;
    rest.remove_prefix(head.bytes);
  }
  kept_.erase(0, kept_.size() - rest.size());
}

void Utf8Repair::finish(std::string& out) {
  if (!kept_.empty()) out += kReplacementCharacter;
  kept_.clear();
}

}  // namespace sluice
