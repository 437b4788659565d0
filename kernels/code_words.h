// Codes of 2, 3, 4 or 8 bits between bytes, one a code, and the U32 words of the rows layout.
//
// Eight codes at a time: a word's bits move apart, or together, in three steps over a 64-bit
// number, halves, pairs, then single codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sluice::kernels {
namespace {

template <uint32_t kBits>
constexpr uint32_t kCodesPerWord = 32 / kBits;

// `bits` ones in every `period` bits.
constexpr uint64_t repeated_ones(uint32_t bits, uint32_t period) {
  uint64_t mask = 0;
  for (uint32_t at = 0; at < 64; at += period) mask |= ((uint64_t{1} << bits) - 1) << at;
  return mask;
}

// The lowest 8 codes of `packed` as 8 bytes, and back.
template <uint32_t kBits>
inline uint64_t spread_codes(uint64_t packed) {
  if constexpr (kBits == 8) return packed;
  uint64_t a = packed & ((uint64_t{1} << 8 * (kBits % 8)) - 1);
  a = (a | a << (32 - 4 * kBits)) & repeated_ones(4 * kBits, 32);
  a = (a | a << (16 - 2 * kBits)) & repeated_ones(2 * kBits, 16);
  return (a | a << (8 - kBits)) & repeated_ones(kBits, 8);
}
template <uint32_t kBits>
inline uint64_t gather_codes(uint64_t bytes) {
  if constexpr (kBits == 8) return bytes;
  uint64_t a = (bytes | bytes >> (8 - kBits)) & repeated_ones(2 * kBits, 16);
  a = (a | a >> (16 - 2 * kBits)) & repeated_ones(4 * kBits, 32);
  return (a | a >> (32 - 4 * kBits)) & ((uint64_t{1} << 8 * (kBits % 8)) - 1);
}

// `words` words as bytes. codes: room for words * kCodesPerWord, rounded up to 8, and 8 more.
template <uint32_t kBits>
inline void codes_of_words(const std::byte* from, size_t words, uint8_t* codes) {
  for (size_t i = 0; i < words; ++i, codes += kCodesPerWord<kBits>) {
    uint32_t word;
    std::memcpy(&word, from + i * sizeof(word), sizeof(word));
    if constexpr (kBits == 8) {
      std::memcpy(codes, &word, sizeof(word));
    } else {
      const uint64_t first = spread_codes<kBits>(word);
      std::memcpy(codes, &first, sizeof(first));
      if constexpr (kCodesPerWord < kBits >> 8) {
        const uint64_t second = spread_codes<kBits>(word >> 8 * kBits);
        std::memcpy(codes + 8, &second, sizeof(second));
      }
    }
  }
}

// `count` codes as words, the last one filled up with zeros.
template <uint32_t kBits>
inline void words_of_codes(const uint8_t* codes, size_t count, std::byte* words) {
  constexpr uint32_t kPerWord = kCodesPerWord<kBits>;
  for (; count > 0; words += sizeof(uint32_t)) {
    const size_t here = count < kPerWord ? count : kPerWord;
    uint64_t bytes[2] = {};
    if (here == kPerWord) {
      std::memcpy(bytes, codes, kPerWord);
    } else {
      std::memcpy(bytes, codes, here);
    }
    uint64_t word = gather_codes<kBits>(bytes[0]);
    if constexpr (kPerWord > 8) word |= gather_codes<kBits>(bytes[1]) << 8 * kBits;
    const auto low = static_cast<uint32_t>(word);
    std::memcpy(words, &low, sizeof(low));
    codes += here;
    count -= here;
  }
}

}  // namespace
}  // namespace sluice::kernels
