// TurboQuant and MXFP4 matrices in tiles (kernels/tiles.h) times integer vectors over Integers: the
// 16 rows of a tile side by side, one in each lane, as in lanes_integer.h, but with nothing to
// transpose.
//
// A vector of codes is decoded once for up to kTileVectors vectors of inputs. What a group needs of
// the inputs alone is computed once for all tiles (GroupInputs), in chunks of groups because it
// lies on the stack; between chunks a row's total waits in y.
#pragma once

#include "kernels/lanes_integer.h"
#include "kernels/lanes_matmul.h"
#include "kernels/tiles.h"

#if defined(__AVX512F__)
#include "kernels/avx512_tiles.h"
#elif defined(__AVX2__)
#include "kernels/avx2_tiles.h"
#endif

namespace sluice::kernels {
namespace {

constexpr uint32_t kChunkGroups = 128;  // 4 KiB of stack for 4 vectors
template <typename Scales>
constexpr size_t kTileScaleBytes = 16 * Scales::kBytes;  // of one group
// Ahead of every stream of codes: more than a page and so beyond what processors prefetch of
// themselves, which ends with the page, into the second cache; then into the first one. And ahead
// of every stream of scales. By measurement, bench/RESULTS.md.
constexpr ptrdiff_t kFarCodesAhead = 6144, kCodesAhead = 1024, kScalesAhead = 512;

// kVectors vectors from `vector` on, in a chunk of the groups.
template <uint32_t kVectors>
struct GroupInputs {
  uint32_t first = 0;
  uint32_t count = 0;
  Inputs inputs[kVectors];  // at the chunk's first column
  int32_t corrections[kChunkGroups][kVectors];
  float scales[kChunkGroups][kVectors];  // codebook step * input scale

  GroupInputs(const Matrix& w, const QuantizedVectors& x, uint32_t vector, uint32_t first_group)
      : first(first_group) {
    const uint32_t groups = w.cols / w.group;
    count = groups - first < kChunkGroups ? groups - first : kChunkGroups;
    const uint32_t offset = code_offset(*w.codebook);
    for (uint32_t v = 0; v < kVectors; ++v) {
      inputs[v] = inputs_of(x, vector + v, w.cols).from(ptrdiff_t{w.group} * first);
      const size_t at = size_t{vector + v} * x.group_stride + first;
      for (uint32_t g = 0; g < count; ++g) {
        corrections[g][v] = code_correction(offset, x.sums[at + g]);
        scales[g][v] = w.codebook->step * x.scales[at + g];
      }
    }
  }
};

// Adds the products of vectors kIndex to 7 of a unit of kTiles tiles with kVectors inputs.
template <typename C, uint32_t kTiles, uint32_t kVectors, uint32_t kIndex = 0>
inline void add_unit(const C& codes, const typename C::Unit (&units)[kTiles],
                     const Inputs (&inputs)[kVectors], DotProduct (&dots)[kTiles][kVectors]) {
  Quad quads[kTiles];
  for (uint32_t t = 0; t < kTiles; ++t) quads[t] = codes.template quad<kIndex>(units[t]);
  for (uint32_t v = 0; v < kVectors; ++v) {
    for (uint32_t t = 0; t < kTiles; ++t) {
      add_products(dots[t][v], quads[t], inputs[v].from(4 * kIndex));
    }
  }
  if constexpr (kIndex + 1 < 8) {
    add_unit<C, kTiles, kVectors, kIndex + 1>(codes, units, inputs, dots);
  }
}

// What is prefetched for a stream that ends amid the task's rows: behind its end, where another one
// began, the same stream of the task for the following rows, likely the next.
struct Stream {
  const std::byte* end = nullptr;
  ptrdiff_t skip = 0;

  const std::byte* ahead(const std::byte* at, ptrdiff_t distance) const {
    const std::byte* next = at + distance;
    return next < end ? next : next + skip;
  }
};

// Where one tile's chunk lies, and where its results go: y of its first row and of the first of
// the vectors, for `rows` rows.
struct TilePlace {
  const std::byte* codes;
  const std::byte* scales;
  float* y;
  uint32_t rows;
  Stream of_codes = {};
  Stream of_scales = {};

