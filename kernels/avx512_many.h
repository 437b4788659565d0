// TurboQuant and MXFP4 matrices in tiles (kernels/tiles.h) times many integer vectors, by AVX-512.
//
// As in lanes_tiles.h a lane gathers the products of its own row, but codes are decoded once, into
// a buffer, for up to kStepVectors vectors: a lookup takes one of the two ports that multiply.
//
// Of a group, with high = Σ byte * high byte of the input, and low likewise (avx512_codes.h), the
// dot product is 512 high + 2 low - correction. Its conversion to float costs no instruction:
//
//   * The sums start from the bits of kOrigin = 1.5 * 2^23. Neither reaches 2^22 (128 times
//     255 * 128 at most), so they end with the bits of the floats kOrigin + high and kOrigin + low.
//   * correction = -(512 a + 2 b + c) with b in [-128, 128) and c 0 or 1; b is part of what the
//     low sum starts from, and a and c of what two fma take kOrigin off with.
//   * The two fma give 512 (high + a) - kLent and 2 (low + b) + c + kLent, exactly, so that their
//     addition rounds once, as the conversion of the exact integer does. (Without kLent, the second
//     would have to add c - 2 kOrigin, which has a bit too many.)
#pragma once

#include "kernels/lanes_tiles.h"

namespace sluice::kernels {
namespace {

constexpr float kOrigin = 0x1.8p+23f;
constexpr int32_t kOriginBits = 0x4b400000;
constexpr float kLent = 0x1p+23f;
static_assert(255 * 128 * 128 + 128 < 1 << 22);

constexpr uint32_t kManyVectors = 4;  // at once, times kManyTiles: 16 sums
constexpr uint32_t kManyTiles = 2;
// Inputs, vectors and rows taken at once: so few that what is used again stays in a near cache.
constexpr uint32_t kStepInputs = 512;
constexpr uint32_t kStepGroups = kStepInputs / 32;  // at most: as many as lanes
constexpr uint32_t kStepVectors = 64;
constexpr uint32_t kStepRows = 192;

// What the sums of up to 16 groups need of one vector.
struct GroupStarts {
  int32_t low[kStepGroups];       // kOriginBits + b
  float high_shift[kStepGroups];  // 512 (a - kOrigin) - kLent
  float low_shift[kStepGroups];   // c - (2 kOrigin - kLent)
  float scale[kStepGroups];       // codebook step * input scale

