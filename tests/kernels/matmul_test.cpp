// Matrices of f32, f16 and bf16 times vectors.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/kernels.h"
#include "tests/kernels/tables.h"

namespace sluice::kernels {
namespace {

constexpr Format kFormats[] = {Format::f32, Format::f16, Format::bf16};

std::vector<float> multiply(const Table& by, const Matrix& w, const MatmulTask& task,
                            const std::vector<float>& x) {
  std::vector<float> y(size_t{task.vectors} * task.y_stride, -7.0f);
  by.matmul(w, task, x.data(), y.data());
  return y;
}

TEST(ScalarMatmul, IsCloseToTheProductInDoublePrecision) {
  Random random(1);
  for (const Format format : kFormats) {
    for (const uint32_t cols : {1u, 15u, 16u, 33u, 200u, 1000u}) {
      FloatMatrix w(random, format, 5, cols, 0);
      const std::vector<float> x = random.gaussians(cols);
      const auto y =
          multiply(scalar(), w.matrix, {.row_end = 5, .x_stride = cols, .y_stride = 5}, x);
      for (uint32_t row = 0; row < 5; ++row) {
        double exact = 0, magnitude = 0;
        for (uint32_t i = 0; i < cols; ++i) {
          const double product = w.weight(row, i) * static_cast<double>(x[i]);
          exact += product;
          magnitude += std::abs(product);
        }
        // A term passes one rounding per later term of its lane and four halvings, each 2^-24 at
        // most of the sum of magnitudes.
        const double roundings = (cols + 15) / 16 + 4;
        EXPECT_NEAR(static_cast<double>(y[row]), exact, roundings * 0x1p-24 * magnitude);
      }
    }
  }
}

TEST(ScalarMatmul, AddsTheLanesByHalves) {
  // 2^24 + 1 is not a float: whether a one survives shows which lanes met first.
  std::vector<float> w(16, 0.0f);
  w[0] = 0x1p24f;
  w[8] = 1.0f;  // meets lane 0 first and is lost
  w[4] = 1.0f;  // 4 and 12 meet first and make 2, which survives
  w[12] = 1.0f;
  const std::vector<float> ones(16, 1.0f);
  const Matrix matrix = {
      .rows = 1, .cols = 16, .data = reinterpret_cast<const std::byte*>(w.data())};
  EXPECT_EQ(multiply(scalar(), matrix, {.row_end = 1, .x_stride = 16, .y_stride = 1}, ones)[0],
            0x1p24f + 2.0f);
}

TEST(ScalarMatmul, WritesOnlyItsRowsOfItsVectors) {
  Random random(2);
  FloatMatrix w(random, Format::f32, 8, 20, 0);
  const std::vector<float> x = random.gaussians(40);
  const auto y =
      multiply(scalar(), w.matrix,
               {.row_begin = 3, .row_end = 5, .vectors = 2, .x_stride = 20, .y_stride = 9}, x);
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_EQ(y[i] == -7.0f, i % 9 < 3 || i % 9 >= 5) << i;
  }
}

class TableMatmul : public TableTest {};

TEST_P(TableMatmul, HasTheBitsOfTheScalarTable) {
  Random random(3);
  for (const Format format : kFormats) {
    for (int round = 0; round < 60; ++round) {
      const uint32_t rows = random.between(1, 23), cols = random.between(1, 140);
      FloatMatrix w(random, format, rows, cols, random.between(0, 5));
      MatmulTask task;
      task.row_begin = random.between(0, rows - 1);
      task.row_end = random.between(task.row_begin, rows);
      task.vectors = random.between(0, 9);
      task.x_stride = cols + random.between(0, 3);
      task.y_stride = rows + random.between(0, 3);
      // Not one float more than the last vector has.
      const auto x = random.gaussians(size_t{task.vectors} * task.x_stride);
      EXPECT_TRUE(
          same_bits(multiply(scalar(), w.matrix, task, x), multiply(tested(), w.matrix, task, x)))
          << "format " << static_cast<int>(format) << ", " << rows << " x " << cols << ", rows "
          << task.row_begin << " to " << task.row_end << ", " << task.vectors << " vectors";
    }
  }
}

TEST_P(TableMatmul, HasTheBitsOfTheScalarTableForDenormalsAndSignedZeros) {
  Random random(4);
  FloatMatrix w(random, Format::f32, 9, 77, 0);
  for (size_t i = 0; i < 9 * 77; ++i) {
    const uint32_t tiny = random.bits() & (i % 3 == 0 ? 0x80000000 : 0x80ffffff);
    std::memcpy(w.bytes.data() + i * 4, &tiny, 4);
  }
  const auto x = random.gaussians(77 * 5);
  const MatmulTask task = {.row_end = 9, .vectors = 5, .x_stride = 77, .y_stride = 9};
  EXPECT_TRUE(
      same_bits(multiply(scalar(), w.matrix, task, x), multiply(tested(), w.matrix, task, x)));
}

TEST_P(TableMatmul, GivesTheSameBitsForAnySplitOfRowsAndVectors) {
  Random random(5);
  for (const Format format : kFormats) {
    FloatMatrix w(random, format, 37, 95, 1);
    const auto x = random.gaussians(11 * 95);
    const MatmulTask all = {.row_end = 37, .vectors = 11, .x_stride = 95, .y_stride = 37};
    const auto whole = multiply(tested(), w.matrix, all, x);
    std::vector<float> parts(whole.size());
    for (uint32_t row = 0; row < 37;) {
      const uint32_t row_end = std::min(37u, row + random.between(1, 9));
      for (uint32_t v = 0; v < 11;) {
        const uint32_t count = std::min(11 - v, random.between(1, 5));
        MatmulTask part = all;
        part.row_begin = row;
        part.row_end = row_end;
        part.vectors = count;
        tested().matmul(w.matrix, part, x.data() + v * 95, parts.data() + v * 37);
        v += count;
      }
      row = row_end;
    }
    EXPECT_TRUE(same_bits(whole, parts));
  }
}

// The same matrix in columns.
struct ColumnMatrix {
  Bytes bytes;
  Matrix matrix;

