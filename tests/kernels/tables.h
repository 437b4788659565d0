// What the kernel tests share: seeded random inputs, bytes at odd addresses with garbage behind
// them, random matrices of every format, and the tables to hold against the scalar one.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/tiles.h"

namespace sluice::kernels {

inline const Table& scalar() { return *scalar_table(); }

// Runs each test for every table but the scalar one; skips, aloud, those this processor lacks.
class TableTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supported(GetParam())) {
      GTEST_SKIP() << "this processor or compiler lacks " << name(GetParam());
    }
  }
  static std::string name(Isa isa) {
    return isa == Isa::avx2 ? "avx2" : isa == Isa::avx512 ? "avx512" : "amx";
  }
  const Table& tested() const { return table(GetParam()); }

 public:
  static std::string label(const testing::TestParamInfo<Isa>& info) { return name(info.param); }
};

#define SLUICE_FOR_EACH_TABLE(suite)                                                         \
  INSTANTIATE_TEST_SUITE_P(Tables, suite, testing::Values(Isa::avx2, Isa::avx512, Isa::amx), \
                           suite::label)

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  // In [low, high].
  uint32_t between(uint32_t low, uint32_t high) { return low + bits() % (high - low + 1); }
  uint32_t bits() { return static_cast<uint32_t>(engine_()); }
  float gaussian() { return gaussian_(engine_); }
  std::vector<float> gaussians(size_t n) {
    std::vector<float> values(n);
    for (float& value : values) value = gaussian();
    return values;
  }
  std::vector<float> signs(size_t n) {
    std::vector<float> values(n);
    for (float& value : values) value = (bits() & 1) != 0 ? 1.0f : -1.0f;
    return values;
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> gaussian_;
};

// `size` bytes at an address that is `misalignment` past a multiple of 64, with exactly
// kOverreadBytes behind them. What lies behind is all ones: NaN as a float of any width.
class Bytes {
 public:
  Bytes() = default;
  Bytes(size_t size, size_t misalignment)
      : storage_(kAlignment + misalignment + size + kOverreadBytes, std::byte{0xff}),
        misalignment_(misalignment) {}
  std::byte* data() {
    const size_t address = reinterpret_cast<uintptr_t>(storage_.data());
    return storage_.data() + (kAlignment - address % kAlignment) % kAlignment + misalignment_;
  }

 private:
  static constexpr size_t kAlignment = 64;
  std::vector<std::byte> storage_;
  size_t misalignment_ = 0;
};

inline uint16_t f16_bits(float value) {
  std::byte bytes[2];
  scalar().to_f16(&value, 1, bytes);
  uint16_t bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  return bits;
}

inline float f16_value(uint16_t bits) {
  std::byte bytes[2];
  std::memcpy(bytes, &bits, sizeof(bits));
  float value;
  scalar().to_f32(Format::f16, bytes, 1, &value);
  return value;
}

// A matrix of floats of that format with Gaussian weights.
struct FloatMatrix {
  Bytes bytes;
  Matrix matrix;

  FloatMatrix(Random& random, Format format, uint32_t rows, uint32_t cols, size_t misalignment) {
    const size_t width = format == Format::f32 ? 4 : 2;
    bytes = Bytes(size_t{rows} * cols * width, misalignment);
    for (size_t i = 0; i < size_t{rows} * cols; ++i) {
      const float value = random.gaussian();
      const uint32_t wide = std::bit_cast<uint32_t>(value);
      const uint16_t narrow =
          format == Format::f16 ? f16_bits(value) : static_cast<uint16_t>(wide >> 16);
      std::memcpy(bytes.data() + i * width, width == 4 ? static_cast<const void*>(&wide) : &narrow,
                  width);
    }
    matrix = {.format = format, .rows = rows, .cols = cols, .data = bytes.data()};
  }
  FloatMatrix(const FloatMatrix&) = delete;
  FloatMatrix& operator=(const FloatMatrix&) = delete;

  double weight(uint32_t row, uint32_t col) {
    const size_t width = matrix.format == Format::f32 ? 4 : 2;
    float value;
    scalar().to_f32(matrix.format, matrix.data + (size_t{row} * matrix.cols + col) * width, 1,
                    &value);
    return static_cast<double>(value);
  }
};

// Centroids of a unit Gaussian, not symmetric, so that a swapped index shows; 8 bits are uniform.
inline std::vector<float> centroids(uint32_t length) {
  switch (length) {
    case 3:
      return {-1.224f, 0.01f, 1.25f};
    case 4:
      return {-1.51f, -0.4528f, 0.46f, 1.5f};
    case 8:
      return {-2.15f, -1.344f, -0.756f, -0.245f, 0.25f, 0.75f, 1.35f, 2.16f};
    case 256: {
      std::vector<float> uniform(256);
      for (size_t i = 0; i < 256; ++i) uniform[i] = (2 * static_cast<float>(i) - 255) / 64;
      return uniform;
    }
    default:
      return {-2.73f, -2.07f, -1.62f, -1.26f, -0.943f, -0.657f, -0.388f, -0.1285f,
              0.13f,  0.39f,  0.66f,  0.94f,  1.25f,   1.61f,   2.08f,   2.74f};
  }
}

// A TurboQuant matrix with random codes, whose codes are known apart from its words.
struct CodeMatrix {
  Bytes words, scales;
  std::vector<uint8_t> codes;  // [rows, cols]
  Codebook codebook;
  Matrix matrix;

