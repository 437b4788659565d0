// Norm, rope, softmax, sigmoid, swiglu, sums and quantizing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/kernels.h"
#include "tests/kernels/tables.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The table's own e^x, for x below -17: softmax of (0, x) divides it by 1 + e^x, which rounds to 1.
float exp_far_below_zero(const Table& by, float x) {
  float values[2] = {0, x};
  by.softmax(values, 2);
  return values[1];
}

double ulp(double value) { return std::max(std::ldexp(1.0, std::ilogb(value) - 23), 0x1p-149); }

TEST(ScalarExp, IsWithinAnUlpAndAQuarter) {
  double worst = 0;
  for (float x = -17.0f; x > -103.9f; x -= 0.00037f) {
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(
        worst, std::abs(static_cast<double>(exp_far_below_zero(scalar(), x)) - exact) / ulp(exact));
  }
  // The polynomial's last fma rounds by half an ulp of its own; its argument's error and the term
  // left out add less than another half, and denormal results round once more.
  EXPECT_LT(worst, 1.25);
}

TEST(ScalarExp, IsAccurateNearZeroToo) {
  for (float x = -17.0f; x <= 0; x += 0.00037f) {
    float values[2] = {0, x};
    scalar().softmax(values, 2);
    // Both were divided by one sum: their ratio has the error of e^x and of two divisions.
    const double ratio = static_cast<double>(values[1]) / static_cast<double>(values[0]);
    const double exact = std::exp(static_cast<double>(x));
    EXPECT_NEAR(ratio, exact, (1.25 + 0.5 + 1) * 0x1p-23 * exact) << x;
  }
}

TEST(ScalarExp, EndsInZeroAndInfinity) {
  EXPECT_EQ(exp_far_below_zero(scalar(), -104.0f), 0.0f);
  EXPECT_EQ(exp_far_below_zero(scalar(), -1e30f), 0.0f);
  EXPECT_EQ(exp_far_below_zero(scalar(), -kInfinity), 0.0f);
  EXPECT_EQ(exp_far_below_zero(scalar(), -103.9f), 0x1p-149f);
  const float gate[] = {-88.0f, -200.0f, 200.0f, 0.0f}, up[] = {1, 1, 1, 1};
  float out[4];
  scalar().swiglu(gate, up, 4, out);
  EXPECT_LT(out[0], 0.0f);
  EXPECT_EQ(out[1], 0.0f);
  EXPECT_EQ(out[2], 200.0f);
  EXPECT_EQ(out[3], 0.0f);
}

TEST(ScalarSwigluClamped, IsCloseToDoublePrecisionWithinTheLimits) {
  Random random(9);
  auto pairs = random.gaussians(2000);
  for (float& value : pairs) value *= 6;  // a quarter of them past the limit
  std::vector<float> out(1000);
  scalar().swiglu_clamped(pairs.data(), 1000, 7.0f, 1.702f, out.data());
  for (size_t i = 0; i < 1000; ++i) {
    const double gate = std::min(static_cast<double>(pairs[2 * i]), 7.0);
    const double up = std::clamp(static_cast<double>(pairs[2 * i + 1]), -7.0, 7.0);
    const double exact = gate / (1 + std::exp(-static_cast<double>(1.702f) * gate)) * (up + 1);
    // The exponent, up to 40, is rounded and e to it turns that into as many times 2^-24; then an
    // ulp or so for each of exp, two sums, the division and the product.
    EXPECT_NEAR(static_cast<double>(out[i]), exact, (40 + 8) * 0x1p-24 * std::abs(exact)) << i;
  }
}

TEST(ScalarReluSquared, IsZeroBelowZeroAndTheSquareAbove) {
  float x[] = {-3.0f, -0.0f, 0.0f, 0.5f, 3.0f, -kInfinity, kInfinity};
  scalar().relu_squared(x, 7);
  const float expected[] = {0, 0, 0, 0.25f, 9, 0, kInfinity};
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(x[i], expected[i]) << i;
  EXPECT_FALSE(std::signbit(x[1]));
}

TEST(ScalarSwiglu, IsCloseToDoublePrecision) {
  Random random(1);
  const auto gate = random.gaussians(2000), up = random.gaussians(2000);
  std::vector<float> out(2000);
  scalar().swiglu(gate.data(), up.data(), 2000, out.data());
  for (size_t i = 0; i < out.size(); ++i) {
    const double g = static_cast<double>(gate[i]);
    const double exact = g / (1 + std::exp(-g)) * static_cast<double>(up[i]);
    // Roundings of e^-g (two at most), the sum, the quotient and the product.
    EXPECT_NEAR(static_cast<double>(out[i]), exact, 5 * 0x1p-24 * std::abs(exact));
  }
}