  ColumnMatrix(const Matrix& rows, size_t misalignment) : matrix(rows) {
    const size_t width = rows.format == Format::f32 ? 4 : 2;
    bytes = Bytes(size_t{rows.rows} * rows.cols * width, misalignment);
    for (size_t row = 0; row < rows.rows; ++row) {
      for (size_t col = 0; col < rows.cols; ++col) {
        std::memcpy(bytes.data() + (col * rows.rows + row) * width,
                    rows.data + (row * rows.cols + col) * width, width);
      }
    }
    matrix.data = bytes.data();
    matrix.layout = Layout::columns;
  }
  ColumnMatrix(const ColumnMatrix&) = delete;
  ColumnMatrix& operator=(const ColumnMatrix&) = delete;
};

void compare_columns_with_rows(const Table& by, const Matrix& rows, const MatmulTask& task,
                               Random& random) {
  const ColumnMatrix columns(rows, random.between(0, 5));
  const auto x = random.gaussians(size_t{task.vectors} * task.x_stride);
  EXPECT_TRUE(same_bits(multiply(scalar(), rows, task, x), multiply(by, columns.matrix, task, x)))
      << by.name << ", format " << static_cast<int>(rows.format) << ", " << rows.rows << " x "
      << rows.cols << ", rows " << task.row_begin << " to " << task.row_end << ", " << task.vectors
      << " vectors";
}

TEST(ScalarMatmul, OfColumnsHasTheBitsOfRows) {
  Random random(6);
  for (const Format format : kFormats) {
    for (const uint32_t cols : {1u, 16u, 33u, 200u}) {
      FloatMatrix w(random, format, 7, cols, 0);
      compare_columns_with_rows(
          scalar(), w.matrix,
          {.row_begin = 2, .row_end = 7, .vectors = 3, .x_stride = cols, .y_stride = 7}, random);
    }
  }
}

TEST_P(TableMatmul, OfColumnsHasTheBitsOfRows) {
  Random random(7);
  for (const Format format : kFormats) {
    for (int round = 0; round < 60; ++round) {
      // Past the 256 rows that are computed at once, now and then.
      const uint32_t rows = random.between(1, round % 4 == 0 ? 300 : 70);
      const uint32_t cols = random.between(1, 70);
      FloatMatrix w(random, format, rows, cols, 0);
      MatmulTask task;
      task.row_begin = random.between(0, rows - 1);
      task.row_end = random.between(task.row_begin, rows);
      task.vectors = random.between(0, 9);
      task.x_stride = cols + random.between(0, 3);
      task.y_stride = rows + random.between(0, 3);
      compare_columns_with_rows(tested(), w.matrix, task, random);
    }
  }
}

TEST_P(TableMatmul, OfColumnsHasTheBitsOfRowsForDenormalsAndSignedZeros) {
  Random random(8);
  FloatMatrix w(random, Format::f32, 21, 77, 0);
  for (size_t i = 0; i < 21 * 77; ++i) {
    const uint32_t tiny = random.bits() & (i % 3 == 0 ? 0x80000000 : 0x80ffffff);
    std::memcpy(w.bytes.data() + i * 4, &tiny, 4);
  }
  const MatmulTask task = {.row_end = 21, .vectors = 5, .x_stride = 77, .y_stride = 21};
  compare_columns_with_rows(tested(), w.matrix, task, random);
}

SLUICE_FOR_EACH_TABLE(TableMatmul);

}  // namespace
}  // namespace sluice::kernels
