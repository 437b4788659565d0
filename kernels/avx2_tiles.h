// The codes of a unit (kernels/tiles.h) as codebook numbers in ymm registers, for lanes_tiles.h.
// avx512_tiles.h defines the same names.
#pragma once

#include "kernels/avx2_codes.h"

namespace sluice::kernels {
namespace {

// Tiles that share the loads of their inputs: the registers suffice for one alone.
constexpr uint32_t tiles_at_once(uint32_t) { return 1; }

inline __m256i load_codes(const std::byte* from) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
}

template <uint32_t kLength>
class TileCodes {
 public:
  static constexpr uint32_t kBits = kLength == 4 ? 2 : kLength == 8 ? 3 : 4;
  static constexpr size_t kUnitBytes = size_t{64} * kBits;

  explicit TileCodes(const Codebook& codebook) : entries_(codebook_entries(codebook)) {}

  // Vector kIndex of the unit. Rows 0 to 7 are the first half of 64 bytes, rows 8 to 15 the second.
  template <uint32_t kIndex>
  Quad quad(const std::byte* unit) const {
    return widen(look_up(codes<kIndex>(unit)), look_up(codes<kIndex>(unit + 32)));
  }

 private:
  // The vector's codes in the lowest bits of each byte, other bits above them.
  template <uint32_t kIndex>
  static __m256i codes(const std::byte* unit) {
    if constexpr (kBits == 3 && kIndex >= 6) {
      // The upper two bits of each of three bytes, as six bits.
      const auto pair = [unit](int k, int shift) {
        return _mm256_and_si256(_mm256_srli_epi16(load_codes(unit + k * 64), shift),
                                _mm256_set1_epi8(static_cast<char>(3 << (6 - shift))));
      };
      const __m256i six = _mm256_or_si256(_mm256_or_si256(pair(0, 6), pair(1, 4)), pair(2, 2));
      return kIndex == 6 ? six : _mm256_srli_epi16(six, 3);
    } else {
      constexpr uint32_t kPerByte = 8 / kBits;
      constexpr int kShift = kIndex % kPerByte * kBits;
      return _mm256_srli_epi16(load_codes(unit + kIndex / kPerByte * 64), kShift);
    }
  }
  __m256i look_up(__m256i indices) const {
    const __m256i mask = _mm256_set1_epi8(static_cast<char>(kLength - 1));
    return _mm256_shuffle_epi8(entries_, _mm256_and_si256(indices, mask));
  }

  __m256i entries_;
};

// A code of 8 bits is its byte.
template <>
class TileCodes<256> {
 public:
  static constexpr size_t kUnitBytes = 512;

  explicit TileCodes(const Codebook&) {}

  template <uint32_t kIndex>
  Quad quad(const std::byte* unit) const {
    return widen(load_codes(unit + kIndex * 64), load_codes(unit + kIndex * 64 + 32));
  }
};

}  // namespace
}  // namespace sluice::kernels
