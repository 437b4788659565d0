#include "model/byte_level.h"

#include <array>
#include <cstdint>

#include "model/utf8.h"

namespace sluice {
namespace {

constexpr char32_t kAlphabetEnd = 0x100 + 68;

struct Alphabet {
  std::array<std::string, 256> characters;    // by byte
  std::array<int16_t, kAlphabetEnd> bytes{};  // by code point; -1: not in the alphabet

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const char32_t code_point = printable ? byte : next++;
      utf8_append(code_point, characters[byte]);
      bytes[code_point] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

void append_byte_level(std::string_view bytes, std::string& out) {
  const Alphabet& table = alphabet();
  for (const char byte : bytes) out += table.characters[static_cast<unsigned char>(byte)];
}

void append_bytes_of_token(std::string_view token, std::string& out) {
  const Alphabet& table = alphabet();
  const size_t before = out.size();
  for (std::string_view rest = token; !rest.empty();) {
    const Utf8Head head = utf8_head(rest);
    const int byte = head.code_point < kAlphabetEnd ? table.bytes[head.code_point] : -1;
    if (byte < 0) {
      out.resize(before);
      out += token;
      return;
    }
    out += static_cast<char>(byte);
    rest.remove_prefix(head.bytes);
  }
}

}  // namespace sluice
