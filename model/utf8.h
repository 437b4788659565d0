// UTF-8 as the tokenizer needs it: reading, writing and repairing text.
//
// "Repaired" means what the reference's from_utf8_lossy does: each maximal part of a character that
// is broken off becomes one U+FFFD, and every other byte that cannot start a character becomes one.
// Threads: any for the functions; one for a Utf8Repair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// What stands at the beginning of a text.
struct Utf8Head {
  enum class Kind : uint8_t {
    character,   // `bytes` bytes are the character `code_point`
    broken,      // `bytes` bytes stand for one U+FFFD
    incomplete,  // all that is left (`bytes` bytes) begins a character that more bytes may finish
  };
  Kind kind;
  uint32_t bytes;
  char32_t code_point;  // U+FFFD unless kind is character
};
//   Requires: text is not empty.
Utf8Head utf8_head(std::string_view text);

bool utf8_valid(std::string_view text);
std::string utf8_repaired(std::string_view text);
void utf8_append(char32_t code_point, std::string& text);

// Bytes of the character that starts with this byte of valid UTF-8.
inline size_t utf8_length(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// Unicode's White_Space property.
bool is_white_space(char32_t code_point);

// Repairs a text that arrives in pieces which may end inside a character.
class Utf8Repair {
 public:
  // Appends to out what has become certain; keeps at most three bytes back.
  void push(std::string_view bytes, std::string& out);
  void finish(std::string& out);

 private:
  std::string kept_;
};

}  // namespace sluice
