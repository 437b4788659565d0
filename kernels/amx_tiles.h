// TurboQuant and MXFP4 matrices in tiles (kernels/tiles.h) times many integer vectors, by AMX.
//
// The processor's tiles are up to 16 rows of 64 bytes. One product of them adds 64 products to each
// of 16 x 16 sums: of 64 inputs of 16 vectors (a plane of high or low bytes, as they lie in memory)
// and 64 codes of 16 rows, which a unit's decoded vectors are as they are: 16 registers, one below
// the other, each with four inputs of 16 rows. So codes are decoded once, into a buffer, for all
// vectors.
//
// The codebook's bytes are signed here: quantized = 2 * byte, plus 1 in an odd codebook. Of a
// group, with high = Σ byte * high byte of the input, and low likewise,
//
//   Σ quantized * input = 512 high + 2 low + (odd: Σ input)
//
// All but that sum itself is exact as float32, so the fma that completes it rounds once, as the
// conversion of the exact integer does.
//
// What is left for the vector registers takes as long as the products: two conversions, three fma
// and a multiplication for the sums of a vector with 16 rows.
#pragma once

#include "kernels/lanes_tiles.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kAmxRows = 16;  // of a processor's tile
constexpr uint32_t kPair = 2;      // tiles of the matrix that share the loads of inputs
// Inputs, vectors and rows taken at once: so few that what is used again stays in a near cache.
constexpr uint32_t kStepInputs = 128;
constexpr uint32_t kStepGroups = kStepInputs / 32;  // at most
constexpr uint32_t kStepVectors = 64;
constexpr uint32_t kStepRows = 192;

// The 64 bytes that ldtilecfg takes.
struct AmxConfiguration {
  uint8_t palette = 1;
  uint8_t unused[15] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0 to 3 are sums of `vectors` vectors: high and low of the first of a pair, then of the
// second; 4 and 5 the planes of their inputs, 6 and 7 the codes of the pair.
inline void configure(uint32_t vectors, uint32_t inputs) {
  alignas(64) AmxConfiguration tiles;
  for (uint32_t i = 0; i < 8; ++i) {
    tiles.row_bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? inputs : 64);
    tiles.rows[i] = static_cast<uint8_t>(i < 6 ? vectors : inputs / 4);
  }
  __asm__ volatile("" : : "r"(&tiles) : "memory");  // GCC 12 sees only its first bytes used
  _tile_loadconfig(&tiles);
}

// The codebook whose unsigned bytes are the signed bytes of this one.
inline Codebook signed_codebook(const Codebook& codebook) {
  Codebook result = codebook;
  for (int16_t& quantized : result.quantized) quantized = static_cast<int16_t>(quantized - 256);
  return result;
}

// unpack_unit to signed bytes; `codes` are of the signed codebook.
template <uint32_t kLength, uint32_t kIndex = 0>
inline void unpack_signed(const TileCodes<kLength>& codes,
                          const typename TileCodes<kLength>::Unit& unit, uint8_t (*vectors)[64]) {
  Quad bytes = place_bytes<kIndex>(codes, unit);
  if constexpr (kLength == 256) bytes.v = _mm512_xor_si512(bytes.v, _mm512_set1_epi8(-128));
  store_bytes(vectors[kIndex], bytes);
  if constexpr (kIndex + 1 < 8) unpack_signed<kLength, kIndex + 1>(codes, unit, vectors);
}

// On the stack of a call.
struct alignas(64) AmxBuffers {
  using Sums = int32_t[2][kAmxRows][16];  // high, low

  Sums sums[kStepGroups][kPair];
  uint8_t codes[kPair][kStepInputs / 4][64];
  float weight_scales[kPair][kStepGroups][16];
  // Of the rows at work, a pair of tiles behind the other: the results, until all groups are in
  // them. In y, vectors often lie a multiple of 4 KiB apart, and fight for the same lines of the
  // first cache.
  float totals[kStepRows / (kPair * kLanes)][kStepVectors][kPair * kLanes];
  // Of the 16 groups at work, codebook step * input scale; and the sums, 0 of an even codebook.
  float input_scales[kStepVectors][kLanes];
  float input_sums[kStepVectors][kLanes];
};