  void keep(uint32_t offset, const int32_t* sums, float step, const float* scales, uint32_t count) {
    const __mmask16 groups = first_lanes(count);
    const __m512i correction = _mm512_mullo_epi32(_mm512_maskz_loadu_epi32(groups, sums),
                                                  _mm512_set1_epi32(static_cast<int32_t>(offset)));
    const Integers a = shift_right_signed<9>(splat_integer(256) - Integers{correction});
    const Integers rest = splat_integer(0) - Integers{correction} - shift_left<9>(a);  // < 256
    _mm512_store_si512(low, (splat_integer(kOriginBits) + shift_right_signed<1>(rest)).v);
    store(high_shift, splat(512) * (to_floats(a) - splat(kOrigin)) - splat(kLent));
    store(low_shift, to_floats(rest & splat_integer(1)) - splat(2 * kOrigin - kLent));
    store(scale, splat(step) * Lanes{_mm512_maskz_loadu_ps(groups, scales)});
  }
};

// On the stack of a call.
struct alignas(64) ManyBuffers {
  uint8_t codes[kStepInputs / 4][kManyTiles][64];
  float weight_scales[kStepGroups][kManyTiles][16];
  GroupStarts starts[kStepVectors];
};

// unpack_unit of one of the tiles.
template <typename C, uint32_t kIndex = 0>
inline void unpack_one(const C& codes, const typename C::Unit& unit, uint32_t t,
                       uint8_t (*vectors)[kManyTiles][64]) {
  store_bytes(vectors[kIndex][t], codes.template quad<kIndex>(unit));
  if constexpr (kIndex + 1 < 8) unpack_one<C, kIndex + 1>(codes, unit, t, vectors);
}

// Adds what `groups` groups of kTiles tiles give kVectors vectors, `vector` of the step's and those
// behind it, to y, or puts it there unless it carries on. y: of the first vector and the first
// tile's first row; last: the rows that the last tile has.
template <uint32_t kTiles, uint32_t kVectors>
inline void multiply_many(const ManyBuffers& buffers, const Inputs (&inputs)[kVectors],
                          uint32_t vector, uint32_t group, uint32_t groups, bool carries_on,
                          __mmask16 last, float* y, size_t y_stride) {
  const auto rows = [last](uint32_t t) { return t + 1 < kTiles ? __mmask16{0xffff} : last; };
  Lanes totals[kVectors][kTiles];
  for (uint32_t v = 0; v < kVectors; ++v) {
    for (uint32_t t = 0; t < kTiles; ++t) {
      totals[v][t].v = _mm512_maskz_loadu_ps(carries_on ? rows(t) : __mmask16{0},
                                             y + v * y_stride + size_t{t} * kLanes);
    }
  }
  ptrdiff_t column = 0;
  const uint8_t(*codes)[kManyTiles][64] = buffers.codes;
  for (uint32_t g = 0; g < groups; ++g) {
    DotProduct dots[kVectors][kTiles];
    for (uint32_t v = 0; v < kVectors; ++v) {
      for (uint32_t t = 0; t < kTiles; ++t) {
        dots[v][t].high = _mm512_set1_epi32(kOriginBits);
        dots[v][t].low = _mm512_set1_epi32(buffers.starts[vector + v].low[g]);
      }
    }
    for (const ptrdiff_t end = column + group; column < end; column += kUnitInputs) {
      for (uint32_t i = 0; i < kUnitInputs / 4; ++i) {
        Quad quads[kTiles];
        for (uint32_t t = 0; t < kTiles; ++t) quads[t].v = _mm512_load_si512(codes[i][t]);
        for (uint32_t v = 0; v < kVectors; ++v) {
          for (uint32_t t = 0; t < kTiles; ++t) {
            add_products(dots[v][t], quads[t], inputs[v].from(column + ptrdiff_t{4} * i));
          }
        }
      }
      codes += kUnitInputs / 4;
    }
    for (uint32_t v = 0; v < kVectors; ++v) {
      const GroupStarts& start = buffers.starts[vector + v];
      for (uint32_t t = 0; t < kTiles; ++t) {
        const Lanes high =
            fma(from_bits({dots[v][t].high}), splat(512), splat(start.high_shift[g]));
        const Lanes low = fma(from_bits({dots[v][t].low}), splat(2), splat(start.low_shift[g]));
        const Lanes scale = load(buffers.weight_scales[g][t]) * splat(start.scale[g]);
        totals[v][t] = fma(high + low, scale, totals[v][t]);
      }
    }
  }
  for (uint32_t v = 0; v < kVectors; ++v) {
    for (uint32_t t = 0; t < kTiles; ++t) {
      _mm512_mask_storeu_ps(y + v * y_stride + size_t{t} * kLanes, rows(t), totals[v][t].v);
    }
  }
}

template <uint32_t kLength, typename Scales>
class ManyProduct {
 public:
  ManyProduct(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x, float* y)
      : w_(w), task_(task), x_(x), y_(y), groups_(w.cols / w.group), codes_(*w.codebook) {}

  void multiply() {
    // About equally many each time, so that decoding never serves just a few.
    const uint32_t parts = (task_.vectors + kStepVectors - 1) / kStepVectors;
    const uint32_t fours = (task_.vectors + parts * kManyVectors - 1) / (parts * kManyVectors);
    for (first_ = 0; first_ < task_.vectors; first_ += vectors_) {
      vectors_ = smaller(task_.vectors - first_, fours * kManyVectors);
      for (uint32_t row = task_.row_begin; row < task_.row_end; row += kStepRows) {
        multiply_rows(row, row + smaller(task_.row_end - row, kStepRows));
      }
    }
  }

 private:
  using C = TileCodes<kLength>;

  static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