TEST(ScalarSoftmax, SumsToOneAndIsCloseToDoublePrecision) {
  Random random(2);
  for (const uint32_t n : {1u, 2u, 16u, 17u, 1000u}) {
    auto x = random.gaussians(n);
    for (float& value : x) value *= 5;
    const auto inputs = x;
    scalar().softmax(x.data(), n);
    const double largest = static_cast<double>(*std::max_element(inputs.begin(), inputs.end()));
    double divisor = 0, total = 0;
    for (const float value : inputs) divisor += std::exp(static_cast<double>(value) - largest);
    for (uint32_t i = 0; i < n; ++i) {
      const double difference = static_cast<double>(inputs[i]) - largest;
      const double exact = std::exp(difference) / divisor;
      // The difference's rounding counts as often as it is large.
      const double roundings = std::abs(difference) + n / 16 + 10;
      EXPECT_NEAR(static_cast<double>(x[i]), exact, roundings * 0x1p-24 * exact);
      total += static_cast<double>(x[i]);
    }
    EXPECT_NEAR(total, 1, 1e-5);
  }
}

TEST(ScalarRmsNorm, IsCloseToDoublePrecision) {
  Random random(3);
  for (const uint32_t n : {1u, 15u, 128u, 2048u}) {
    const auto x = random.gaussians(n), weight = random.gaussians(n);
    std::vector<float> y(n);
    scalar().rms_norm(x.data(), weight.data(), n, 1e-6f, y.data());
    double squares = 0;
    for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
    const double inverse = 1 / std::sqrt(squares / n + 1e-6);
    for (uint32_t i = 0; i < n; ++i) {
      const double exact = static_cast<double>(x[i]) * inverse * static_cast<double>(weight[i]);
      const double roundings = (n / 16 + 6) / 2.0 + 6;  // half of the sum's: a square root follows
      EXPECT_NEAR(static_cast<double>(y[i]), exact, roundings * 0x1p-24 * std::abs(exact));
    }
  }
}

TEST(ScalarRope, TurnsPairsAndLeavesTheRestOfEachHead) {
  std::vector<float> x = {1, 2, 3, 4, 5, 6, /* second head */ 10, 20, 30, 40, 50, 60};
  const float cos[] = {0, 0.5f}, sin[] = {1, 0.25f};
  scalar().rope_halves(x.data(), 2, 6, 4, cos, sin);
  EXPECT_EQ(x, (std::vector<float>{-3, 0, 1, 2.5f, 5, 6, -30, 0, 10, 25, 50, 60}));
}

TEST(ScalarRope, TurnsNeighboursByTheSameRule) {
  std::vector<float> x = {1, 3, 2, 4, 5, 6, /* second head */ 10, 30, 20, 40, 50, 60};
  const float cos[] = {0, 0.5f}, sin[] = {1, 0.25f};
  scalar().rope_pairs(x.data(), 2, 6, 4, cos, sin);
  EXPECT_EQ(x, (std::vector<float>{-3, 1, 0, 2.5f, 5, 6, -30, 10, 0, 25, 50, 60}));
}

TEST(ScalarSigmoid, IsCloseToDoublePrecisionAndSaturates) {
  Random random(7);
  auto x = random.gaussians(2000);
  const auto inputs = x;
  scalar().sigmoid(x.data(), 2000);
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = 1 / (1 + std::exp(-static_cast<double>(inputs[i])));
    // Roundings of e^-x (two at most), the sum and the quotient.
    EXPECT_NEAR(static_cast<double>(x[i]), exact, 4 * 0x1p-24 * exact);
  }
  float ends[] = {-200, 200, 0, -kInfinity, kInfinity};
  scalar().sigmoid(ends, 5);
  EXPECT_EQ(ends[0], 0.0f);
  EXPECT_EQ(ends[1], 1.0f);
  EXPECT_EQ(ends[2], 0.5f);
  EXPECT_EQ(ends[3], 0.0f);
  EXPECT_EQ(ends[4], 1.0f);
}

