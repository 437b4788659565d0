// TurboQuant and MXFP4 matrices times float vectors over Lanes: 16 codes of one row become 16
// centroids.
#pragma once

#include "kernels/lanes.h"
#include "kernels/lanes_elementwise.h"

namespace sluice::kernels {
namespace {

// The scales of groups as floats: one, or 16 that lie side by side (a Column).
struct F16Scales {
  using Column = __m256i;
  static constexpr size_t kBytes = 2;
  static float one(const std::byte* from) {
    uint16_t half;
    __builtin_memcpy(&half, from, sizeof(half));
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
  }
  static Lanes of(Column halves) { return widen_f16(halves); }
  static Lanes sixteen(const std::byte* from) {
    return of(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
};
// See powers_of_two.
struct E8m0Scales {
  using Column = __m128i;
  static constexpr size_t kBytes = 1;
  static float one(const std::byte* from) {
    const auto bits = static_cast<uint32_t>(*from);
    const uint32_t mantissa = bits == 0 || bits == 255 ? 0x400000 : 0;
    return _mm_cvtss_f32(
        _mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int32_t>(bits << 23 | mantissa))));
  }
  static Lanes of(Column bytes) { return powers_of_two(bytes); }
  static Lanes sixteen(const std::byte* from) {
    return of(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
};

// One number of a plain format.
inline size_t float_bytes(Format format) { return format == Format::f32 ? 4 : 2; }

inline float load_float(Format format, const std::byte* from) {
  if (format == Format::f16) return F16Scales::one(from);
  uint32_t bits;
  if (format == Format::f32) {
    __builtin_memcpy(&bits, from, sizeof(bits));
  } else {
    uint16_t half;
    __builtin_memcpy(&half, from, sizeof(half));
    bits = static_cast<uint32_t>(half) << 16;
  }
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int32_t>(bits))));
}

// Where 16 codes lie in the words from the first code's on. 16 codes may begin at several places of
// a word (3 bits: 0, 6, 2, 8, 4 of 10 codes): the phases.
template <uint32_t kBits>
struct CodePlaces {
  static constexpr uint32_t kPerWord = 32 / kBits;
  static constexpr uint32_t kPhases = kBits == 3 ? 5 : 1;
  uint32_t word[kPhases][kLanes];
  uint32_t shift[kPhases][kLanes];

  constexpr CodePlaces() : word(), shift() {
    for (uint32_t phase = 0; phase < kPhases; ++phase) {
      for (uint32_t i = 0; i < kLanes; ++i) {
        const uint32_t place = phase * kLanes % kPerWord + i;
        word[phase][i] = place / kPerWord;
        shift[phase][i] = place % kPerWord * kBits;
      }
    }
  }
};

// The codes of one row, 16 at a time; bits above a code's own may be set.
template <uint32_t kBits>
class PackedCodes {
 public:
  static constexpr uint32_t kLength = 1u << kBits;
  void begin_group(const std::byte* row, uint32_t, uint32_t) { row_ = row; }
  // Requires: col is a multiple of 16.
  Integers at(uint32_t col) const {
    static constexpr CodePlaces<kBits> kPlaces;
    const uint32_t phase = col / kLanes % kPlaces.kPhases;
    return shifted_words(row_ + col / kPlaces.kPerWord * sizeof(uint32_t), kPlaces.word[phase],
                         kPlaces.shift[phase]);
  }

 private:
  const std::byte* row_ = nullptr;
};

// Base 3 has no bit positions to shift from: a group's words are taken apart into bytes first.
class TernaryCodes {
 public:
  static constexpr uint32_t kLength = 3;
  void begin_group(const std::byte* row, uint32_t col, uint32_t group) {
    first_col_ = col / kPerWord * kPerWord;
    uint8_t* to = codes_;
    for (uint32_t c = first_col_; c < col + group; c += kPerWord) {
      uint32_t word;
      __builtin_memcpy(&word, row + c / kPerWord * sizeof(word), sizeof(word));
      for (uint32_t i = 0; i < kPerWord; ++i, word /= 3) *to++ = static_cast<uint8_t>(word % 3);
    }
  }
  Integers at(uint32_t col) const { return widen_bytes(codes_ + (col - first_col_)); }

