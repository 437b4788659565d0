// Random matrices of the formats that published checkpoints store besides plain floats and
// TurboQuant, each with its exact weights, computed here from what the formats say.
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/tiles.h"
#include "tests/kernels/tables.h"

namespace sluice::kernels {

struct StoredMatrix {
  Bytes data, scales, biases;
  Matrix matrix;
  std::vector<double> weights;     // [rows, cols], exact
  std::vector<double> magnitudes;  // [rows, cols]: what their roundings are relative to
  std::string name;

  // What an E4M3 stands for; not of its NaN codes.
  static double e4m3(uint8_t code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    return (code & 0x80) != 0 ? -magnitude : magnitude;
  }

  static StoredMatrix mxfp4(Random& random, uint32_t rows, uint32_t cols, Layout layout) {
    constexpr double kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    StoredMatrix m(rows, cols, layout == Layout::rows ? "mxfp4 in rows" : "mxfp4 in tiles");
    m.data = Bytes(size_t{rows} * cols / 2, 5);
    m.scales = Bytes(size_t{rows} * cols / 32, 3);
    for (size_t i = 0; i < m.weights.size() / 32; ++i) {
      // Mostly of the sizes that weights have, now and then the smallest.
      const uint32_t scale = random.between(0, 40) == 0 ? 0 : random.between(110, 130);
      m.scales.data()[i] = static_cast<std::byte>(scale);
      for (size_t k = 0; k < 16; ++k) {
        const uint32_t pair = random.bits() & 255;
        m.data.data()[16 * i + k] = static_cast<std::byte>(pair);
        for (size_t half = 0; half < 2; ++half) {
          const uint32_t code = half == 0 ? pair & 15 : pair >> 4;
          m.set(32 * i + 2 * k + half, (code < 8 ? 1 : -1) * kValues[code % 8] *
                                           std::ldexp(1.0, static_cast<int>(scale) - 127));
        }
      }
    }
    m.matrix.format = Format::mxfp4;
    m.matrix.group = 32;
    m.matrix.codebook = &mxfp4_codebook();
    if (layout == Layout::tiles) {
      const TileShape shape = {
          .rows = rows, .cols = cols, .group = 32, .length = 16, .scale_bytes = 1};
      Bytes codes(tile_bytes(rows, cols, 16), 0);
      Bytes tile_scales(tile_scale_bytes(rows, cols, 32, 1), 7);
      pack_tiles(shape, m.data.data(), m.scales.data(), codes.data(), tile_scales.data());
      m.data = std::move(codes);
      m.scales = std::move(tile_scales);
      m.matrix.layout = layout;
    }
    return m.placed();
  }

  static StoredMatrix f8(Random& random, uint32_t rows, uint32_t cols, uint32_t block_rows,
                         uint32_t group, Format scale_format = Format::f32) {
    StoredMatrix m(rows, cols,
                   "f8 in blocks of " + std::to_string(block_rows) + " x " + std::to_string(group));
    const uint32_t blocks = (cols + group - 1) / group;
    const uint32_t count = (rows + block_rows - 1) / block_rows * blocks;
    FloatMatrix scale(random, scale_format, 1, count, 0);
    m.data = Bytes(size_t{rows} * cols, 1);
    m.scales = Bytes(size_t{count} * (scale_format == Format::f32 ? 4 : 2), 3);
    std::memcpy(m.scales.data(), scale.bytes.data(),
                size_t{count} * (scale_format == Format::f32 ? 4 : 2));
    for (uint32_t row = 0; row < rows; ++row) {
      for (uint32_t col = 0; col < cols; ++col) {
        auto code = static_cast<uint8_t>(random.bits());
        if ((code & 0x7f) == 0x7f) code ^= 1;
        const size_t i = size_t{row} * cols + col;
        m.data.data()[i] = static_cast<std::byte>(code);
        m.set(i, e4m3(code) * scale.weight(0, row / block_rows * blocks + col / group));
      }
    }
    m.matrix.format = Format::f8_e4m3;
    m.matrix.scale_format = scale_format;
    m.matrix.group = group;
    m.matrix.block_rows = block_rows;
    return m.placed();
  }

