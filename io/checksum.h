// Checksums: XXH3, 64 bits, over bytes at hand. They tell damage from sound data, not forgery.
// Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sluice {

// XXH3_64bits with seed 0 and the default secret, the same on every machine.
uint64_t checksum(std::span<const std::byte> bytes);

inline constexpr size_t kChecksumDigits = 16;
// As files carry it: 16 lowercase hexadecimal digits, the highest first.
std::string checksum_text(uint64_t value);
// nullopt unless text is exactly that.
std::optional<uint64_t> parse_checksum(std::string_view text);

}  // namespace sluice