TEST(ScalarAdd, AddsAndScales) {
  const float x[] = {1, 2, 3};
  float y[] = {10, 20, 30};
  scalar().add(x, 3, y);
  scalar().add_scaled(0.5f, x, 3, y);
  EXPECT_EQ(y[0], 11.5f);
  EXPECT_EQ(y[1], 23.0f);
  EXPECT_EQ(y[2], 34.5f);
}

TEST(ScalarQuantize, RoundsToNearestEvenOf32512ths) {
  std::vector<float> x(64, 0.0f);
  x[0] = -32512.0f;
  x[1] = 2.5f;
  x[2] = 3.5f;
  x[3] = -0.5f;
  x[4] = 100.4f;
  IntegerVectors out(1, 64, 32);
  out.quantize(scalar(), x, 1, 64, 32);
  EXPECT_EQ(out.scales[0], 1.0f);
  const int32_t expected[] = {-32512, 2, 4, 0, 100};
  for (uint32_t i = 0; i < 5; ++i) EXPECT_EQ(out.value(scalar(), 64, 0, i), expected[i]);
  EXPECT_EQ(out.sums[0], -32406);
  EXPECT_EQ(out.scales[1], 0.0f);  // a group of zeros
  EXPECT_EQ(out.sums[1], 0);
}

TEST(ScalarQuantize, ShowsWhatIsNotFiniteInTheScaleAlone) {
  for (const float odd : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> x(32, 1.0f);
    x[7] = odd;
    IntegerVectors out(1, 32, 32);
    out.quantize(scalar(), x, 1, 32, 32);
    EXPECT_FALSE(std::isfinite(out.scales[0]));
    EXPECT_EQ(out.sums[0], 0);
    for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(out.value(scalar(), 32, 0, i), 0);
  }
}

TEST(ScalarQuantize, PadsWithZerosToWhole64Inputs) {
  IntegerVectors out(1, 96, 32);
  out.quantize(scalar(), std::vector<float>(96, 1.0f), 1, 96, 32);
  for (uint32_t i = 0; i < 128; ++i) {
    EXPECT_EQ(out.value(scalar(), 96, 0, i), i < 96 ? 32512 : 0);
  }
}

class TableElementwise : public TableTest {
 protected:
  // Calls `apply` with the scalar and with the tested table, on equal copies of n random numbers of
  // that spread, for every n up to a few blocks of lanes; its results must be equal.
  template <typename Apply>
  void compare(float spread, Apply apply) {
    Random random(4);
    for (uint32_t n = 1; n < 70; ++n) {
      auto x = random.gaussians(n);
      for (float& value : x) value *= spread;
      const auto second = random.gaussians(n);
      auto by_scalar = x, by_tested = x;
      apply(scalar(), by_scalar, second, n);
      apply(tested(), by_tested, second, n);
      EXPECT_TRUE(same_bits(by_scalar, by_tested)) << n;
    }
  }
};

TEST_P(TableElementwise, RmsNormHasTheBitsOfTheScalarTable) {
  compare(3, [](const Table& by, std::vector<float>& x, const std::vector<float>& weight,
                uint32_t n) { by.rms_norm(x.data(), weight.data(), n, 1e-5f, x.data()); });
}

TEST_P(TableElementwise, SoftmaxHasTheBitsOfTheScalarTable) {
  for (const float spread : {0.1f, 3.0f, 60.0f}) {
    compare(spread, [](const Table& by, std::vector<float>& x, const std::vector<float>&,
                       uint32_t n) { by.softmax(x.data(), n); });
  }
}

TEST_P(TableElementwise, SoftmaxTakesMinusInfinity) {
  compare(3, [](const Table& by, std::vector<float>& x, const std::vector<float>&, uint32_t n) {
    for (uint32_t i = 1; i < n; i += 2) x[i] = -kInfinity;
    by.softmax(x.data(), n);
  });
}

TEST_P(TableElementwise, SigmoidHasTheBitsOfTheScalarTable) {
  for (const float spread : {1.0f, 50.0f, 1e30f}) {
    compare(spread, [](const Table& by, std::vector<float>& x, const std::vector<float>&,
                       uint32_t n) { by.sigmoid(x.data(), n); });
  }
}

TEST_P(TableElementwise, SwigluHasTheBitsOfTheScalarTable) {
  for (const float spread : {1.0f, 50.0f, 1e30f}) {
    compare(spread, [](const Table& by, std::vector<float>& x, const std::vector<float>& up,
                       uint32_t n) { by.swiglu(x.data(), up.data(), n, x.data()); });
  }
}

