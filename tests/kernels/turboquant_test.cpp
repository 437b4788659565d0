// TurboQuant matrices times float and integer vectors, and the codebooks' integers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "tests/kernels/tables.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kLengths[] = {3, 4, 8, 16, 256};
constexpr uint32_t kGroups[] = {32, 64, 128};

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

TEST(RowWords, RoundUpToWholeWords) {
  EXPECT_EQ(row_words(2048, 16), 256u);
  EXPECT_EQ(row_words(2048, 8), 205u);
  EXPECT_EQ(row_words(2048, 4), 128u);
  EXPECT_EQ(row_words(2048, 3), 103u);
  EXPECT_EQ(row_words(32, 8), 4u);
  EXPECT_EQ(row_words(4294967264, 8), 429496727u);
}

// The error that the contract minimizes, of the even or the odd integers.
double step_error(const std::vector<float>& values, double step, bool odd) {
  double error = 0;
  for (const float centroid : values) {
    const double value = centroid;
    const double steps = value / step;
    const double nearest = odd ? 2 * std::floor(steps / 2) + 1 : 2 * std::round(steps / 2);
    const double largest = odd ? 255 : 254;
    const double difference = std::clamp(nearest, -largest, largest) * step - value;
    error += std::exp(-0.5 * value * value) * difference * difference;
  }
  return error;
}

bool is_odd(const Codebook& codebook) { return codebook.quantized[0] % 2 != 0; }

TEST(MakeCodebook, KeepsTheValuesAndRoundsEachToAnIntegerOfOneParity) {
  for (const uint32_t length : kLengths) {
    const std::vector<float> values = centroids(length);
    const Codebook codebook = make_codebook(values.data(), length);
    EXPECT_EQ(codebook.length, length);
    for (uint32_t i = 0; i < 16; ++i) {
      EXPECT_EQ(codebook.values[i], i < length ? values[i] : 0.0f) << length;
      if (i >= length) continue;
      EXPECT_EQ(codebook.quantized[i] % 2 != 0, is_odd(codebook));
      EXPECT_LE(std::abs(codebook.quantized[i]), 255);
      const double exact =
          static_cast<double>(codebook.values[i]) / static_cast<double>(codebook.step);
      EXPECT_LE(std::abs(exact - codebook.quantized[i]), 1.0 + 1e-4);
    }
  }
}

TEST(MakeCodebook, FindsAStepAndAParityThatNoOtherBeats) {
  for (const uint32_t length : kLengths) {
    const std::vector<float> values = centroids(length);
    const Codebook codebook = make_codebook(values.data(), length);
    const double found = step_error(values, static_cast<double>(codebook.step), is_odd(codebook));
    double largest = 0;
    for (const float value : values)
      largest = std::max(largest, std::abs(static_cast<double>(value)));
    for (double steps = 20; steps <= 255.4; steps += 0.01) {
      // The step was rounded to float, which moves a point by up to 2^-24 of it.
      EXPECT_LE(found, step_error(values, largest / steps, false) + 1e-12) << length;
      EXPECT_LE(found, step_error(values, largest / steps, true) + 1e-12) << length;
    }
  }
}