  CodeMatrix(Random& random, uint32_t length, uint32_t rows, uint32_t cols, uint32_t group,
             size_t misalignment) {
    const uint32_t groups = cols / group, row_length = row_words(cols, length);
    const uint32_t per_word = length == 3    ? 20
                              : length == 4  ? 16
                              : length == 8  ? 10
                              : length == 16 ? 8
                                             : 4;
    words = Bytes(size_t{rows} * row_length * 4, misalignment);
    scales = Bytes(size_t{rows} * groups * 2, misalignment / 2 * 2 + 1);
    codes.resize(size_t{rows} * cols);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random.between(0, length - 1));
    for (uint32_t row = 0; row < rows; ++row) {
      for (uint32_t i = 0; i < row_length; ++i) {
        uint32_t word = 0;
        for (uint32_t k = per_word; k > 0; --k) {
          const uint32_t col = i * per_word + k - 1;
          word = word * length + (col < cols ? codes[size_t{row} * cols + col] : 0);
        }
        std::memcpy(words.data() + (size_t{row} * row_length + i) * 4, &word, 4);
      }
      for (uint32_t g = 0; g < groups; ++g) {
        const uint16_t scale = f16_bits(0.01f + 0.02f * std::abs(random.gaussian()));
        std::memcpy(scales.data() + (size_t{row} * groups + g) * 2, &scale, 2);
      }
    }
    codebook = make_codebook(centroids(length).data(), length);
    matrix = {.format = Format::turboquant,
              .rows = rows,
              .cols = cols,
              .data = words.data(),
              .scales = scales.data(),
              .group = group,
              .codebook = &codebook};
  }
  CodeMatrix(const CodeMatrix&) = delete;
  CodeMatrix& operator=(const CodeMatrix&) = delete;

  uint8_t code(uint32_t row, uint32_t col) const { return codes[size_t{row} * matrix.cols + col]; }
  float value(uint32_t row, uint32_t col) const {
    return centroids(codebook.length)[code(row, col)];
  }
  int32_t quantized(uint32_t row, uint32_t col) const {
    return codebook.length == 256 ? 2 * code(row, col) - 255 : codebook.quantized[code(row, col)];
  }
  float scale(uint32_t row, uint32_t g) const {
    uint16_t bits;
    std::memcpy(&bits, matrix.scales + (size_t{row} * (matrix.cols / matrix.group) + g) * 2, 2);
    return f16_value(bits);
  }
};

// The same matrix in both layouts. The tiles' bytes end where they end, with garbage behind.
struct TiledMatrix {
  CodeMatrix rows;
  Bytes codes, scales;
  TileShape shape;
  Matrix matrix;  // in tiles

  TiledMatrix(Random& random, uint32_t length, uint32_t row_count, uint32_t cols, uint32_t group)
      : rows(random, length, row_count, cols, group, 3),
        codes(tile_bytes(row_count, cols, length), 0),
        scales(tile_scale_bytes(row_count, cols, group), 2),
        shape{.rows = row_count, .cols = cols, .group = group, .length = length},
        matrix(rows.matrix) {
    pack_tiles(shape, rows.matrix.data, rows.matrix.scales, codes.data(), scales.data());
    matrix.layout = Layout::tiles;
    matrix.data = codes.data();
    matrix.scales = scales.data();
  }
};

// Storage for quantized vectors, 64-byte aligned as kernels.h asks, ending with the last value.
struct IntegerVectors {
  Bytes values;
  std::vector<float> scales;
  std::vector<int32_t> sums;
  QuantizedVectors view;

  IntegerVectors(uint32_t vectors, uint32_t cols, uint32_t group, uint32_t extra = 0) {
    const uint32_t value_stride = (cols + 63) / 64 * 64 + 64 * extra;
    const uint32_t group_stride = cols / group + extra;
    values = Bytes(size_t{2} * vectors * value_stride, 0);
    scales.resize(size_t{vectors} * group_stride, -1.0f);
    sums.resize(size_t{vectors} * group_stride, -1);
    view = {.values = values.data(),
            .scales = scales.data(),
            .sums = sums.data(),
            .value_stride = value_stride,
            .group_stride = group_stride};
  }
  IntegerVectors(const IntegerVectors&) = delete;
  IntegerVectors& operator=(const IntegerVectors&) = delete;

  void quantize(const Table& by, const std::vector<float>& x, uint32_t vectors, uint32_t cols,
                uint32_t group) {
    for (uint32_t v = 0; v < vectors; ++v) {
      by.quantize(x.data() + size_t{v} * cols, cols, group, view, v);
    }
  }

  // Input `col` of vector `v` as that table keeps it: AVX-512 and AMX in planes of high and low
  // bytes, the others in words.
  int32_t value(const Table& by, uint32_t cols, uint32_t v, uint32_t col) const {
    const std::byte* row = view.values + size_t{2} * v * view.value_stride;
    if (by.isa == Isa::scalar || by.isa == Isa::avx2) {
      int16_t word;
      std::memcpy(&word, row + 2 * col, sizeof(word));
      return word;
    }
    const auto byte = [row](size_t at) { return static_cast<int8_t>(row[at]); };
    return 256 * byte(col) + byte((cols + 63) / 64 * 64 + col);
  }
};

// Equal bit for bit, so that 0 and -0 differ and NaN may equal NaN.
inline testing::AssertionResult same_bits(const std::vector<float>& a,
                                          const std::vector<float>& b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
      return testing::AssertionFailure() << "element " << i << ": " << a[i] << " and " << b[i];
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace sluice::kernels