TEST_P(TableElementwise, SwigluClampedHasTheBitsOfTheScalarTable) {
  Random random(7);
  for (const float spread : {1.0f, 10.0f, 1e30f}) {
    for (uint32_t n = 1; n < 70; ++n) {
      auto pairs = random.gaussians(size_t{2} * n);
      for (float& value : pairs) value *= spread;
      if (n % 5 == 0) pairs[n] = std::numeric_limits<float>::quiet_NaN();
      std::vector<float> by_scalar(n), by_tested(n);
      scalar().swiglu_clamped(pairs.data(), n, 7.0f, 1.702f, by_scalar.data());
      tested().swiglu_clamped(pairs.data(), n, 7.0f, 1.702f, by_tested.data());
      EXPECT_TRUE(same_bits(by_scalar, by_tested)) << n;
      tested().swiglu_clamped(pairs.data(), n, 7.0f, 1.702f, pairs.data());
      pairs.resize(n);
      EXPECT_TRUE(same_bits(by_scalar, pairs)) << n << ", in place";
    }
  }
}

TEST_P(TableElementwise, ReluSquaredHasTheBitsOfTheScalarTable) {
  for (const float spread : {1.0f, 1e-20f, 1e30f}) {
    compare(spread, [](const Table& by, std::vector<float>& x, const std::vector<float>&,
                       uint32_t n) { by.relu_squared(x.data(), n); });
  }
}

TEST_P(TableElementwise, AddsHaveTheBitsOfTheScalarTable) {
  compare(1, [](const Table& by, std::vector<float>& x, const std::vector<float>& y, uint32_t n) {
    by.add(y.data(), n, x.data());
    by.add_scaled(0.37f, y.data(), n, x.data());
  });
}

TEST_P(TableElementwise, RopeHasTheBitsOfTheScalarTable) {
  Random random(5);
  for (uint32_t dim = 2; dim <= 80; dim += 2) {
    const uint32_t head_dim = dim + random.between(0, 9);
    const auto cos = random.gaussians(dim / 2), sin = random.gaussians(dim / 2);
    auto by_scalar = random.gaussians(size_t{3} * head_dim), by_tested = by_scalar;
    scalar().rope_halves(by_scalar.data(), 3, head_dim, dim, cos.data(), sin.data());
    tested().rope_halves(by_tested.data(), 3, head_dim, dim, cos.data(), sin.data());
    EXPECT_TRUE(same_bits(by_scalar, by_tested)) << dim;
    scalar().rope_pairs(by_scalar.data(), 3, head_dim, dim, cos.data(), sin.data());
    tested().rope_pairs(by_tested.data(), 3, head_dim, dim, cos.data(), sin.data());
    EXPECT_TRUE(same_bits(by_scalar, by_tested)) << dim;
  }
}

TEST_P(TableElementwise, QuantizeHasTheBitsOfTheScalarTable) {
  Random random(6);
  for (const uint32_t group : {32u, 64u, 128u}) {
    const uint32_t cols = group * 9;
    auto x = random.gaussians(cols * 2);
    std::fill_n(x.begin(), group, 0.0f);
    x[group] = kInfinity;
    x[2 * group] = std::numeric_limits<float>::quiet_NaN();
    for (uint32_t i = 3 * group; i < 4 * group; ++i) x[i] *= 1e-44f;  // 32512 / max overflows
    for (uint32_t i = 4 * group; i < 5 * group; ++i) x[i] = std::round(x[i] * 5000) / 2;  // ties
    x[4 * group] = 32512.0f;
    IntegerVectors by_scalar(2, cols, group, 1), by_tested(2, cols, group, 1);
    by_scalar.quantize(scalar(), x, 2, cols, group);
    by_tested.quantize(tested(), x, 2, cols, group);
    EXPECT_TRUE(same_bits(by_scalar.scales, by_tested.scales));
    EXPECT_EQ(by_scalar.sums, by_tested.sums);
    for (uint32_t v = 0; v < 2; ++v) {
      for (uint32_t i = 0; i < (cols + 63) / 64 * 64; ++i) {
        ASSERT_EQ(by_scalar.value(scalar(), cols, v, i), by_tested.value(tested(), cols, v, i));
      }
    }
  }
}

SLUICE_FOR_EACH_TABLE(TableElementwise);

}  // namespace
}  // namespace sluice::kernels
