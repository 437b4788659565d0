// The codes of a unit (kernels/tiles.h) as codebook numbers in ymm registers, for lanes_tiles.h.
// avx512_tiles.h defines the same names.
#pragma once

#include "kernels/avx2_codes.h"

namespace sluice::kernels {
namespace {

// Vectors that share the decoding of a tile, and tiles that share the loads of their inputs: the
// registers suffice for one alone.
constexpr uint32_t kTileVectors = kCodeVectors;
constexpr uint32_t kTilesAtOnce = 1;

// The bytes of a unit stay in memory: there are fewer registers than loads to spare.
struct UnitBytes {
  const std::byte* at;

  static UnitBytes load(const std::byte* unit) { return {unit}; }
};

inline __m256i load_codes(const std::byte* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// A codebook byte for each place of a vector: rows 0 to 7 are the first half of 64 bytes, rows 8 to
// 15 the second.
struct PlaceBytes {
  __m256i low, high;
};

inline Quad widen(PlaceBytes bytes) { return widen(bytes.low, bytes.high); }
inline void store_bytes(uint8_t* to, PlaceBytes bytes) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes.low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), bytes.high);
}

template <uint32_t kLength>
class TileCodes {
 public:
  static constexpr uint32_t kBits = kLength == 4 ? 2 : kLength == 8 ? 3 : 4;
  static constexpr size_t kUnitBytes = size_t{64} * kBits;
  using Unit = UnitBytes;

  explicit TileCodes(const Codebook& codebook) : entries_(codebook_entries(codebook)) {}

  // Vector kIndex of the unit.
  template <uint32_t kIndex>
  PlaceBytes bytes(Unit unit) const {
    return {look_up(codes<kIndex>(unit.at)), look_up(codes<kIndex>(unit.at + 32))};
  }
  template <uint32_t kIndex>
  Quad quad(Unit unit) const {
    return widen(bytes<kIndex>(unit));
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
  using Unit = UnitBytes;

  explicit TileCodes(const Codebook&) {}

  template <uint32_t kIndex>
  PlaceBytes bytes(Unit unit) const {
    return {load_codes(unit.at + kIndex * 64), load_codes(unit.at + kIndex * 64 + 32)};
  }
  template <uint32_t kIndex>
  Quad quad(Unit unit) const {
    return widen(bytes<kIndex>(unit));
  }
};

// Vector kIndex of a unit, for store_bytes.
template <uint32_t kIndex, typename C>
inline PlaceBytes place_bytes(const C& codes, const typename C::Unit& unit) {
  return codes.template bytes<kIndex>(unit);
}

}  // namespace
}  // namespace sluice::kernels
