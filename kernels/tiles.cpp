#include "kernels/tiles.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "kernels/code_words.h"
#include "kernels/kernels.h"

namespace sluice::kernels {
namespace {

constexpr size_t kPlaces = 64;    // codes of a vector
constexpr uint32_t kVectors = 8;  // of a unit
// Inputs taken at once: whole units, and whole words of every number of bits.
constexpr uint32_t kChunk = 160;
constexpr size_t kChunkStride = kChunk + 16;  // codes_of_words writes past the last code

uint32_t bits_of(uint32_t length) { return static_cast<uint32_t>(std::countr_zero(length)); }
size_t tiles_of(uint32_t rows) { return (size_t{rows} + kRowsPerTile - 1) / kRowsPerTile; }

// The vectors of a unit, one byte a code.
struct Unit {
  uint8_t v[kVectors][kPlaces];
};

void to_unit(const uint8_t* indices, size_t stride, Unit& unit) {
  for (size_t r = 0; r < kRowsPerTile; ++r) {
    for (size_t i = 0; i < kVectors; ++i) {
      std::memcpy(unit.v[i] + 4 * r, indices + r * stride + 4 * i, 4);
    }
  }
}

void from_unit(const Unit& unit, uint8_t* indices, size_t stride) {
  for (size_t r = 0; r < kRowsPerTile; ++r) {
    for (size_t i = 0; i < kVectors; ++i) {
      std::memcpy(indices + r * stride + 4 * i, unit.v[i] + 4 * r, 4);
    }
  }
}

template <uint32_t kBits>
void pack_unit(const Unit& unit, std::byte* out) {
  uint8_t bytes[kBits][kPlaces];
  for (size_t p = 0; p < kPlaces; ++p) {
    const auto v = [&](size_t i) -> uint32_t { return unit.v[i][p]; };
    const auto put = [&](size_t k, uint32_t value) { bytes[k][p] = static_cast<uint8_t>(value); };
    if constexpr (kBits == 2) {
      for (size_t k = 0; k < 2; ++k) {
        put(k, v(4 * k) | v(4 * k + 1) << 2 | v(4 * k + 2) << 4 | v(4 * k + 3) << 6);
      }
    } else if constexpr (kBits == 3) {
      const uint32_t w = v(6) | v(7) << 3;
      for (size_t k = 0; k < 3; ++k) {
        put(k, v(2 * k) | v(2 * k + 1) << 3 | (w >> 2 * k & 3) << 6);
      }
    } else if constexpr (kBits == 4) {
      for (size_t k = 0; k < 4; ++k) put(k, v(2 * k) | v(2 * k + 1) << 4);
    } else {
      for (size_t k = 0; k < 8; ++k) put(k, v(k));
    }
  }
  std::memcpy(out, bytes, sizeof(bytes));
}

template <uint32_t kBits>
void unpack_unit(const std::byte* from, Unit& unit) {
  uint8_t bytes[kBits][kPlaces];
  std::memcpy(bytes, from, sizeof(bytes));
  constexpr uint32_t kMask = (1u << kBits) - 1;
  for (size_t p = 0; p < kPlaces; ++p) {
    const auto put = [&](size_t i, uint32_t value) {
      unit.v[i][p] = static_cast<uint8_t>(value & kMask);
    };
    if constexpr (kBits == 3) {
      uint32_t w = 0;
      for (size_t k = 0; k < 3; ++k) {
        put(2 * k, bytes[k][p]);
        put(2 * k + 1, static_cast<uint32_t>(bytes[k][p]) >> 3);
        w |= static_cast<uint32_t>(bytes[k][p]) >> 6 << 2 * k;
      }
      put(6, w);
      put(7, w >> 3);
    } else {
      constexpr size_t kPerByte = 8 / kBits;
      for (size_t i = 0; i < kVectors; ++i) {
        put(i, static_cast<uint32_t>(bytes[i / kPerByte][p]) >> i % kPerByte * kBits);
      }
    }
  }
}

template <uint32_t kBits>
void pack_indices(const uint8_t* indices, size_t stride, uint32_t cols, std::byte* codes) {
  Unit unit;
  for (uint32_t col = 0; col < cols; col += kUnitInputs, codes += kBits * kPlaces) {
    to_unit(indices + col, stride, unit);
    pack_unit<kBits>(unit, codes);
  }
}

// Words that hold the codes of `cols` inputs.
template <uint32_t kBits>
size_t words_for(uint32_t cols) {
  return (size_t{cols} + kCodesPerWord<kBits> - 1) / kCodesPerWord<kBits>;
}

// Calls each(rows, codes) for every tile: its first row's words, how many of its rows exist, and
// its place among the codes.
template <uint32_t kBits, typename Words, typename Codes, typename Each>
void for_each_tile(const TileShape& shape, Words* words, Codes* codes, Each each) {
  const size_t row_bytes = words_for<kBits>(shape.cols) * sizeof(uint32_t);
  const size_t code_bytes = size_t{shape.cols} / kUnitInputs * kBits * kPlaces;
  for (uint32_t row = 0; row < shape.rows; row += kRowsPerTile) {
    each(words, row_bytes, std::min(shape.rows - row, kRowsPerTile), codes);
    if (shape.rows - row <= kRowsPerTile) break;
    words += row_bytes * kRowsPerTile;
    codes += code_bytes;
  }
}

template <uint32_t kBits>
void pack_codes(const TileShape& shape, const std::byte* words, std::byte* codes) {
  const auto pack_one = [&](const std::byte* rows, size_t row_bytes, uint32_t count,
                            std::byte* out) {
    uint8_t indices[kRowsPerTile][kChunkStride] = {};
    for (uint32_t col = 0; col < shape.cols;) {
      const uint32_t here = std::min(kChunk, shape.cols - col);
      for (uint32_t r = 0; r < count; ++r) {
        codes_of_words<kBits>(rows + r * row_bytes + words_for<kBits>(col) * sizeof(uint32_t),
                              words_for<kBits>(here), indices[r]);
      }
      pack_indices<kBits>(indices[0], kChunkStride, here, out);
      out += size_t{here} / kUnitInputs * kBits * kPlaces;
      col += here;
    }
  };
  for_each_tile<kBits>(shape, words, codes, pack_one);
}

template <uint32_t kBits>
void unpack_codes(const TileShape& shape, const std::byte* codes, std::byte* words) {
  const auto unpack_one = [&](std::byte* rows, size_t row_bytes, uint32_t count,
                              const std::byte* from) {
    uint8_t indices[kRowsPerTile][kChunkStride];
    Unit unit;
    for (uint32_t col = 0; col < shape.cols;) {
      const uint32_t here = std::min(kChunk, shape.cols - col);
      for (uint32_t i = 0; i < here; i += kUnitInputs, from += kBits * kPlaces) {
        unpack_unit<kBits>(from, unit);
        from_unit(unit, indices[0] + i, kChunkStride);
      }
      for (uint32_t r = 0; r < count; ++r) {
        words_of_codes<kBits>(indices[r], here,
                              rows + r * row_bytes + words_for<kBits>(col) * sizeof(uint32_t));
      }
      col += here;
    }
  };
  for_each_tile<kBits>(shape, words, codes, unpack_one);
}

// Which of a tiled matrix's scales is that of a row and group.
size_t tile_scale_index(uint32_t row, uint32_t group, uint32_t groups) {
  return (size_t{row} / kRowsPerTile * groups + group) * kRowsPerTile + row % kRowsPerTile;
}

// Calls each(scale in rows, scale in tiles) for every scale of the matrix: places in bytes.
template <typename Each>
void for_each_scale(const TileShape& shape, Each each) {
  const uint32_t groups = shape.cols / shape.group;
  size_t in_rows = 0;
  for (uint32_t row = 0; row < shape.rows; ++row) {
    for (uint32_t g = 0; g < groups; ++g, in_rows += shape.scale_bytes) {
      each(in_rows, tile_scale_index(row, g, groups) * shape.scale_bytes);
    }
  }
}

}  // namespace

bool has_tiles(uint32_t cols, uint32_t group, uint32_t length) {
  const bool length_is_known = length == 4 || length == 8 || length == 16 || length == 256;
  const bool group_is_known = group == 32 || group == 64 || group == 128;
  return length_is_known && group_is_known && cols > 0 && cols % group == 0;
}

size_t tile_bytes(uint32_t rows, uint32_t cols, uint32_t length) {
  return tiles_of(rows) * (cols / kUnitInputs) * bits_of(length) * kPlaces;
}

size_t tile_scale_bytes(uint32_t rows, uint32_t cols, uint32_t group, uint32_t scale_bytes) {
  return tiles_of(rows) * (cols / group) * kRowsPerTile * scale_bytes;
}

void pack_tiles(const TileShape& shape, const std::byte* words, const std::byte* scales,
                std::byte* codes, std::byte* tile_scales) {
  assert(has_tiles(shape.cols, shape.group, shape.length));
  switch (shape.length) {
    case 4:
      pack_codes<2>(shape, words, codes);
      break;
    case 8:
      pack_codes<3>(shape, words, codes);
      break;
    case 16:
      pack_codes<4>(shape, words, codes);
      break;
    default:
      pack_codes<8>(shape, words, codes);
  }
  std::memset(tile_scales, 0,
              tile_scale_bytes(shape.rows, shape.cols, shape.group, shape.scale_bytes));
  for_each_scale(shape, [&](size_t in_rows, size_t in_tiles) {
    std::memcpy(tile_scales + in_tiles, scales + in_rows, shape.scale_bytes);
  });
}

void unpack_tiles(const TileShape& shape, const std::byte* codes, const std::byte* tile_scales,
                  std::byte* words, std::byte* scales) {
  assert(has_tiles(shape.cols, shape.group, shape.length));
  switch (shape.length) {
    case 4:
      unpack_codes<2>(shape, codes, words);
      break;
    case 8:
      unpack_codes<3>(shape, codes, words);
      break;
    case 16:
      unpack_codes<4>(shape, codes, words);
      break;
    default:
      unpack_codes<8>(shape, codes, words);
  }
  for_each_scale(shape, [&](size_t in_rows, size_t in_tiles) {
    std::memcpy(scales + in_rows, tile_scales + in_tiles, shape.scale_bytes);
  });
}

void pack_tile(const uint8_t* indices, size_t stride, uint32_t cols, uint32_t length,
               std::byte* codes) {
  switch (length) {
    case 4:
      return pack_indices<2>(indices, stride, cols, codes);
    case 8:
      return pack_indices<3>(indices, stride, cols, codes);
    case 16:
      return pack_indices<4>(indices, stride, cols, codes);
    default:
      return pack_indices<8>(indices, stride, cols, codes);
  }
}

}  // namespace sluice::kernels