TEST(MakeCodebook, HandlesCentroidsFarOutsideTheGaussian) {
  const std::vector<float> values = {-60000.0f, 0.0f, 30000.0f};
  const Codebook codebook = make_codebook(values.data(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_NEAR(static_cast<double>(codebook.quantized[i]) * static_cast<double>(codebook.step),
                static_cast<double>(values[static_cast<size_t>(i)]), 300.0);
  }
}

TEST(IsUniform, AcceptsTheEvenCentroidsOfEightBitsAlone) {
  std::vector<float> values = centroids(256);
  EXPECT_TRUE(is_uniform(values.data(), 256));
  const Codebook codebook = make_codebook(values.data(), 256);
  EXPECT_EQ(codebook.length, 256u);
  EXPECT_EQ(codebook.step, 1.0f / 64);
  for (float& value : values) value *= 0.5f;  // another step
  EXPECT_TRUE(is_uniform(values.data(), 256));
  EXPECT_FALSE(is_uniform(values.data(), 16));
  for (const float bad : {0.0f, std::nextafter(values[7], 0.0f), HUGE_VALF, NAN}) {
    std::vector<float> uneven = values;
    uneven[7] = bad;
    EXPECT_FALSE(is_uniform(uneven.data(), 256)) << bad;
  }
  for (const float step : {0.0f, -1.0f, HUGE_VALF, NAN}) {
    std::vector<float> scaled = values;
    for (size_t i = 0; i < 256; ++i) scaled[i] = (2 * static_cast<float>(i) - 255) * step;
    EXPECT_FALSE(is_uniform(scaled.data(), 256)) << step;
  }
}

TEST(ScalarTurboquant, FloatPathIsCloseToTheProductInDoublePrecision) {
  Random random(1);
  for (const uint32_t length : kLengths) {
    for (const uint32_t group : kGroups) {
      const uint32_t cols = 3 * group;
      CodeMatrix w(random, length, 4, cols, group, 0);
      const auto x = random.gaussians(cols);
      const auto y =
          multiply(scalar(), w.matrix, {.row_end = 4, .x_stride = cols, .y_stride = 4}, x);
      for (uint32_t row = 0; row < 4; ++row) {
        double exact = 0, magnitude = 0;
        for (uint32_t i = 0; i < cols; ++i) {
          const double term = static_cast<double>(w.value(row, i)) *
                              static_cast<double>(w.scale(row, i / group)) *
                              static_cast<double>(x[i]);
          exact += term;
          magnitude += std::abs(term);
        }
        // Roundings on a term's way: its group's lane, the groups after it, four halvings.
        const double roundings = group / 16 + cols / group + 4;
        EXPECT_NEAR(static_cast<double>(y[row]), exact, roundings * 0x1p-24 * magnitude);
      }
    }
  }
}

TEST(ScalarTurboquant, IntegerPathAddsExactGroupsInOrder) {
  Random random(2);
  for (const uint32_t length : kLengths) {
    for (const uint32_t group : kGroups) {
      const uint32_t cols = 5 * group;
      CodeMatrix w(random, length, 4, cols, group, 0);
      IntegerVectors x(1, cols, group);
      x.quantize(scalar(), random.gaussians(cols), 1, cols, group);
      const auto y = multiply_integer(scalar(), w.matrix, {.row_end = 4, .y_stride = 4}, x.view);
      for (uint32_t row = 0; row < 4; ++row) {
        float total = 0;
        for (uint32_t g = 0; g < cols / group; ++g) {
          int64_t exact = 0;
          for (uint32_t i = g * group; i < (g + 1) * group; ++i) {
            exact += int64_t{w.quantized(row, i)} * x.value(scalar(), cols, 0, i);
          }
          const float input_scale = w.codebook.step * x.scales[g];
          total = std::fma(static_cast<float>(exact), w.scale(row, g) * input_scale, total);
        }
        EXPECT_EQ(y[row], total);
      }
    }
  }
}

TEST(ScalarTurboquant, IntegerPathIsNearTheFloatPath) {
  Random random(3);
  constexpr uint32_t kCols = 1024, kRows = 64;
  for (const uint32_t length : kLengths) {
    CodeMatrix w(random, length, kRows, kCols, 64, 0);
    const auto x = random.gaussians(kCols);
    IntegerVectors quantized(1, kCols, 64);
    quantized.quantize(scalar(), x, 1, kCols, 64);
    const auto exact =
        multiply(scalar(), w.matrix, {.row_end = kRows, .x_stride = kCols, .y_stride = kRows}, x);
    const auto fast =
        multiply_integer(scalar(), w.matrix, {.row_end = kRows, .y_stride = kRows}, quantized.view);
    double error = 0, size = 0;
    for (uint32_t row = 0; row < kRows; ++row) {
      const double difference = static_cast<double>(fast[row]) - static_cast<double>(exact[row]);
      error += difference * difference;
      size += static_cast<double>(exact[row]) * static_cast<double>(exact[row]);
    }
    // The inputs' rounding is nothing beside the codebook's, which is uniform within one step of
    // 255 in a largest centroid near 2.74 σ: 2 * 2.74 / 255 / √12 = 0.62 % of σ, if nothing were
    // gained by choosing the step.
    EXPECT_LT(std::sqrt(error / size), 0.0062) << length;
  }
}

class TableTurboquant : public TableTest {
 protected:
  // Each table quantizes for itself, since the order of the values is its own.
  testing::AssertionResult same_integer_products(const Matrix& w, const MatmulTask& task,
                                                 const std::vector<float>& x) const {
    std::vector<float> results[2];
    for (const Table* by : {&scalar(), &tested()}) {
      IntegerVectors inputs(task.vectors, w.cols, w.group, task.vectors % 2);
      inputs.quantize(*by, x, task.vectors, w.cols, w.group);
      results[by == &tested()] = multiply_integer(*by, w, task, inputs.view);
    }
    return same_bits(results[0], results[1]);
  }
};

TEST_P(TableTurboquant, FloatPathHasTheBitsOfTheScalarTable) {
  Random random(4);
  for (const uint32_t length : kLengths) {
    for (int round = 0; round < 24; ++round) {
      const uint32_t group = kGroups[round % 3], cols = group * random.between(1, 7);
      const uint32_t rows = random.between(1, 20);
      CodeMatrix w(random, length, rows, cols, group, random.between(0, 7));
      MatmulTask task;
      task.row_begin = random.between(0, rows - 1);
      task.row_end = random.between(task.row_begin, rows);
      task.vectors = random.between(1, 9);
      task.x_stride = cols + random.between(0, 3);
      task.y_stride = rows + random.between(0, 3);
      const auto x = random.gaussians(size_t{task.vectors} * task.x_stride);
      EXPECT_TRUE(
          same_bits(multiply(scalar(), w.matrix, task, x), multiply(tested(), w.matrix, task, x)))
          << "length " << length << ", " << rows << " x " << cols << ", group " << group << ", "
          << task.vectors << " vectors";
    }
  }
}

TEST_P(TableTurboquant, IntegerPathHasTheBitsOfTheScalarTable) {
  Random random(5);
  for (const uint32_t length : kLengths) {
    for (int round = 0; round < 45; ++round) {
      const uint32_t group = kGroups[round % 3], cols = group * random.between(1, 25);
      const uint32_t rows = random.between(1, 40);
      CodeMatrix w(random, length, rows, cols, group, random.between(0, 7));
      MatmulTask task;
      task.row_begin = random.between(0, rows - 1);
      task.row_end = random.between(task.row_begin, rows);
      task.vectors = random.between(0, 17);
      task.y_stride = rows + random.between(0, 3);
      const auto x = random.gaussians(size_t{task.vectors} * cols);
      EXPECT_TRUE(same_integer_products(w.matrix, task, x))
          << "length " << length << ", " << rows << " x " << cols << ", group " << group
          << ", rows " << task.row_begin << " to " << task.row_end << ", " << task.vectors
          << " vectors";
    }
  }
}

TEST_P(TableTurboquant, TakesAnyWordsADamagedFileMayHold) {
  Random random(6);
  for (const uint32_t length : kLengths) {
    CodeMatrix w(random, length, 19, 640, 64, 0);
    for (uint32_t i = 0; i < 19 * row_words(640, length); ++i) {
      const uint32_t word = i % 5 == 0 ? ~0u : random.bits();
      std::memcpy(w.words.data() + size_t{i} * 4, &word, 4);
    }
    const auto x = random.gaussians(640);
    const MatmulTask task = {.row_end = 19, .x_stride = 640, .y_stride = 19};
    EXPECT_TRUE(
        same_bits(multiply(scalar(), w.matrix, task, x), multiply(tested(), w.matrix, task, x)));
    EXPECT_TRUE(same_integer_products(w.matrix, task, x));
  }
}

TEST_P(TableTurboquant, IntegerDotProductsAreExactAtTheirLargest) {
  Random random(7);
  for (const uint32_t length : kLengths) {
    CodeMatrix w(random, length, 16, 256, 128, 0);
    const MatmulTask task = {.row_end = 16, .y_stride = 16};
    if (length == 256) {  // of which the largest codes are the ends
      for (const int fill : {0, 255}) {
        std::memset(w.words.data(), fill, size_t{16} * 256);
        EXPECT_TRUE(same_integer_products(w.matrix, task, random.signs(256)));
        EXPECT_TRUE(same_integer_products(w.matrix, task, std::vector<float>(256, 1.0f)));
        EXPECT_TRUE(same_integer_products(w.matrix, task, std::vector<float>(256, -1.0f)));
      }
      continue;
    }
    for (const int16_t largest : {int16_t{254}, int16_t{255}}) {
      for (uint32_t i = 0; i < length; ++i) {  // every product is one magnitude, of either sign
        w.codebook.quantized[i] = i < length / 2 ? static_cast<int16_t>(-largest) : largest;
      }
      EXPECT_TRUE(same_integer_products(w.matrix, task, random.signs(256)));
      // All of one sign: the largest sum there can be.
      for (uint32_t i = 0; i < length; ++i) w.codebook.quantized[i] = largest;
      EXPECT_TRUE(same_integer_products(w.matrix, task, std::vector<float>(256, 1.0f)));
      EXPECT_TRUE(same_integer_products(w.matrix, task, std::vector<float>(256, -1.0f)));
    }
  }
}

TEST_P(TableTurboquant, GivesTheSameBitsForAnySplitOfRowsAndVectors) {
  Random random(8);
  for (const uint32_t length : kLengths) {
    CodeMatrix w(random, length, 53, 320, 64, 3);
    IntegerVectors x(13, 320, 64);
    x.quantize(tested(), random.gaussians(13 * 320), 13, 320, 64);
    const MatmulTask all = {.row_end = 53, .vectors = 13, .y_stride = 53};
    const auto whole = multiply_integer(tested(), w.matrix, all, x.view);
    std::vector<float> parts(whole.size(), -7.0f);
    for (uint32_t row = 0; row < 53;) {
      const uint32_t row_end = std::min(53u, row + random.between(1, 21));
      for (uint32_t v = 0; v < 13;) {
        const uint32_t count = std::min(13 - v, random.between(1, 9));
        QuantizedVectors some = x.view;
        some.values += size_t{2} * v * some.value_stride;
        some.scales += size_t{v} * some.group_stride;
        some.sums += size_t{v} * some.group_stride;
        const MatmulTask part = {
            .row_begin = row, .row_end = row_end, .vectors = count, .y_stride = 53};
        tested().matmul_integer(w.matrix, part, some, parts.data() + v * 53);
        v += count;
      }
      row = row_end;
    }
    EXPECT_TRUE(same_bits(whole, parts)) << length;
  }
}

SLUICE_FOR_EACH_TABLE(TableTurboquant);

}  // namespace
}  // namespace sluice::kernels
