// 16 integers of an affine row as 16-bit words of a ymm register; for the instruction sets' own
// files, AVX2 and up.
//
// Each word takes the two bytes that its integer lies in, a multiplication moves the integer to the
// word's highest bits, and a shift from there to the lowest.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace sluice::kernels {
namespace {

template <uint32_t kBits>
struct AffinePlaces {
  alignas(32) uint8_t bytes[32];
  alignas(32) uint16_t factors[16];

  constexpr AffinePlaces() : bytes(), factors() {
    for (uint32_t i = 0; i < 16; ++i) {
      const uint32_t byte = i * kBits / 8, shift = i * kBits % 8;
      bytes[2 * i] = static_cast<uint8_t>(byte);
      bytes[2 * i + 1] = static_cast<uint8_t>(shift + kBits > 8 ? byte + 1 : 0x80);  // 0x80: zero
      factors[i] = static_cast<uint16_t>(1u << (16 - kBits - shift));
    }
  }
};

// from: the first integer's byte, of which a multiple of 16 lie before in the row.
template <uint32_t kBits>
inline __m256i affine_words(const std::byte* from) {
  static constexpr AffinePlaces<kBits> kPlaces;
  const auto constant = [](const void* place) {
    return _mm256_load_si256(static_cast<const __m256i*>(place));
  };
  const __m256i twice =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  const __m256i spread = _mm256_shuffle_epi8(twice, constant(kPlaces.bytes));
  return _mm256_srli_epi16(_mm256_mullo_epi16(spread, constant(kPlaces.factors)), 16 - kBits);
}

}  // namespace
}  // namespace sluice::kernels
