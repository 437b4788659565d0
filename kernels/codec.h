// Codec: encodes rows of weights as TurboQuant, and decodes them again.
//
// A row of cols weights becomes U32 words of codebook indices and an F16 scale per group of inputs,
// as kernels.h's Matrix describes them:
//
//   v = H(row ∘ signs)                    float32, table.rotate; v = row without signs
//   scale_g = by the rule: the group's RMS, or the one of several that serves it best
//   index_i = the centroid c for which c · scale_g is nearest to v_i
//
// (kernels.h says exactly how: Encoding.) The bytes are the same for every table and for any split
// of the rows among threads. Like the rest of this folder it allocates nothing, locks nothing and
// throws nothing; a Codec is read-only once made and may be shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace sluice::kernels {

// Lloyd–Max centroids of N(0, 1), ascending; what a group divided by its RMS is close to, since the
// rotation makes its values nearly Gaussian; for 8 bits (256) the odd multiples of 1/64 up to
// ±255/64, exact in F16. length: 3 (ternary), 4, 8, 16 or 256. Static storage.
std::span<const float> gaussian_centroids(uint32_t length);

// Random ±1 for a rotation: bit i % 64, lowest first, of word i / 64 of splitmix64(seed).
void random_signs(uint64_t seed, uint32_t count, float* signs);

// How all rows of one matrix are encoded.
struct Codec {
  uint32_t cols = 0;
  uint32_t group = 0;   // inputs that share a scale
  uint32_t length = 0;  // of the codebook
  ScaleRule rule = ScaleRule::rms;
  uint32_t words = 0;            // U32 words per row
  Rotation rotation;             // of cols; unused without signs
  const float* signs = nullptr;  // [cols] of ±1, borrowed; null: no rotation
  float centroids[16] = {};      // exact F16 values, as the codebook tensor holds them
  float edges[15] = {};          // midpoints of neighbouring centroids
  float step = 0;                // of a codebook of 256, which has this instead of the two above
};

// The codec with the Gaussian centroids, rounded to F16. signs: [cols], must outlive the codec and
// everything encoded with it; null for no rotation.
//   Requires: length is 3, 4, 8, 16 or 256; group is a multiple of 16 and divides cols.
Codec make_codec(uint32_t cols, uint32_t group, uint32_t length, const float* signs,
                 ScaleRule rule = ScaleRule::rms);

// The codebook tensor's content: F16 [length].
void codebook_f16(const Codec& codec, std::byte* out);

// Encodes `count` rows, [count, cols], and returns how many it could: count, or the index of the
// first row with a group whose RMS no F16 holds (a weight that is not finite, or an RMS over
// 65504); the rows before it are encoded, it and those behind it are not. Separate calls may run on
// separate threads. error: if not null, what these rows lose is added, row after row.
struct EncodeBuffers {
  float* values = nullptr;      // scratch [cols]
  uint8_t* indices = nullptr;   // scratch [cols]
  std::byte* words = nullptr;   // out: U32 [count, codec.words], at any address
  std::byte* scales = nullptr;  // out: F16 [count, cols / group], at any address
};
uint32_t encode_rows(const Codec& codec, const Table& table, const float* rows, uint32_t count,
                     const EncodeBuffers& buffers, EncodingError* error = nullptr);

// The same into tiles (kernels/tiles.h), the last of them filled up where count is no multiple of
// 16: the bytes that pack_tiles makes of what encode_rows writes. When it stops at a row, the tiles
// before that row's are whole.
//   Requires: has_tiles.
struct TileEncodeBuffers {
  float* values = nullptr;      // scratch [cols]
  uint8_t* indices = nullptr;   // scratch [16, cols]
  std::byte* codes = nullptr;   // out: tile_bytes(count, ...), at any address
  std::byte* scales = nullptr;  // out: tile_scale_bytes(count, ...), at any address
};
uint32_t encode_tiles(const Codec& codec, const Table& table, const float* rows, uint32_t count,
                      const TileEncodeBuffers& buffers, EncodingError* error = nullptr);

// Decodes one row into the rotated domain: centroid · scale, exact in float32. Every word and scale
// is legal input. words, scales: as encode_rows wrote them, at any address. out: [cols].
void decode_row(const Codec& codec, const Table& table, const std::byte* words,
                const std::byte* scales, float* out);

// The inverse of table.rotate: x = signs ∘ Hᵀ y, both [rotation.n], may be the same array. H_20 and
// H_28 are not symmetric, so this is not rotate again.
void unrotate(const Rotation& rotation, const float* signs, const float* y, float* x);

}  // namespace sluice::kernels