// Makes and stores the sums of a group of one tile or two; codes and inputs are at the group's
// first column. Those of the second are stored behind the next group's first products (finish): a
// product takes some 50 cycles, and a store that waits for it holds up what follows.
class AmxSums {
 public:
  void make(Inputs inputs, size_t stride, uint32_t group, const uint8_t (*first)[64],
            const uint8_t (*second)[64], AmxBuffers::Sums* sums) {
    _tile_zero(0);
    _tile_zero(1);
    for (uint32_t i = 0; i < group; i += 64) {
      _tile_loadd(6, first[i / 4], 64);
      _tile_loadd(4, inputs.high + i, stride);
      _tile_loadd(5, inputs.low + i, stride);
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 5, 6);
      if (second == nullptr) continue;
      if (i == 0) {
        finish();
        _tile_zero(2);
        _tile_zero(3);
      }
      _tile_loadd(7, second[i / 4], 64);
      _tile_dpbssd(2, 4, 7);
      _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, sums[0][0], 64);
    _tile_stored(1, sums[0][1], 64);
    if (second != nullptr) late_ = sums + 1;
  }

  void finish() {
    if (late_ == nullptr) return;
    _tile_stored(2, (*late_)[0], 64);
    _tile_stored(3, (*late_)[1], 64);
    late_ = nullptr;
  }

 private:
  AmxBuffers::Sums* late_ = nullptr;
};

// Where results of vectors so far lie, or are to lie: rows of kPair tiles, `stride` apart.
struct Results {
  float* at;
  size_t stride;
};

// Adds what kGroups groups, from group on, of kTiles tiles give vectors [begin, end) of a block to
// `from`, but for the first group, and puts it to `to`. Both: of the block's first vector, which is
// the step's vector first_vector, and the first tile's first row. last: the rows that the last tile
// has.
template <uint32_t kTiles, uint32_t kGroups>
inline void add_sums(const AmxBuffers& buffers, uint32_t first_vector, uint32_t begin, uint32_t end,
                     uint32_t group, __mmask16 last, Results from, Results to) {
  const bool carries_on = group > 0;
  for (uint32_t v = begin; v < end; ++v) {
    const float* input_scales = buffers.input_scales[first_vector + v] + group % kLanes;
    const float* input_sums = buffers.input_sums[first_vector + v] + group % kLanes;
    Lanes totals[kTiles];
    for (uint32_t t = 0; t < kTiles; ++t) {
      const __mmask16 rows = t + 1 < kTiles ? __mmask16{0xffff} : last;
      totals[t].v = _mm512_maskz_loadu_ps(carries_on ? rows : __mmask16{0},
                                          from.at + v * from.stride + t * kLanes);
    }
    for (uint32_t g = 0; g < kGroups; ++g) {
      const Lanes input_scale = splat(input_scales[g]);
      const Lanes input_sum = splat(input_sums[g]);
      for (uint32_t t = 0; t < kTiles; ++t) {
        const Lanes high = to_floats({_mm512_load_si512(buffers.sums[g][t][0][v])});
        const Lanes low = to_floats({_mm512_load_si512(buffers.sums[g][t][1][v])});
        const Lanes exact = fma(high, splat(512), fma(low, splat(2), input_sum));
        totals[t] = fma(exact, load(buffers.weight_scales[t][g]) * input_scale, totals[t]);
      }
    }
    for (uint32_t t = 0; t < kTiles; ++t) {
      const __mmask16 rows = t + 1 < kTiles ? __mmask16{0xffff} : last;
      _mm512_mask_storeu_ps(to.at + v * to.stride + t * kLanes, rows, totals[t].v);
    }
  }
}

// Blocks of vectors are equally high, so that one configuration serves all; the last one may begin
// with vectors of the one before, whose sums nobody takes.
template <uint32_t kLength, typename Scales>
class AmxProduct {
 public:
  AmxProduct(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x, float* y)
      : w_(w),
        task_(task),
        x_(x),
        y_(y),
        groups_(w.cols / w.group),
        codes_(signed_codebook(*w.codebook)) {}

  void multiply() {
    const uint32_t most = equal_parts(task_.vectors, kStepVectors);
    for (first_ = 0; first_ < task_.vectors; first_ += vectors_) {
      vectors_ = smaller(task_.vectors - first_, most);
      height_ = equal_parts(vectors_, kAmxRows);
      configure(height_, smaller(w_.group, 64));
      for (uint32_t row = task_.row_begin; row < task_.row_end; row += kStepRows) {
        multiply_rows(row, row + smaller(task_.row_end - row, kStepRows));
      }
    }
    _tile_release();
  }

 private:
  using C = TileCodes<kLength>;

