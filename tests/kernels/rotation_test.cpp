// The randomized Hadamard transform.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/kernels.h"
#include "tests/kernels/tables.h"

namespace sluice::kernels {
namespace {

// Every way to split a dimension: powers of two, the three tables, several runs, odd numbers.
constexpr uint32_t kDimensions[] = {1,   2,   7,    8,    12,   13,   16,   20,    24,
                                    28,  32,  40,   56,   64,   84,   96,   160,   224,
                                    288, 768, 1001, 1536, 2048, 2880, 7168, 11008, 13824};

std::vector<float> rotate(const Table& by, const Rotation& rotation,
                          const std::vector<float>& signs, const std::vector<float>& x) {
  std::vector<float> y(x.size(), NAN);
  by.rotate(rotation, signs.data(), x.data(), y.data());
  return y;
}

// The sign of H_m ⊗ H_2^k at (row, col) of a run.
double dense_sign(const Rotation& rotation, uint32_t row, uint32_t col) {
  const uint32_t part = rotation.run / rotation.m;
  const bool negative = (std::popcount(row % part & col % part) & 1) != 0;
  const int across = rotation.m == 1 ? 1 : rotation.table[row / part * rotation.m + col / part];
  return negative ? -across : across;
}

TEST(MakeRotation, PicksTheLargestRun) {
  struct Expected {
    uint32_t n, run, m;
  };
  for (const Expected e :
       {Expected{1, 1, 1}, {7, 1, 1},       {13, 1, 1},         {16, 16, 1},
        {32, 32, 1},       {64, 64, 1},     {96, 96, 12},       {160, 160, 20},
        {224, 224, 28},    {288, 96, 12},   {768, 768, 12},     {1536, 1536, 12},
        {2048, 2048, 1},   {2880, 320, 20}, {7168, 7168, 28},   {11008, 256, 1},
        {13824, 1536, 12}, {84, 28, 28},    {4294967291, 1, 1}, {2147483648, 2147483648, 1}}) {
    const Rotation rotation = make_rotation(e.n);
    EXPECT_EQ(rotation.n, e.n);
    EXPECT_EQ(rotation.run, e.run) << e.n;
    EXPECT_EQ(rotation.m, e.m) << e.n;
    EXPECT_EQ(rotation.table != nullptr, e.m > 1) << e.n;
    EXPECT_EQ(rotation.factor, static_cast<float>(1 / std::sqrt(static_cast<double>(e.run))));
  }
}

TEST(MakeRotation, HasTablesWithOrthogonalRowsAndSloanesFirstOnes) {
  const struct {
    uint32_t n;
    const char* second_row;
  } kTables[] = {
      {12, "--+-+-+-+-+-"}, {20, "-+----+---+++---+-++"}, {28, "-+-----+++-----+-+--+-+--++-"}};
  for (const auto& [n, second_row] : kTables) {
    const Rotation rotation = make_rotation(n);
    ASSERT_EQ(rotation.m, n);
    for (uint32_t a = 0; a < n; ++a) {
      EXPECT_EQ(rotation.table[n + a], second_row[a] == '+' ? 1 : -1);
      for (uint32_t b = 0; b < n; ++b) {
        int product = 0;
        for (uint32_t k = 0; k < n; ++k) {
          product += rotation.table[a * n + k] * rotation.table[b * n + k];
        }
        EXPECT_EQ(product, a == b ? static_cast<int>(n) : 0);
      }
    }
  }
}

TEST(ScalarRotation, IsTheDenseMatrix) {
  Random random(1);
  for (const uint32_t n : kDimensions) {
    const Rotation rotation = make_rotation(n);
    const auto x = random.gaussians(n), signs = random.signs(n);
    const auto y = rotate(scalar(), rotation, signs, x);
    // A few rows of a large one are enough.
    for (uint32_t i = 0; i<n; i += n> 1000 ? 97 : 1) {
      const uint32_t base = i / rotation.run * rotation.run;
      double exact = 0, magnitude = 0;
      for (uint32_t k = 0; k < rotation.run; ++k) {
        const double value =
            static_cast<double>(x[base + k]) * static_cast<double>(signs[base + k]);
        exact += dense_sign(rotation, i - base, k) * value;
        magnitude += std::abs(value);
      }
      const double factor = 1 / std::sqrt(static_cast<double>(rotation.run));
      // Each of log2(part) stages, m - 1 additions and two roundings of the factor: 2^-24 of the
      // whole.
      const double roundings = std::log2(rotation.run) + rotation.m + 2;
      EXPECT_NEAR(static_cast<double>(y[i]), exact * factor,
                  roundings * 0x1p-24 * magnitude * factor)
          << n;
    }
  }
}

TEST(ScalarRotation, KeepsLengths) {
  Random random(2);
  for (const uint32_t n : kDimensions) {
    const auto x = random.gaussians(n);
    const auto y = rotate(scalar(), make_rotation(n), random.signs(n), x);
    double before = 0, after = 0;
    for (uint32_t i = 0; i < n; ++i) {
      before += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      after += static_cast<double>(y[i]) * static_cast<double>(y[i]);
    }
    EXPECT_NEAR(after / before, 1, 1e-5) << n;
  }
}

class TableRotation : public TableTest {};

TEST_P(TableRotation, HasTheBitsOfTheScalarTable) {
  Random random(3);
  for (const uint32_t n : kDimensions) {
    const Rotation rotation = make_rotation(n);
    const auto x = random.gaussians(n), signs = random.signs(n);
    EXPECT_TRUE(
        same_bits(rotate(scalar(), rotation, signs, x), rotate(tested(), rotation, signs, x)))
        << n;
  }
}

TEST_P(TableRotation, HasTheBitsOfTheScalarTableForEverySmallDimension) {
  Random random(4);
  for (uint32_t n = 1; n <= 300; ++n) {
    const Rotation rotation = make_rotation(n);
    auto x = random.gaussians(n);
    for (size_t i = 0; i < n; i += 3) x[i] = 0;  // sums of zeros keep their signs
    const auto signs = random.signs(n);
    EXPECT_TRUE(
        same_bits(rotate(scalar(), rotation, signs, x), rotate(tested(), rotation, signs, x)))
        << n;
  }
}

TEST_P(TableRotation, MayWorkInPlace) {
  Random random(5);
  for (const uint32_t n : kDimensions) {
    const Rotation rotation = make_rotation(n);
    auto x = random.gaussians(n);
    const auto signs = random.signs(n);
    const auto y = rotate(scalar(), rotation, signs, x);
    tested().rotate(rotation, signs.data(), x.data(), x.data());
    EXPECT_TRUE(same_bits(x, y)) << n;
  }
}

SLUICE_FOR_EACH_TABLE(TableRotation);

}  // namespace
}  // namespace sluice::kernels