  void multiply_rows(uint32_t row_begin, uint32_t row_end) {
    const uint32_t step = kStepInputs / w_.group;
    for (uint32_t group = 0; group < groups_; group += step) {
      const uint32_t count = smaller(groups_ - group, step);
      keep_starts(group, count);
      for (uint32_t row = row_begin; row < row_end; row += kManyTiles * kLanes) {
        const uint32_t rows = smaller(row_end - row, kManyTiles * kLanes);
        const uint32_t tiles = (rows + kLanes - 1) / kLanes;
        for (uint32_t t = 0; t < tiles; ++t) decode(row / kLanes + t, group, count, t);
        const __mmask16 last = first_lanes(rows - (tiles - 1) * kLanes);
        if (tiles == kManyTiles) {
          multiply_tiles<kManyTiles, kManyVectors>(0, row, group, count, last);
        } else {
          multiply_tiles<1, kManyVectors>(0, row, group, count, last);
        }
      }
    }
  }

  void keep_starts(uint32_t group, uint32_t count) {
    const uint32_t offset = code_offset(*w_.codebook);
    for (uint32_t v = 0; v < vectors_; ++v) {
      const size_t at = size_t{first_ + v} * x_.group_stride + group;
      buffers_.starts[v].keep(offset, x_.sums + at, w_.codebook->step, x_.scales + at, count);
    }
  }

  // And asks for what comes later: the tile's next step; in the first, the next tiles'.
  void decode(uint32_t tile, uint32_t group, uint32_t count, uint32_t t) {
    const uint32_t units = w_.group / kUnitInputs;
    const size_t at = size_t{tile} * groups_ + group;
    const std::byte* from = w_.data + at * units * C::kUnitBytes;
    const size_t step = kStepInputs / kUnitInputs * C::kUnitBytes;
    const size_t next_tiles = kManyTiles * size_t{groups_} * units * C::kUnitBytes;
    for (uint32_t u = 0; u < units * count; ++u, from += C::kUnitBytes) {
      for (size_t line = 0; line < C::kUnitBytes; line += 64) {
        _mm_prefetch(from + step + line, _MM_HINT_T0);
        if (group == 0) _mm_prefetch(from + next_tiles + line, _MM_HINT_T0);
      }
      unpack_one(codes_, C::Unit::load(from), t, buffers_.codes + size_t{8} * u);
    }
    for (uint32_t g = 0; g < count; ++g) {
      store(buffers_.weight_scales[g][t],
            Scales::sixteen(w_.scales + (at + g) * kTileScaleBytes<Scales>));
    }
  }

  // Vectors from `vector` on: kVectors at once, then half as many, and so on.
  template <uint32_t kTiles, uint32_t kVectors>
  void multiply_tiles(uint32_t vector, uint32_t row, uint32_t group, uint32_t count,
                      __mmask16 last) {
    for (; vectors_ - vector >= kVectors; vector += kVectors) {
      Inputs inputs[kVectors];
      for (uint32_t v = 0; v < kVectors; ++v) {
        inputs[v] = inputs_of(x_, first_ + vector + v, w_.cols).from(ptrdiff_t{w_.group} * group);
      }
      multiply_many<kTiles, kVectors>(buffers_, inputs, vector, w_.group, count, group > 0, last,
                                      y_ + size_t{first_ + vector} * task_.y_stride + row,
                                      task_.y_stride);
    }
    if constexpr (kVectors > 1) {
      multiply_tiles<kTiles, kVectors / 2>(vector, row, group, count, last);
    }
  }

  const Matrix& w_;
  const MatmulTask& task_;
  const QuantizedVectors& x_;
  float* const y_;
  const uint32_t groups_;
  const C codes_;
  uint32_t first_ = 0, vectors_ = 0;  // those at work
  ManyBuffers buffers_;
};

inline void matmul_integer_many(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                                float* y) {
  multiply_in_form(w, [&]<uint32_t kLength, typename Scales>() {
    ManyProduct<kLength, Scales>(w, task, x, y).multiply();
  });
}

}  // namespace
}  // namespace sluice::kernels
