// MXFP4, F8_E4M3 and affine matrices times float and integer vectors.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/kernels.h"
#include "tests/kernels/stored_matrix.h"
#include "tests/kernels/tables.h"

namespace sluice::kernels {
namespace {

std::vector<float> multiply(const Table& by, const Matrix& w, const MatmulTask& task,
                            const std::vector<float>& x) {
  std::vector<float> y(size_t{task.vectors} * task.y_stride + 1, -7.0f);  // never empty
  by.matmul(w, task, x.data(), y.data());
  return y;
}

std::vector<float> multiply_integer(const Table& by, const Matrix& w, const MatmulTask& task,
                                    const QuantizedVectors& x) {
  std::vector<float> y(size_t{task.vectors} * task.y_stride + 1, -7.0f);  // never empty
  by.matmul_integer(w, task, x, y.data());
  return y;
}

TEST(Mxfp4Codebook, HasTheValuesOfE2M1TimesFourAsIntegers) {
  const Codebook& codebook = mxfp4_codebook();
  constexpr float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  EXPECT_EQ(codebook.length, 16u);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(codebook.values[i], i < 8 ? kValues[i] : -kValues[i - 8]) << i;
    EXPECT_EQ(static_cast<float>(codebook.quantized[i]) * codebook.step, codebook.values[i]) << i;
  }
}

TEST(ScalarFormats, AreCloseToTheProductInDoublePrecision) {
  Random random(1);
  for (const uint32_t units : {1u, 4u, 11u}) {
    for_each_format(random, 21, units, [&](const StoredMatrix& w) {
      const uint32_t rows = w.matrix.rows, cols = w.matrix.cols;
      const std::vector<float> x = random.gaussians(cols);
      const auto y =
          multiply(scalar(), w.matrix, {.row_end = rows, .x_stride = cols, .y_stride = rows}, x);
      for (uint32_t row = 0; row < rows; ++row) {
        double exact = 0, magnitude = 0;
        for (uint32_t i = 0; i < cols; ++i) {
          exact += w.weight(row, i) * static_cast<double>(x[i]);
          magnitude += w.magnitude(row, i) * std::abs(static_cast<double>(x[i]));
        }
        // As of plain floats, and one rounding of each weight and of each group's share.
        const double roundings = (cols + 15) / 16 + cols / w.matrix.group + 6;
        EXPECT_NEAR(static_cast<double>(y[row]), exact, roundings * 0x1p-24 * magnitude)
            << w.name << ", row " << row;
      }
    });
  }
}

TEST(ScalarFormats, AreCloseToTheProductOfQuantizedInputsInDoublePrecision) {
  Random random(2);
  for (const uint32_t units : {1u, 4u, 11u}) {
    for_each_format(random, 21, units, [&](const StoredMatrix& w) {
      if (!takes_integers(w.matrix.format)) return;
      const uint32_t rows = w.matrix.rows, cols = w.matrix.cols, group = w.matrix.group;
      IntegerVectors x(1, cols, group);
      x.quantize(scalar(), random.gaussians(cols), 1, cols, group);
      const auto y =
          multiply_integer(scalar(), w.matrix, {.row_end = rows, .y_stride = rows}, x.view);
      for (uint32_t row = 0; row < rows; ++row) {
        double exact = 0, magnitude = 0;
        for (uint32_t i = 0; i < cols; ++i) {
          const double input =
              x.value(scalar(), cols, 0, i) * static_cast<double>(x.scales[i / group]);
          exact += w.weight(row, i) * input;
          magnitude += w.magnitude(row, i) * std::abs(input);
        }
        // Of a group's share: the sum as a float, two products of scales, one addition; twice.
        const double roundings = 2 * (cols / group + 3);
        // A product of scales that is denormal loses up to 2^-150, times a sum below 2^24.
        EXPECT_NEAR(static_cast<double>(y[row]), exact, roundings * 0x1p-24 * magnitude + 0x1p-126)
            << w.name << ", row " << row;
      }
    });
  }
}

TEST(ScalarFormats, GiveNanForAnMxfp4ScaleOf255) {
  Random random(3);
  StoredMatrix w = StoredMatrix::mxfp4(random, 3, 64, Layout::rows);
  w.scales.data()[3] = std::byte{255};  // row 1, its second block
  const auto y = multiply(scalar(), w.matrix, {.row_end = 3, .x_stride = 64, .y_stride = 3},
                          random.gaussians(64));
  EXPECT_TRUE(std::isfinite(y[0]) && std::isnan(y[1]) && std::isfinite(y[2]));
}

TEST(ScalarFormats, TakeEveryOtherMxfp4ScaleAsAPowerOfTwo) {
  Random random(9);
  for (int scale = 0; scale < 255; ++scale) {
    StoredMatrix w = StoredMatrix::mxfp4(random, 1, 32, Layout::rows);
    std::memset(w.data.data(), 0x22, 16);  // all ones
    w.scales.data()[0] = static_cast<std::byte>(scale);
    std::vector<float> x(32, 0.0f);
    x[5] = 0x1p100f;
    if (scale > 100) x[5] = 0x1p-100f;
    const auto y = multiply(scalar(), w.matrix, {.row_end = 1, .x_stride = 32, .y_stride = 1}, x);
    EXPECT_EQ(y[0], std::ldexp(x[5], scale - 127)) << scale;
  }
}

class TableFormats : public TableTest {};

TEST_P(TableFormats, HaveTheBitsOfTheScalarTable) {
  Random random(4);
  for (int round = 0; round < 12; ++round) {
    for_each_format(
        random, random.between(1, 40), random.between(1, 37), [&](const StoredMatrix& w) {
          const uint32_t rows = w.matrix.rows, cols = w.matrix.cols;
          const bool tiles = w.matrix.layout == Layout::tiles;
          MatmulTask task;
          task.row_begin =
              tiles ? random.between(0, (rows - 1) / 16) * 16 : random.between(0, rows - 1);
          task.row_end = tiles ? rows : random.between(task.row_begin, rows);
          task.vectors = random.between(0, 9);
          task.x_stride = cols + random.between(0, 3);
          task.y_stride = rows + random.between(0, 3);
          const auto x = random.gaussians(size_t{task.vectors} * task.x_stride);
          EXPECT_TRUE(same_bits(multiply(scalar(), w.matrix, task, x),
                                multiply(tested(), w.matrix, task, x)))
              << w.name << ", " << rows << " x " << cols << ", rows " << task.row_begin << " to "
              << task.row_end << ", " << task.vectors << " vectors";
        });
  }
}

TEST_P(TableFormats, HaveTheBitsOfTheScalarTableForIntegerInputs) {
  Random random(5);
  for (int round = 0; round < 12; ++round) {
    for_each_format(
        random, random.between(1, 40), random.between(1, 37), [&](const StoredMatrix& w) {
          if (!takes_integers(w.matrix.format)) return;
          const uint32_t rows = w.matrix.rows, cols = w.matrix.cols, group = w.matrix.group;
          const bool tiles = w.matrix.layout == Layout::tiles;
          MatmulTask task;
          task.row_begin =
              tiles ? random.between(0, (rows - 1) / 16) * 16 : random.between(0, rows - 1);
          task.row_end = tiles ? rows : random.between(task.row_begin, rows);
          task.vectors = random.between(0, 37);
          task.y_stride = rows + random.between(0, 3);
          const auto x = random.gaussians(size_t{task.vectors} * cols);
          IntegerVectors by_scalar(task.vectors, cols, group), by_tested(task.vectors, cols, group);
          by_scalar.quantize(scalar(), x, task.vectors, cols, group);
          by_tested.quantize(tested(), x, task.vectors, cols, group);
          EXPECT_TRUE(same_bits(multiply_integer(scalar(), w.matrix, task, by_scalar.view),
                                multiply_integer(tested(), w.matrix, task, by_tested.view)))
              << w.name << ", " << rows << " x " << cols << ", rows " << task.row_begin << " to "
              << task.row_end << ", " << task.vectors << " vectors";
        });
  }
}

TEST_P(TableFormats, HaveTheBitsOfTheScalarTableForTheLargestIntegersAndInputs) {
  Random random(6);
  for (const uint32_t group : {32u, 64u, 128u}) {
    for (const uint32_t bits : {2u, 3u, 4u, 5u, 6u, 8u}) {
      const uint32_t cols = 2 * group;
      StoredMatrix w = StoredMatrix::affine(random, 17, cols, bits, group, Format::f32);
      std::memset(w.data.data(), 0xff, size_t{17} * cols / 8 * bits);
      std::vector<float> x(cols, 3.0f);
      for (uint32_t i = 0; i < group; ++i) x[i] = -3.0f;
      IntegerVectors by_scalar(1, cols, group), by_tested(1, cols, group);
      by_scalar.quantize(scalar(), x, 1, cols, group);
      by_tested.quantize(tested(), x, 1, cols, group);
      const MatmulTask task = {.row_end = 17, .y_stride = 17};
      EXPECT_TRUE(same_bits(multiply_integer(scalar(), w.matrix, task, by_scalar.view),
                            multiply_integer(tested(), w.matrix, task, by_tested.view)))
          << w.name;
    }
  }
}

TEST_P(TableFormats, DecodeEveryE4M3CodeAndGiveNanForRowsThatHoldOne) {
  // One weight a row, times 1, in blocks with a scale of 1: the products are the values.
  std::vector<float> scale = {1.0f};
  Bytes codes(256 * 5, 3);
  std::memset(codes.data(), 0, 256 * 5);
  for (size_t code = 0; code < 256; ++code) {
    codes.data()[5 * code + code % 5] = static_cast<std::byte>(code);
  }
  const Matrix w = {.format = Format::f8_e4m3,
                    .rows = 256,
                    .cols = 5,
                    .data = codes.data(),
                    .scales = reinterpret_cast<const std::byte*>(scale.data()),
                    .group = 128,
                    .block_rows = 256,
                    .scale_format = Format::f32};
  for (const uint32_t vectors : {1u, 4u}) {
    const std::vector<float> ones(size_t{5} * vectors, 1.0f);
    const MatmulTask task = {.row_end = 256, .vectors = vectors, .x_stride = 5, .y_stride = 256};
    for (const Table* by : {&scalar(), &tested()}) {
      const auto y = multiply(*by, w, task, ones);
      for (size_t code = 0; code < 256; ++code) {
        if ((code & 0x7f) == 0x7f) {
          EXPECT_TRUE(std::isnan(y[code])) << code;
        } else {
          EXPECT_EQ(static_cast<double>(y[code]), StoredMatrix::e4m3(static_cast<uint8_t>(code)));
        }
      }
    }
  }
}

TEST_P(TableFormats, GiveTheSameBitsForAnySplitOfRowsAndVectors) {
  Random random(7);
  for_each_format(random, 53, 6, [&](const StoredMatrix& w) {
    const uint32_t cols = w.matrix.cols;
    const uint32_t step = w.matrix.layout == Layout::tiles ? 16 : 1;
    const auto x = random.gaussians(size_t{11} * cols);
    const MatmulTask all = {.row_end = 53, .vectors = 11, .x_stride = cols, .y_stride = 53};
    const auto whole = multiply(tested(), w.matrix, all, x);
    auto parts = whole;
    std::fill(parts.begin(), parts.end() - 1, 0.0f);
    for (uint32_t row = 0; row < 53;) {
      const uint32_t row_end = std::min(53u, row + step * random.between(1, 9));
      for (uint32_t v = 0; v < 11;) {
        const uint32_t count = std::min(11 - v, random.between(1, 5));
        MatmulTask part = all;
        part.row_begin = row;
        part.row_end = row_end;
        part.vectors = count;
        tested().matmul(w.matrix, part, x.data() + size_t{v} * cols, parts.data() + size_t{v} * 53);
        v += count;
      }
      row = row_end;
    }
    EXPECT_TRUE(same_bits(whole, parts)) << w.name;
  });
}

TEST(Tiles, OfMxfp4UnpackIntoTheSameBlocksAndScales) {
  Random random(8);
  StoredMatrix w = StoredMatrix::mxfp4(random, 37, 96, Layout::rows);
  const TileShape shape = {.rows = 37, .cols = 96, .group = 32, .length = 16, .scale_bytes = 1};
  std::vector<std::byte> codes(tile_bytes(37, 96, 16)), scales(tile_scale_bytes(37, 96, 32, 1));
  pack_tiles(shape, w.data.data(), w.scales.data(), codes.data(), scales.data());
  std::vector<std::byte> words(size_t{37} * 48), row_scales(size_t{37} * 3);
  unpack_tiles(shape, codes.data(), scales.data(), words.data(), row_scales.data());
  EXPECT_TRUE(std::equal(words.begin(), words.end(), w.data.data()));
  EXPECT_TRUE(std::equal(row_scales.begin(), row_scales.end(), w.scales.data()));
}

SLUICE_FOR_EACH_TABLE(TableFormats);

}  // namespace
}  // namespace sluice::kernels
