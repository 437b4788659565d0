#include "io/checksum.h"

#include <xxhash.h>

#include <charconv>

namespace sluice {

uint64_t checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::string checksum_text(uint64_t value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(kChecksumDigits, '0');
  for (size_t i = kChecksumDigits; i-- > 0; value >>= 4) text[i] = kDigits[value & 15];
  return text;
}

std::optional<uint64_t> parse_checksum(std::string_view text) {
  if (text.size() != kChecksumDigits || text.find_first_not_of("0123456789abcdef") != text.npos) {
    return std::nullopt;
  }
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return value;
}

}  // namespace sluice