 private:
  static constexpr uint32_t kPerWord = 20;
  uint32_t first_col_ = 0;
  uint8_t codes_[128 + 2 * kPerWord];  // a group of at most 128, and the rest of its outer words
};

// A code of 8 bits is its byte.
class ByteCodes {
 public:
  static constexpr uint32_t kLength = 256;
  void begin_group(const std::byte* row, uint32_t, uint32_t) { row_ = row; }
  Integers at(uint32_t col) const {
    return widen_bytes(reinterpret_cast<const uint8_t*>(row_ + col));
  }

 private:
  const std::byte* row_ = nullptr;
};

// The centroids of 16 codes.
template <uint32_t kLength>
class Centroids {
 public:
  // Repeated to 16 entries, so that what lies above a code's bits does not matter.
  explicit Centroids(const Codebook& codebook) {
    for (uint32_t i = 0; i < kLanes; ++i) values_[i] = codebook.values[i % kLength];
  }
  Lanes of(Integers codes) const { return look_up(values_, codes); }

 private:
  float values_[kLanes];
};
template <>
class Centroids<256> {
 public:
  explicit Centroids(const Codebook& codebook) : step_(splat(codebook.step)) {}
  Lanes of(Integers codes) const {
    return to_floats(shift_left<1>(codes) - splat_integer(255)) * step_;
  }

 private:
  Lanes step_;
};

template <typename Codes, typename Scales, uint32_t kVectors>
inline void codebook_row(const Matrix& w, uint32_t row, const float* x, size_t x_stride, float* y,
                         size_t y_stride) {
  const uint32_t groups = w.cols / w.group;
  const std::byte* words = w.data + size_t{row} * row_words(w.cols, Codes::kLength) * 4;
  const std::byte* scales = w.scales + size_t{row} * groups * Scales::kBytes;
  const Centroids<Codes::kLength> centroids(*w.codebook);
  Codes codes;
  Lanes totals[kVectors];
  for (Lanes& total : totals) total = splat(0);
  for (uint32_t g = 0; g < groups; ++g) {
    const uint32_t begin = g * w.group, end = begin + w.group;
    codes.begin_group(words, begin, w.group);
    Lanes lanes[kVectors];
    for (Lanes& a : lanes) a = splat(0);
    for (uint32_t col = begin; col < end; col += kLanes) {
      const Lanes weights = centroids.of(codes.at(col));
      for (uint32_t v = 0; v < kVectors; ++v) {
        lanes[v] = fma(weights, load(x + v * x_stride + col), lanes[v]);
      }
    }
    const Lanes scale = splat(Scales::one(scales + size_t{g} * Scales::kBytes));
    for (uint32_t v = 0; v < kVectors; ++v) totals[v] = fma(lanes[v], scale, totals[v]);
  }
  for (uint32_t v = 0; v < kVectors; ++v) y[v * y_stride] = sum(totals[v]);
}

template <typename Codes, typename Scales = F16Scales>
inline void matmul_codes(const Matrix& w, const MatmulTask& task, const float* x, float* y) {
  for (uint32_t row = task.row_begin; row < task.row_end; ++row) {
    uint32_t v = 0;
    for (; task.vectors - v >= 4; v += 4) {
      codebook_row<Codes, Scales, 4>(w, row, x + size_t{v} * task.x_stride, task.x_stride,
                                     y + size_t{v} * task.y_stride + row, task.y_stride);
    }
    for (; v < task.vectors; ++v) {
      codebook_row<Codes, Scales, 1>(w, row, x + size_t{v} * task.x_stride, task.x_stride,
                                     y + size_t{v} * task.y_stride + row, task.y_stride);
    }
  }
}

inline void matmul_codebook_rows(const Matrix& w, const MatmulTask& task, const float* x,
                                 float* y) {
  if (w.format == Format::mxfp4) return matmul_codes<PackedCodes<4>, E8m0Scales>(w, task, x, y);
  switch (w.codebook->length) {
    case 3:
      return matmul_codes<TernaryCodes>(w, task, x, y);
    case 4:
      return matmul_codes<PackedCodes<2>>(w, task, x, y);
    case 8:
      return matmul_codes<PackedCodes<3>>(w, task, x, y);
    case 16:
      return matmul_codes<PackedCodes<4>>(w, task, x, y);
    default:
      return matmul_codes<ByteCodes>(w, task, x, y);
  }
}

}  // namespace
}  // namespace sluice::kernels
