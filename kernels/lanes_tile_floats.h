// TurboQuant and MXFP4 matrices in tiles times float vectors over Lanes.
//
// The lanes of a float dot product are inputs of one row, while a tile has its rows side by side:
// so a group's codes are unpacked to bytes first, and four rows at a time are taken out of them.
// The steps from there on are those of lanes_codebook.h, and so are the bits.
#pragma once

#include "kernels/lanes_codebook.h"
#include "kernels/lanes_tiles.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kRowsAtOnce = 4;
constexpr uint32_t kFloatVectors = kCodeVectors / 4;  // as many as leave registers for four rows

// A codebook whose byte of a code is the code.
inline Codebook identity_codebook(uint32_t length) {
  Codebook codebook{};
  codebook.length = length;
  for (int16_t i = 0; i < 16; ++i) codebook.quantized[i] = static_cast<int16_t>(2 * i - 256);
  return codebook;
}

// Bytes of one group: [inputs / 4] vectors of 64 places.
struct GroupCodes {
  static constexpr uint32_t kLargestGroup = 128;
  alignas(64) uint8_t vectors[kLargestGroup / 4][64];

  // out[r]: the codes of inputs [16 block, 16 block + 16) of row first_row + r.
  void rows(uint32_t first_row, uint32_t block, __m128i (&out)[kRowsAtOnce]) const {
    const auto four_inputs = [&](uint32_t i) {
      return _mm_load_si128(
          reinterpret_cast<const __m128i*>(vectors[4 * block + i] + size_t{4} * first_row));
    };
    const __m128i a = four_inputs(0), b = four_inputs(1), c = four_inputs(2), d = four_inputs(3);
    const __m128i ab01 = _mm_unpacklo_epi32(a, b), ab23 = _mm_unpackhi_epi32(a, b);
    const __m128i cd01 = _mm_unpacklo_epi32(c, d), cd23 = _mm_unpackhi_epi32(c, d);
    out[0] = _mm_unpacklo_epi64(ab01, cd01);
    out[1] = _mm_unpackhi_epi64(ab01, cd01);
    out[2] = _mm_unpacklo_epi64(ab23, cd23);
    out[3] = _mm_unpackhi_epi64(ab23, cd23);
  }
};

template <typename C, uint32_t kIndex = 0>
inline void unpack_unit(const C& codes, const typename C::Unit& unit, uint8_t (*vectors)[64]) {
  store_bytes(vectors[kIndex], place_bytes<kIndex>(codes, unit));
  if constexpr (kIndex + 1 < 8) unpack_unit<C, kIndex + 1>(codes, unit, vectors);
}

// A group's part of four rows: totals += scale * (the group's lanes).
template <uint32_t kLength, uint32_t kVectors>
inline void add_group_of_rows(const GroupCodes& codes, const Centroids<kLength>& centroids,
                              uint32_t row, uint32_t group, const float* x, size_t x_stride,
                              const float* scales, Lanes (&totals)[kLanes][kVectors]) {
  Lanes lanes[kRowsAtOnce][kVectors];
  for (auto& of_row : lanes) {
    for (Lanes& a : of_row) a = splat(0);
  }
  for (uint32_t block = 0; block < group / kLanes; ++block) {
    __m128i bytes[kRowsAtOnce];
    codes.rows(row, block, bytes);
    for (uint32_t r = 0; r < kRowsAtOnce; ++r) {
      const Lanes weights = centroids.of(widen_bytes(bytes[r]));
      for (uint32_t v = 0; v < kVectors; ++v) {
        lanes[r][v] = fma(weights, load(x + v * x_stride + block * kLanes), lanes[r][v]);
      }
    }
  }
  for (uint32_t r = 0; r < kRowsAtOnce; ++r) {
    const Lanes scale = splat(scales[row + r]);
    for (uint32_t v = 0; v < kVectors; ++v) {
      totals[row + r][v] = fma(lanes[r][v], scale, totals[row + r][v]);
    }
  }
}

// One tile times kVectors vectors; y: at the tile's first row, of which `rows` exist.
template <uint32_t kLength, typename Scales, uint32_t kVectors>
inline void codebook_tile(const Matrix& w, uint32_t tile, uint32_t rows, const float* x,
                          size_t x_stride, float* y, size_t y_stride) {
  using C = TileCodes<kLength>;
  const C codes(identity_codebook(kLength));
  const Centroids<kLength> centroids(*w.codebook);
  const size_t groups = w.cols / w.group;
  const std::byte* unit = w.data + tile * (size_t{w.cols} / kUnitInputs) * C::kUnitBytes;
  const std::byte* tile_scales = w.scales + tile * groups * kTileScaleBytes<Scales>;
  Lanes totals[kLanes][kVectors];
  for (auto& of_row : totals) {
    for (Lanes& a : of_row) a = splat(0);
  }
  GroupCodes bytes;
  for (uint32_t g = 0; g < groups; ++g) {
    for (uint32_t u = 0; u < w.group / kUnitInputs; ++u, unit += C::kUnitBytes) {
      unpack_unit(codes, C::Unit::load(unit), bytes.vectors + size_t{8} * u);
    }
    float scales[kLanes];
    store(scales, Scales::sixteen(tile_scales + g * kTileScaleBytes<Scales>));
    for (uint32_t row = 0; row < rows; row += kRowsAtOnce) {
      add_group_of_rows<kLength, kVectors>(bytes, centroids, row, w.group, x + size_t{g} * w.group,
                                           x_stride, scales, totals);
    }
  }
  for (uint32_t v = 0; v < kVectors; ++v) {
    for (uint32_t row = 0; row < rows; ++row) y[v * y_stride + row] = sum(totals[row][v]);
  }
}

template <uint32_t kLength, typename Scales = F16Scales>
inline void matmul_codebook_tiles_of(const Matrix& w, const MatmulTask& task, const float* x,
                                     float* y) {
  for (uint32_t row = task.row_begin; row < task.row_end; row += kLanes) {
    const uint32_t rows = task.row_end - row < kLanes ? task.row_end - row : kLanes;
    uint32_t v = 0;
    for (; task.vectors - v >= kFloatVectors; v += kFloatVectors) {
      codebook_tile<kLength, Scales, kFloatVectors>(
          w, row / kLanes, rows, x + size_t{v} * task.x_stride, task.x_stride,
          y + size_t{v} * task.y_stride + row, task.y_stride);
    }
    for (; v < task.vectors; ++v) {
      codebook_tile<kLength, Scales, 1>(w, row / kLanes, rows, x + size_t{v} * task.x_stride,
                                        task.x_stride, y + size_t{v} * task.y_stride + row,
                                        task.y_stride);
    }
  }
}

inline void matmul_codebook_tiles(const Matrix& w, const MatmulTask& task, const float* x,
                                  float* y) {
  if (w.format == Format::mxfp4) return matmul_codebook_tiles_of<16, E8m0Scales>(w, task, x, y);
  switch (w.codebook->length) {
    case 4:
      return matmul_codebook_tiles_of<4>(w, task, x, y);
    case 8:
      return matmul_codebook_tiles_of<8>(w, task, x, y);
    case 16:
      return matmul_codebook_tiles_of<16>(w, task, x, y);
    default:
      return matmul_codebook_tiles_of<256>(w, task, x, y);
  }
}

inline void matmul_codebook(const Matrix& w, const MatmulTask& task, const float* x, float* y) {
  if (w.layout == Layout::tiles) {
    matmul_codebook_tiles(w, task, x, y);
  } else {
    matmul_codebook_rows(w, task, x, y);
  }
}

}  // namespace
}  // namespace sluice::kernels