  Lanes get(size_t at) const { return rows == kLanes ? load(y + at) : load_first(y + at, rows); }
  void put(size_t at, Lanes totals) const {
    if (rows == kLanes) {
      store(y + at, totals);
    } else {
      store_first(y + at, totals, rows);
    }
  }
};

template <typename C, typename Scales, uint32_t kTiles, uint32_t kVectors>
inline void multiply_tiles(const C& codes, const GroupInputs<kVectors>& x, uint32_t units_per_group,
                           const TilePlace (&tiles)[kTiles], size_t y_stride) {
  Lanes totals[kTiles][kVectors];
  const std::byte* at[kTiles];
  for (uint32_t t = 0; t < kTiles; ++t) {
    at[t] = tiles[t].codes;
    for (uint32_t v = 0; v < kVectors; ++v) {
      totals[t][v] = x.first == 0 ? splat(0) : tiles[t].get(v * y_stride);
    }
  }
  Inputs inputs[kVectors];
  for (uint32_t v = 0; v < kVectors; ++v) inputs[v] = x.inputs[v];
  for (uint32_t g = 0; g < x.count; ++g) {
    DotProduct dots[kTiles][kVectors];
    for (uint32_t u = 0; u < units_per_group; ++u) {
      typename C::Unit units[kTiles];
      for (uint32_t t = 0; t < kTiles; ++t) {
        const std::byte* far = tiles[t].of_codes.ahead(at[t], kFarCodesAhead);
        const std::byte* near = tiles[t].of_codes.ahead(at[t], kCodesAhead);
        for (size_t line = 0; line < C::kUnitBytes; line += 64) {
          _mm_prefetch(far + line, _MM_HINT_T1);
          if (kVectors == 1) _mm_prefetch(near + line, _MM_HINT_T0);
        }
        units[t] = C::Unit::load(at[t]);
        at[t] += C::kUnitBytes;
      }
      add_unit<C, kTiles, kVectors>(codes, units, inputs, dots);
      for (uint32_t v = 0; v < kVectors; ++v) inputs[v] = inputs[v].from(kUnitInputs);
    }
    for (uint32_t t = 0; t < kTiles; ++t) {
      const std::byte* scales = tiles[t].scales + g * kTileScaleBytes<Scales>;
      if (kVectors == 1) {
        _mm_prefetch(tiles[t].of_scales.ahead(scales, kScalesAhead), _MM_HINT_T0);
      }
      const Lanes weight_scale = Scales::sixteen(scales);
      for (uint32_t v = 0; v < kVectors; ++v) {
        const Lanes exact = to_floats(finish(dots[t][v], splat_integer(x.corrections[g][v])));
        totals[t][v] = fma(exact, weight_scale * splat(x.scales[g][v]), totals[t][v]);
      }
    }
  }
  for (uint32_t t = 0; t < kTiles; ++t) {
    for (uint32_t v = 0; v < kVectors; ++v) tiles[t].put(v * y_stride, totals[t][v]);
  }
}

// The task's rows in all chunks, for kVectors vectors from `vector` on. Where several tiles share
// their inputs, each is from another part of the rows, so that memory is read as that many long
// streams.
template <uint32_t kLength, typename Scales, uint32_t kVectors>
inline void multiply_all_tiles(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                               const TileCodes<kLength>& codes, uint32_t vector, float* y) {
  using C = TileCodes<kLength>;
  constexpr uint32_t kTiles = kTilesAtOnce;
  const size_t groups = w.cols / w.group;
  const uint32_t units_per_group = w.group / kUnitInputs;
  const uint32_t tiles = (task.row_end - task.row_begin + kLanes - 1) / kLanes;
  const uint32_t part = tiles / kTiles;
  const size_t code_bytes = groups * units_per_group * C::kUnitBytes;  // of a tile
  const size_t scale_bytes = groups * kTileScaleBytes<Scales>;
  // The t-th part's stream, of so many bytes for each tile.
  const auto stream = [&](const std::byte* begin, size_t tile_bytes, uint32_t t) -> Stream {
    return {.end = begin + (task.row_begin / kLanes + size_t{t + 1} * part) * tile_bytes,
            .skip = static_cast<ptrdiff_t>((kTiles - 1) * part * tile_bytes)};
  };
  for (uint32_t first = 0; first < groups; first += kChunkGroups) {
    const GroupInputs<kVectors> chunk(w, x, vector, first);
    const auto place = [&](uint32_t tile) -> TilePlace {
      const uint32_t row = task.row_begin + tile * kLanes;
      const size_t group = row / kLanes * groups + first;
      return {.codes = w.data + group * units_per_group * C::kUnitBytes,
              .scales = w.scales + group * kTileScaleBytes<Scales>,
              .y = y + size_t{vector} * task.y_stride + row,
              .rows = task.row_end - row < kLanes ? task.row_end - row : kLanes};
    };
    for (uint32_t tile = 0; tile < part; ++tile) {
      TilePlace several[kTiles];
      for (uint32_t t = 0; t < kTiles; ++t) {
        several[t] = place(t * part + tile);
        several[t].of_codes = stream(w.data, code_bytes, t);
        several[t].of_scales = stream(w.scales, scale_bytes, t);
      }
      multiply_tiles<C, Scales, kTiles, kVectors>(codes, chunk, units_per_group, several,
                                                  task.y_stride);
    }
    for (uint32_t tile = part * kTiles; tile < tiles; ++tile) {
      const TilePlace one[1] = {place(tile)};
      multiply_tiles<C, Scales, 1, kVectors>(codes, chunk, units_per_group, one, task.y_stride);
    }
  }
}

// As many vectors at once as there are registers for, then half as many, and so on.
template <uint32_t kLength, typename Scales, uint32_t kVectors>
inline void multiply_tile_vectors(const Matrix& w, const MatmulTask& task,
                                  const QuantizedVectors& x, const TileCodes<kLength>& codes,
                                  uint32_t vector, float* y) {
  for (; task.vectors - vector >= kVectors; vector += kVectors) {
    multiply_all_tiles<kLength, Scales, kVectors>(w, task, x, codes, vector, y);
  }
  if constexpr (kVectors > 1) {
    multiply_tile_vectors<kLength, Scales, kVectors / 2>(w, task, x, codes, vector, y);
  }
}

template <uint32_t kLength, typename Scales>
inline void matmul_integer_tiles_of(const Matrix& w, const MatmulTask& task,
                                    const QuantizedVectors& x, float* y) {
  // With more vectors than registers, few enough rows at a time to stay in the cache between.
  constexpr uint32_t kBlockRowsOfMany = 64;
  const TileCodes<kLength> codes(*w.codebook);
  MatmulTask block = task;
  while (block.row_begin < task.row_end) {
    if (task.vectors > kTileVectors && task.row_end - block.row_begin > kBlockRowsOfMany) {
      block.row_end = block.row_begin + kBlockRowsOfMany;
    } else {
      block.row_end = task.row_end;
    }
    multiply_tile_vectors<kLength, Scales, kTileVectors>(w, block, x, codes, 0, y);
    block.row_begin = block.row_end;
  }
}

// product.operator()<kLength, Scales>() of the matrix' codebook and scales.
template <typename Product>
inline void multiply_in_form(const Matrix& w, const Product& product) {
  if (w.format == Format::mxfp4) return product.template operator()<16, E8m0Scales>();
  switch (w.codebook->length) {
    case 4:
      return product.template operator()<4, F16Scales>();
    case 8:
      return product.template operator()<8, F16Scales>();
    case 16:
      return product.template operator()<16, F16Scales>();
    default:
      return product.template operator()<256, F16Scales>();
  }
}

inline void matmul_integer_tiles(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                                 float* y) {
  multiply_in_form(w, [&]<uint32_t kLength, typename Scales>() {
    matmul_integer_tiles_of<kLength, Scales>(w, task, x, y);
  });
}

}  // namespace
}  // namespace sluice::kernels