  static StoredMatrix affine(Random& random, uint32_t rows, uint32_t cols, uint32_t bits,
                             uint32_t group, Format scale_format) {
    StoredMatrix m(rows, cols,
                   "affine of " + std::to_string(bits) + " bits in groups of " +
                       std::to_string(group) + ", scales of format " +
                       std::to_string(static_cast<int>(scale_format)));
    const size_t row_bytes = size_t{cols} / 8 * bits, groups = size_t{rows} * (cols / group);
    FloatMatrix scale(random, scale_format, 1, static_cast<uint32_t>(groups), 0);
    FloatMatrix bias(random, scale_format, 1, static_cast<uint32_t>(groups), 0);
    const size_t width = scale_format == Format::f32 ? 4 : 2;
    m.scales = Bytes(groups * width, 1);
    m.biases = Bytes(groups * width, 3);
    std::memcpy(m.scales.data(), scale.bytes.data(), groups * width);
    std::memcpy(m.biases.data(), bias.bytes.data(), groups * width);
    m.data = Bytes(rows * row_bytes, 1);
    std::memset(m.data.data(), 0, rows * row_bytes);
    for (uint32_t row = 0; row < rows; ++row) {
      for (uint32_t col = 0; col < cols; ++col) {
        const uint32_t integer = random.bits() & ((1u << bits) - 1);
        for (uint32_t b = 0; b < bits; ++b) {
          const size_t bit = size_t{col} * bits + b;
          m.data.data()[row * row_bytes + bit / 8] |=
              static_cast<std::byte>((integer >> b & 1) << bit % 8);
        }
        const size_t g = size_t{row} * (cols / group) + col / group;
        const double s = scale.weight(0, static_cast<uint32_t>(g));
        const double z = bias.weight(0, static_cast<uint32_t>(g));
        m.set(size_t{row} * cols + col, s * integer + z);
        m.magnitudes[size_t{row} * cols + col] = std::abs(s) * integer + std::abs(z);
      }
    }
    m.matrix.format = Format::affine;
    m.matrix.group = group;
    m.matrix.bits = bits;
    m.matrix.scale_format = scale_format;
    return m.placed();
  }

  double weight(uint32_t row, uint32_t col) const {
    return weights[size_t{row} * matrix.cols + col];
  }
  double magnitude(uint32_t row, uint32_t col) const {
    return magnitudes[size_t{row} * matrix.cols + col];
  }

 private:
  StoredMatrix(uint32_t rows, uint32_t cols, std::string what)
      : weights(size_t{rows} * cols), magnitudes(weights.size()), name(std::move(what)) {
    matrix.rows = rows;
    matrix.cols = cols;
  }
  void set(size_t i, double value) {
    weights[i] = value;
    magnitudes[i] = std::abs(value);
  }
  StoredMatrix&& placed() {
    matrix.data = data.data();
    matrix.scales = scales.data();
    matrix.biases = matrix.format == Format::affine ? biases.data() : nullptr;
    return std::move(*this);
  }
};

// Calls each(matrix) for every format, layout and size of group with `rows` rows; about `units`
// times 32 inputs, and of formats that allow it a number that nothing divides.
inline void for_each_format(Random& random, uint32_t rows, uint32_t units,
                            const std::function<void(const StoredMatrix&)>& each) {
  for (const Layout layout : {Layout::rows, Layout::tiles}) {
    each(StoredMatrix::mxfp4(random, rows, 32 * units, layout));
  }
  for (const auto& [block_rows, group] : {std::pair{128u, 128u}, {32u, 32u}, {3u, 48u}}) {
    const auto format = std::vector{Format::f32, Format::bf16}[random.bits() % 2];
    each(StoredMatrix::f8(random, rows, 32 * units + random.between(1, 31), block_rows, group,
                          format));
  }
  for (const uint32_t bits : {2u, 3u, 4u, 5u, 6u, 8u}) {
    for (const uint32_t group : {32u, 64u, 128u}) {
      const auto format = std::vector{Format::f16, Format::bf16, Format::f32}[random.bits() % 3];
      const uint32_t cols = (32 * units + group - 1) / group * group;
      each(StoredMatrix::affine(random, rows, cols, bits, group, format));
    }
  }
}

}  // namespace sluice::kernels