  static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }
  // The size of the parts, but for the last, of as few as are no larger than `most`.
  static uint32_t equal_parts(uint32_t size, uint32_t most) {
    const uint32_t parts = (size + most - 1) / most;
    return (size + parts - 1) / parts;
  }

  void multiply_rows(uint32_t row_begin, uint32_t row_end) {
    const uint32_t step = kStepInputs / w_.group;
    for (uint32_t group = 0; group < groups_; group += step) {
      const uint32_t count = smaller(groups_ - group, step);
      if (group % kLanes == 0) keep_scales(group);
      for (uint32_t row = row_begin; row < row_end; row += kPair * kLanes) {
        multiply_pair(row, row_end, (row - row_begin) / (kPair * kLanes), group, count);
      }
    }
  }

  // What 16 groups from `group` on, or those that are left, need of the inputs alone.
  void keep_scales(uint32_t group) {
    const bool odd = code_offset(*w_.codebook) % 2 != 0;
    const __mmask16 groups = first_lanes(smaller(groups_ - group, kLanes));
    for (uint32_t v = 0; v < vectors_; ++v) {
      const size_t at = size_t{first_ + v} * x_.group_stride + group;
      store(buffers_.input_scales[v],
            splat(w_.codebook->step) * Lanes{_mm512_maskz_loadu_ps(groups, x_.scales + at)});
      const Integers sums = {_mm512_maskz_loadu_epi32(odd ? groups : __mmask16{0}, x_.sums + at)};
      store(buffers_.input_sums[v], to_floats(sums));
    }
  }

  // And asks for what comes later: the tile's next step; in the first, the next pair's.
  void decode(uint32_t tile, uint32_t group, uint32_t count, uint32_t t) {
    const uint32_t units = w_.group / kUnitInputs;
    const size_t at = size_t{tile} * groups_ + group;
    const std::byte* from = w_.data + at * units * C::kUnitBytes;
    const size_t step = kStepInputs / kUnitInputs * C::kUnitBytes;
    const size_t pair = kPair * size_t{groups_} * units * C::kUnitBytes;
    for (uint32_t u = 0; u < units * count; ++u, from += C::kUnitBytes) {
      for (size_t line = 0; line < C::kUnitBytes; line += 64) {
        _mm_prefetch(from + step + line, _MM_HINT_T0);
        if (group == 0) _mm_prefetch(from + pair + line, _MM_HINT_T0);
      }
      unpack_signed<kLength>(codes_, C::Unit::load(from), buffers_.codes[t] + 8 * u);
    }
    for (uint32_t g = 0; g < count; ++g) {
      store(buffers_.weight_scales[t][g],
            Scales::sixteen(w_.scales + (at + g) * kTileScaleBytes<Scales>));
    }
  }

  // Groups [group, group + count) of two tiles, the step's pair `pair`, or of the last one.
  void multiply_pair(uint32_t row, uint32_t row_end, uint32_t pair, uint32_t group,
                     uint32_t count) {
    const uint32_t rows = row_end - row;
    const uint32_t tiles = rows > kLanes ? kPair : 1;
    const __mmask16 last = first_lanes(smaller(rows - (tiles - 1) * kLanes, kLanes));
    for (uint32_t t = 0; t < tiles; ++t) decode(row / kLanes + t, group, count, t);
    __asm__ volatile("" : : "r"(&buffers_) : "memory");  // GCC 12's tile loads name no memory
    for (uint32_t done = 0; done < vectors_; done += height_) {
      const uint32_t begin = smaller(done, vectors_ - height_);
      Inputs inputs = inputs_of(x_, first_ + begin, w_.cols).from(ptrdiff_t{w_.group} * group);
      AmxSums sums;
      for (uint32_t g = 0; g < count; ++g) {
        const uint32_t at = w_.group / 4 * g;
        sums.make(inputs, size_t{2} * x_.value_stride, w_.group, buffers_.codes[0] + at,
                  tiles == 1 ? nullptr : buffers_.codes[1] + at, buffers_.sums[g]);
        inputs = inputs.from(w_.group);
      }
      sums.finish();
      const auto add = tiles == 1 ? kAddSums[0][count - 1] : kAddSums[1][count - 1];
      const Results so_far = {buffers_.totals[pair][begin], kPair * kLanes};
      const Results results = {y_ + size_t{first_ + begin} * task_.y_stride + row, task_.y_stride};
      add(buffers_, begin, done - begin, height_, group, last, so_far,
          group + count < groups_ ? so_far : results);
    }
  }

  using AddSums = void (*)(const AmxBuffers&, uint32_t, uint32_t, uint32_t, uint32_t, __mmask16,
                           Results, Results);
  static constexpr AddSums kAddSums[kPair][kStepGroups] = {
      {add_sums<1, 1>, add_sums<1, 2>, add_sums<1, 3>, add_sums<1, 4>},
      {add_sums<2, 1>, add_sums<2, 2>, add_sums<2, 3>, add_sums<2, 4>}};

  const Matrix& w_;
  const MatmulTask& task_;
  const QuantizedVectors& x_;
  float* const y_;
  const uint32_t groups_;
  const C codes_;
  uint32_t first_ = 0, vectors_ = 0;  // those at work
  uint32_t height_ = 0;               // of a block of them
  AmxBuffers buffers_;
};

inline void matmul_integer_amx(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                               float* y) {
  multiply_in_form(w, [&]<uint32_t kLength, typename Scales>() {
    AmxProduct<kLength, Scales>(w, task, x, y).multiply();
  });
}

}  // namespace
}  // namespace sluice::kernels
