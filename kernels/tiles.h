// Tiles: the kernels' own order for TurboQuant matrices of 2, 3, 4 or 8 bits and for MXFP4, and its
// packing.
//
// Rows come in tiles of 16, inputs in units of 32. A missing row of the last tile has codes and
// scales of 0. A unit is 8 vectors of 64 codes, one for each four inputs, in the order that a dot
// product of four bytes a lane wants:
//
//   place 4r + c of vector i: the code of row r and input 4i + c of the unit
//
// so that 16 rows advance at once by 4 inputs, without a transposition. The unit's bytes are as
// many times 64 as a code has bits. Byte p of each 64 holds codes of place p (lowest bit right):
//
//   2 bits   byte 64k + p          v[4k+3] v[4k+2] v[4k+1] v[4k]                      k = 0, 1
//   3 bits   byte 64k + p          2 bits of w, v[2k+1], v[2k]                        k = 0, 1, 2
//            w = v[7] v[6]: its bits 2k and 2k+1 are in byte 64k + p
//   4 bits   byte 64k + p          v[2k+1] v[2k]                                      k = 0 to 3
//   8 bits   byte 64k + p          v[k]                                               k = 0 to 7
//
// MXFP4 matrices, whose indices are 4 bits, have the same order; their scales are bytes.
//
// (3 bits: a lookup in 64 bytes takes the lowest six bits of its index, so that six of the eight
// vectors need no shift.) Codes: [tiles, cols / 32, 64 * bits] bytes. Scales: F16 (MXFP4:
// bytes) [tiles, cols / group, 16]. Ternary matrices have no tiles.
//
// Nothing here allocates or throws; every function may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::kernels {

inline constexpr uint32_t kRowsPerTile = 16;  // rows of a tile
inline constexpr uint32_t kUnitInputs = 32;   // inputs of a unit
inline constexpr size_t kTileAlignment = 64;  // that a matrix's codes should have: the fastest

// Whether a matrix of this codebook and these inputs has a tile form.
//   length is 4, 8, 16 or 256; group is 32, 64 or 128 and divides cols; cols > 0.
bool has_tiles(uint32_t cols, uint32_t group, uint32_t length);

// Bytes of all codes of a matrix, a multiple of 64, and of all its scales, a multiple of 16 scales.
//   Requires: has_tiles.
size_t tile_bytes(uint32_t rows, uint32_t cols, uint32_t length);
size_t tile_scale_bytes(uint32_t rows, uint32_t cols, uint32_t group, uint32_t scale_bytes = 2);

// A matrix, or a block of its rows that begins at a multiple of 16: its tiles are the whole
// matrix's from tile_bytes(rows before it, ...) on, and likewise for the scales.
struct TileShape {
  uint32_t rows = 0;
  uint32_t cols = 0;
  uint32_t group = 0;
  uint32_t length = 0;       // of the codebook
  uint32_t scale_bytes = 2;  // of one scale: F16, or 1 for MXFP4
};

// One layout into the other. words: U32 [rows, row_words(cols, length)]; scales:
// [rows, cols / group]; codes and tile_scales as drawn above, tile_bytes and tile_scale_bytes of
// them; all at any address. What a word holds above or behind its row's codes is dropped by packing
// and is 0 after unpacking; what a tile holds for missing rows likewise.
//   Requires: has_tiles.
void pack_tiles(const TileShape& shape, const std::byte* words, const std::byte* scales,
                std::byte* codes, std::byte* tile_scales);
void unpack_tiles(const TileShape& shape, const std::byte* codes, const std::byte* tile_scales,
                  std::byte* words, std::byte* scales);

// The codes of one tile from bytes, one a code: row r at indices + r * stride. codes: cols / 32
// units. Requires: cols is a multiple of 32, every index below length.
void pack_tile(const uint8_t* indices, size_t stride, uint32_t cols, uint32_t length,
               std::byte* codes);

}  // namespace sluice::kernels
