// Conversions between float and f16, bf16, f32.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/kernels.h"
#include "tests/kernels/tables.h"

namespace sluice::kernels {
namespace {

// What the bits of a half mean, in exact arithmetic.
double half_value(uint32_t half) {
  const int exponent = static_cast<int>((half >> 10) & 31);
  const double mantissa = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}
bool is_finite(uint32_t half) { return (half & 0x7c00) != 0x7c00; }

std::vector<float> widen(const Table& by, Format format, const std::byte* from, size_t n) {
  std::vector<float> out(n);
  by.to_f32(format, from, n, out.data());
  return out;
}

std::vector<uint16_t> narrow(const Table& by, const std::vector<float>& x, size_t misalignment) {
  Bytes bytes(x.size() * 2, misalignment);
  by.to_f16(x.data(), x.size(), bytes.data());
  std::vector<uint16_t> out(x.size());
  std::memcpy(out.data(), bytes.data(), x.size() * 2);
  return out;
}

TEST(ScalarF16, HasTheValueOfEveryHalf) {
  for (uint32_t half = 0; half < 65536; ++half) {
    const float value = f16_value(static_cast<uint16_t>(half));
    if (is_finite(half)) {
      EXPECT_EQ(static_cast<double>(value), half_value(half)) << half;
      EXPECT_EQ(std::signbit(value), half >= 0x8000);
    } else if ((half & 0x3ff) == 0) {
      EXPECT_EQ(value, half < 0x8000 ? std::numeric_limits<float>::infinity()
                                     : -std::numeric_limits<float>::infinity());
    } else {
      EXPECT_TRUE(std::isnan(value));
    }
  }
}

TEST(ScalarF16, ComesBackFromEveryHalf) {
  for (uint32_t half = 0; half < 65536; ++half) {
    const uint16_t back = f16_bits(f16_value(static_cast<uint16_t>(half)));
    const bool is_nan = !is_finite(half) && (half & 0x3ff) != 0;
    EXPECT_EQ(back, is_nan ? half | 0x200 : half);  // a NaN comes back quiet
  }
}

TEST(ScalarF16, RoundsBetweenNeighboursToNearestEven) {
  for (uint32_t half = 0; half < 0x7bff; ++half) {
    const double low = half_value(half), high = half_value(half + 1);
    const float middle = static_cast<float>((low + high) / 2);  // exact: one bit more than a half
    EXPECT_EQ(f16_bits(middle), half % 2 == 0 ? half : half + 1) << half;
    EXPECT_EQ(f16_bits(std::nextafter(middle, 0.0f)), half);
    EXPECT_EQ(f16_bits(std::nextafter(middle, 1e9f)), half + 1);
    EXPECT_EQ(f16_bits(-middle), (half % 2 == 0 ? half : half + 1) | 0x8000);
  }
}

TEST(ScalarF16, OverflowsToInfinityHalfwayPastTheLargest) {
  EXPECT_EQ(f16_bits(65504.0f), 0x7bff);
  EXPECT_EQ(f16_bits(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(f16_bits(65520.0f), 0x7c00);
  EXPECT_EQ(f16_bits(-1e30f), 0xfc00);
  EXPECT_EQ(f16_bits(std::numeric_limits<float>::infinity()), 0x7c00);
  EXPECT_EQ(f16_bits(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(ScalarBf16, IsTheUpperHalfOfAFloat) {
  const uint16_t halves[] = {0x3f80, 0xc000, 0x0001, 0xff80};
  const auto values = widen(scalar(), Format::bf16, reinterpret_cast<const std::byte*>(halves), 4);
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_EQ(values[1], -2.0f);
  EXPECT_EQ(values[2], 0x1p-133f);
  EXPECT_EQ(values[3], -std::numeric_limits<float>::infinity());
}

class TableConversion : public TableTest {};

TEST_P(TableConversion, WidensEveryHalfLikeTheScalarTable) {
  Bytes bytes(65536 * 2, 1);
  for (uint32_t half = 0; half < 65536; ++half) {
    const uint16_t bits = static_cast<uint16_t>(half);
    std::memcpy(bytes.data() + size_t{half} * 2, &bits, 2);
  }
  for (const Format format : {Format::f16, Format::bf16}) {
    EXPECT_TRUE(same_bits(widen(scalar(), format, bytes.data(), 65536),
                          widen(tested(), format, bytes.data(), 65536)));
  }
}

TEST_P(TableConversion, NarrowsLikeTheScalarTable) {
  Random random(1);
  std::vector<float> x;
  for (int i = 0; i < 200000; ++i) x.push_back(std::bit_cast<float>(random.bits()));
  for (uint32_t half = 0; half < 0x7bff; ++half) {  // every tie and its neighbours
    const float middle = static_cast<float>((half_value(half) + half_value(half + 1)) / 2);
    x.insert(x.end(),
             {middle, -middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)});
  }
  EXPECT_EQ(narrow(scalar(), x, 0), narrow(tested(), x, 1));
}

TEST_P(TableConversion, HandlesEveryShortLength) {
  Random random(2);
  for (size_t n = 1; n < 50; ++n) {
    const auto x = random.gaussians(n);
    EXPECT_EQ(narrow(scalar(), x, n % 3), narrow(tested(), x, n % 3));
    for (const Format format : {Format::f32, Format::f16, Format::bf16}) {
      const size_t size = n * (format == Format::f32 ? 4 : 2);
      Bytes bytes(size, n % 4);
      std::memcpy(bytes.data(), x.data(), size);
      EXPECT_TRUE(same_bits(widen(scalar(), format, bytes.data(), n),
                            widen(tested(), format, bytes.data(), n)));
    }
  }
}

SLUICE_FOR_EACH_TABLE(TableConversion);

}  // namespace
}  // namespace sluice::kernels
