// The codes of a unit (kernels/tiles.h) as codebook bytes in zmm registers, for lanes_tiles.h.
// avx2_tiles.h defines the same names.
//
// vpermb looks up the lowest six bits of each byte, and a codebook of 64 entries may look at any of
// them: so a code that lies within those six needs neither shift nor mask.
#pragma once

#include "kernels/avx512_codes.h"

namespace sluice::kernels {
namespace {

// Vectors that share the decoding of a tile, and tiles that share the loads of their inputs. A dot
// product is a chain of additions, 4 cycles each; one vector alone has two chains a tile, which
// would leave the multiplier idle half of the time. With many vectors, four of two tiles take as
// many registers as eight of one, and half of the loads.
constexpr uint32_t kTileVectors = 4;
constexpr uint32_t kTilesAtOnce = 2;

// The bytes of a unit, loaded once. The empty instruction hides where they come from: GCC 12 would
// rather load them again for each of a byte's codes, and loads are what the loop has most of.
template <uint32_t kBits>
struct UnitBytes {
  __m512i v[kBits];

  static UnitBytes load(const std::byte* unit) {
    UnitBytes bytes;
    for (uint32_t k = 0; k < kBits; ++k) {
      bytes.v[k] = _mm512_loadu_si512(unit + size_t{64} * k);
      __asm__("" : "+v"(bytes.v[k]));
    }
    return bytes;
  }
};

// Entry i: the byte of the code in bits [kShift, kShift + kBits) of i.
template <uint32_t kBits, uint32_t kShift>
inline __m512i codebook_table(const Codebook& codebook) {
  alignas(64) uint8_t entries[64];
  for (uint32_t i = 0; i < 64; ++i) {
    entries[i] = code_byte(codebook, (i >> kShift) & ((1u << kBits) - 1));
  }
  return _mm512_load_si512(entries);
}

inline void store_bytes(uint8_t* to, Quad quad) { _mm512_storeu_si512(to, quad.v); }

template <uint32_t kLength>
class TileCodes;

// quad<i>: vector i of a unit.
template <>
class TileCodes<4> {
 public:
  static constexpr size_t kUnitBytes = 128;
  using Unit = UnitBytes<2>;

  explicit TileCodes(const Codebook& codebook)
      : tables_{codebook_table<2, 0>(codebook), codebook_table<2, 2>(codebook),
                codebook_table<2, 4>(codebook)} {}

  template <uint32_t kIndex>
  Quad quad(const Unit& unit) const {
    const __m512i codes = unit.v[kIndex / 4];
    if constexpr (kIndex % 4 == 3) {
      return {_mm512_permutexvar_epi8(_mm512_srli_epi16(codes, 2), tables_[2])};
    } else {
      return {_mm512_permutexvar_epi8(codes, tables_[kIndex % 4])};
    }
  }

 private:
  __m512i tables_[3];
};

template <>
class TileCodes<8> {
 public:
  static constexpr size_t kUnitBytes = 192;
  using Unit = UnitBytes<3>;

  explicit TileCodes(const Codebook& codebook)
      : tables_{codebook_table<3, 0>(codebook), codebook_table<3, 3>(codebook)} {}

  template <uint32_t kIndex>
  Quad quad(const Unit& unit) const {
    if constexpr (kIndex < 6) {
      const __m512i codes = unit.v[kIndex / 2];
      return {_mm512_permutexvar_epi8(codes, tables_[kIndex % 2])};
    } else {
      return {_mm512_permutexvar_epi8(last_two(unit), tables_[kIndex % 2])};
    }
  }

 private:
  // Vectors 6 and 7, whose bits are the upper two of each byte.
  static __m512i last_two(const Unit& unit) {
    constexpr int kSelect = 0xca;  // the second where the first is 1, else the third
    const __m512i bits_01 = _mm512_srli_epi16(unit.v[0], 6);
    const __m512i bits_23 = _mm512_srli_epi16(unit.v[1], 4);
    const __m512i bits_45 = _mm512_srli_epi16(unit.v[2], 2);
    const __m512i upper =
        _mm512_ternarylogic_epi32(_mm512_set1_epi8(0x30), bits_45, bits_23, kSelect);
    return _mm512_ternarylogic_epi32(_mm512_set1_epi8(0x3c), upper, bits_01, kSelect);
  }

  __m512i tables_[2];
};

template <>
class TileCodes<16> {
 public:
  static constexpr size_t kUnitBytes = 256;
  using Unit = UnitBytes<4>;

  explicit TileCodes(const Codebook& codebook) : table_(codebook_table<4, 0>(codebook)) {}

  template <uint32_t kIndex>
  Quad quad(const Unit& unit) const {
    const __m512i codes = unit.v[kIndex / 2];
    const __m512i indices = kIndex % 2 == 0 ? codes : _mm512_srli_epi16(codes, 4);
    return {_mm512_permutexvar_epi8(indices, table_)};
  }

 private:
  __m512i table_;
};

// A code of 8 bits is its byte.
template <>
class TileCodes<256> {
 public:
  static constexpr size_t kUnitBytes = 512;
  using Unit = UnitBytes<8>;

  explicit TileCodes(const Codebook&) {}

  template <uint32_t kIndex>
  Quad quad(const Unit& unit) const {
    return {unit.v[kIndex]};
  }
};

// Vector kIndex of a unit, for store_bytes.
template <uint32_t kIndex, typename C>
inline Quad place_bytes(const C& codes, const typename C::Unit& unit) {
  return codes.template quad<kIndex>(unit);
}

}  // namespace
}  // namespace sluice::kernels
