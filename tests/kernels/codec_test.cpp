// The TurboQuant codec: its error on Gaussian data, its bytes, and that nothing but the input
// decides them.

#include "kernels/codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/tiles.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kLengths[] = {3, 4, 8, 16, 256};
// Dimensions of published models and of the tables of order 12, 20, 28; all are multiples of 32.
constexpr uint32_t kSizes[] = {32,  64,  96,   128,  160,  192,  224,  288,   768,
                               896, 960, 2048, 2880, 4096, 5120, 7168, 11008, 13824};

std::vector<const Table*> supported_tables() {
  std::vector<const Table*> tables;
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::amx}) {
    if (supported(isa)) tables.push_back(&table(isa));
  }
  return tables;
}

std::vector<float> gaussian(size_t count, uint64_t seed, float deviation = 1) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> distribution(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = distribution(generator);
  return values;
}

std::vector<float> signs_of(uint32_t count) {
  std::vector<float> signs(count);
  random_signs(count, count, signs.data());
  return signs;
}

// Rows as encoded, with the room behind them that kernels may read.
struct Encoded {
  std::vector<std::byte> words;
  std::vector<std::byte> scales;
  uint32_t rows = 0;  // how many encode_rows says it encoded
};

Encoded encode(const Codec& codec, const Table& table, const std::vector<float>& rows) {
  const auto count = static_cast<uint32_t>(rows.size() / codec.cols);
  Encoded encoded;
  encoded.words.resize(size_t{count} * codec.words * 4 + kOverreadBytes);
  encoded.scales.resize(size_t{count} * (codec.cols / codec.group) * 2 + kOverreadBytes);
  std::vector<float> values(codec.cols);
  std::vector<uint8_t> indices(codec.cols);
  encoded.rows = encode_rows(codec, table, rows.data(), count,
                             {.values = values.data(),
                              .indices = indices.data(),
                              .words = encoded.words.data(),
                              .scales = encoded.scales.data()});
  return encoded;
}

std::vector<float> decode(const Codec& codec, const Table& table, const Encoded& encoded) {
  std::vector<float> out(size_t{encoded.rows} * codec.cols);
  for (size_t row = 0; row < encoded.rows; ++row) {
    decode_row(codec, table, encoded.words.data() + row * codec.words * 4,
               encoded.scales.data() + row * (codec.cols / codec.group) * 2,
               out.data() + row * codec.cols);
  }
  return out;
}

std::vector<uint32_t> words_of(const Encoded& encoded) {
  std::vector<uint32_t> words((encoded.words.size() - kOverreadBytes) / 4);
  std::memcpy(words.data(), encoded.words.data(), words.size() * 4);
  return words;
}

std::vector<float> scales_of(const Encoded& encoded) {
  std::vector<float> scales((encoded.scales.size() - kOverreadBytes) / 2);
  scalar_table()->to_f32(Format::f16, encoded.scales.data(), scales.size(), scales.data());
  return scales;
}

// The centroids as the codebook tensor holds them.
std::vector<float> centroids_of(const Codec& codec) {
  std::vector<std::byte> f16(size_t{2} * codec.length);
  codebook_f16(codec, f16.data());
  std::vector<float> values(codec.length);
  scalar_table()->to_f32(Format::f16, f16.data(), codec.length, values.data());
  return values;
}

// Σ (a − b)² / Σ a².
double relative_squared_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0;
  double size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
    size += double{a[i]} * double{a[i]};
  }
  return error / size;
}

double gaussian_error(uint32_t length, uint32_t group) {
  const std::vector<float> samples = gaussian(1 << 20, 7);
  const Codec codec = make_codec(1 << 14, group, length, nullptr);
  const Encoded encoded = encode(codec, table(), samples);
  EXPECT_EQ(encoded.rows, 64u);
  return relative_squared_error(samples, decode(codec, table(), encoded));
}

// The distortion of the best quantizers of a Gaussian with 4, 8 and 16 levels. A group of 2^14 has
// an RMS so near 1 that dividing by it changes nothing.
TEST(Codec, HasTheErrorOfTheBestQuantizersOnGaussianSamples) {
  EXPECT_NEAR(gaussian_error(4, 1 << 14), 0.11748, 0.0011748);
  EXPECT_NEAR(gaussian_error(8, 1 << 14), 0.03455, 0.0003455);
  EXPECT_NEAR(gaussian_error(16, 1 << 14), 0.00950, 0.0000950);
}

double error_with(ScaleRule rule, uint32_t length, uint32_t group) {
  const std::vector<float> samples = gaussian(1 << 18, 7);
  const Codec codec = make_codec(1 << 12, group, length, nullptr, rule);
  const Encoded encoded = encode(codec, table(), samples);
  EXPECT_EQ(encoded.rows, 64u);
  return relative_squared_error(samples, decode(codec, table(), encoded));
}

// An exhaustive search over 64 scales lowers it by 3, 12.5 and 25 % for groups of 64.
TEST(Codec, SearchedScalesLoseLessThanTheRmsDoes) {
  for (const auto& [length, most] :
       {std::pair{3u, 1.0}, {4u, 0.975}, {8u, 0.89}, {16u, 0.79}, {256u, 0.6}}) {
    EXPECT_LT(error_with(ScaleRule::search, length, 64),
              most * error_with(ScaleRule::rms, length, 64))
        << length;
  }
}

// The RMS is among the scales tried, and what it leaves can only fall from there, up to the
// rounding of a scale to 11 bits.
TEST(Codec, SearchingCostsNoGroupAnything) {
  for (const uint32_t length : kLengths) {
    if (length == 256) continue;  // there it is the largest weight that decides
    for (const float outlier : {0.0f, 3.0f, 30.0f}) {
      std::vector<float> row = gaussian(64, 47, 0.02f);
      row[5] += 0.02f * outlier;
      const auto error = [&](ScaleRule rule) {
        const Codec codec = make_codec(64, 64, length, nullptr, rule);
        return relative_squared_error(row, decode(codec, table(), encode(codec, table(), row)));
      };
      EXPECT_LE(error(ScaleRule::search), error(ScaleRule::rms) * 1.001)
          << length << " " << outlier;
    }
  }
}

// Values divided by the RMS of their own small group have shorter tails than a Gaussian, so real
// group sizes do a little better; not by more than a few per cent.
TEST(Codec, HasALittleLessErrorInSmallGroups) {
  for (const uint32_t group : {32u, 64u, 128u}) {
    const double error = gaussian_error(8, group);
    EXPECT_LT(error, 0.03455) << group;
    EXPECT_GT(error, 0.03455 * 0.93) << group;
  }
}

TEST(Codec, CentroidsAscendAndAreSymmetric) {
  for (const uint32_t length : kLengths) {
    const std::span<const float> centroids = gaussian_centroids(length);
    ASSERT_EQ(centroids.size(), length);
    for (uint32_t i = 0; i < length; ++i) {
      EXPECT_EQ(centroids[i], -centroids[length - 1 - i]);
      if (i > 0) {
        EXPECT_LT(centroids[i - 1], centroids[i]);
      }
    }
  }
}

// Lloyd's condition: each centroid is the mean of N(0, 1) between the edges around it, that is
// (φ(a) − φ(b)) / (Φ(b) − Φ(a)).
TEST(Codec, CentroidsAreTheMeansOfTheirIntervals) {
  const auto density = [](double x) { return std::exp(-x * x / 2) / std::sqrt(2 * M_PI); };
  const auto below = [](double x) { return std::erfc(-x / std::sqrt(2)) / 2; };
  for (const uint32_t length : kLengths) {
    if (length == 256) continue;  // evenly spaced instead
    const std::span<const float> c = gaussian_centroids(length);
    for (uint32_t i = 0; i < length; ++i) {
      const double a = i == 0 ? -40 : (double{c[i - 1]} + double{c[i]}) / 2;
      const double b = i + 1 == length ? 40 : (double{c[i]} + double{c[i + 1]}) / 2;
      // The values in use: the ternary one has three decimals, the sixteen stopped short of the
      // end.
      EXPECT_NEAR(double{c[i]}, (density(a) - density(b)) / (below(b) - below(a)),
                  length == 3 ? 5e-4 : 5e-5);
    }
  }
}

// The scale is the RMS as F16, and no other index would decode nearer to the rotated value. Small
// weights have subnormal scales, whose rounding is coarse: the indices must make up for it.
TEST(Codec, EveryWeightGetsTheNearestCentroidThatItsStoredScaleAllows) {
  for (const uint32_t cols : kSizes) {
    const std::vector<float> signs = signs_of(cols);
    for (const uint32_t length : kLengths) {
      for (const float deviation : {0.02f, 3e-7f, 300.0f}) {
        const Codec codec = make_codec(cols, 32, length, signs.data());
        const std::vector<float> row = gaussian(cols, length, deviation);
        const Encoded encoded = encode(codec, table(), row);
        ASSERT_EQ(encoded.rows, 1u);
        std::vector<float> rotated(cols);
        table().rotate(codec.rotation, signs.data(), row.data(), rotated.data());
        const std::vector<float> decoded = decode(codec, table(), encoded);
        const std::vector<float> scales = scales_of(encoded);
        const std::vector<float> centroids = centroids_of(codec);
        // On an edge both neighbours are as near but for the last bit. Where 8 bits are counted
        // instead of compared: three roundings of a number below 256, beside half a step.
        const double tolerance = length == 256 ? 3 * 0x1p-16 * 2 : 1e-6;
        for (uint32_t i = 0; i < cols; ++i) {
          const double scale = double{scales[i / 32]};
          double nearest = HUGE_VAL;
          for (uint32_t k = 0; k < length; ++k) {
            const double error = std::abs(double{centroids[k]} * scale - double{rotated[i]});
            nearest = std::min(nearest, error);
          }
          EXPECT_LE(std::abs(double{decoded[i]} - double{rotated[i]}), nearest * (1 + tolerance))
              << "cols " << cols << " length " << length << " input " << i;
        }
      }
    }
  }
}

TEST(Codec, ScalesAreTheRmsOfEachGroupAsF16) {
  const std::vector<float> row = gaussian(256, 3);
  const Encoded encoded = encode(make_codec(256, 64, 8, nullptr), table(), row);
  const std::vector<float> scales = scales_of(encoded);
  ASSERT_EQ(scales.size(), 4u);
  for (size_t g = 0; g < 4; ++g) {
    double squares = 0;
    for (size_t i = 0; i < 64; ++i) squares += double{row[64 * g + i]} * double{row[64 * g + i]};
    const double rms = std::sqrt(squares / 64);
    EXPECT_NEAR(double{scales[g]}, rms, rms / 2048);  // half a unit of F16's 11 bits
  }
}

// ±1 has RMS 1, so each value's index follows from the centroids by hand: of eight, 1 lies between
// the edges 0.50 and 1.05 around the centroid 0.756 (index 5); of four, it lies above the edge
// 0.98.
struct ByHand {
  uint32_t length;
  uint32_t digits;  // per word
  uint32_t minus;   // the index of −1
  uint32_t plus;
};

TEST(Codec, WordsHoldTheFirstIndexInTheLowestDigitAndZerosBehindTheLast) {
  for (const ByHand& want :
       {ByHand{3, 20, 0, 2}, ByHand{4, 16, 0, 3}, ByHand{8, 10, 2, 5}, ByHand{16, 8, 4, 11}}) {
    constexpr uint32_t kCols = 32;
    std::vector<float> row(kCols);
    for (uint32_t i = 0; i < kCols; ++i) row[i] = (i * i / 3) % 2 == 0 ? 1.0f : -1.0f;
    std::vector<uint32_t> expected((kCols + want.digits - 1) / want.digits, 0);
    for (uint32_t i = 0; i < kCols; ++i) {
      uint32_t place = 1;
      for (uint32_t digit = 0; digit < i % want.digits; ++digit) place *= want.length;
      expected[i / want.digits] += place * (row[i] > 0 ? want.plus : want.minus);
    }
    const Codec codec = make_codec(kCols, 32, want.length, nullptr);
    EXPECT_EQ(words_of(encode(codec, table(), row)), expected) << want.length;
    EXPECT_EQ(codec.words, expected.size());
  }
}

TEST(Codec, TheUnusedTopOfEveryWordIsZero) {
  for (const uint32_t cols : kSizes) {
    const std::vector<float> signs = signs_of(cols);
    const std::vector<float> row = gaussian(cols, 11);
    for (const uint32_t word :
         words_of(encode(make_codec(cols, 32, 8, signs.data()), table(), row))) {
      EXPECT_LT(word, 1u << 30);
    }
    for (const uint32_t word :
         words_of(encode(make_codec(cols, 32, 3, signs.data()), table(), row))) {
      EXPECT_LT(word, 3486784401u);  // 3^20
    }
  }
}

TEST(Codec, DecodesWhatTheKernelsMultiplyWith) {
  for (const uint32_t cols : {96u, 160u, 768u}) {
    const std::vector<float> signs = signs_of(cols);
    for (const uint32_t length : kLengths) {
      constexpr uint32_t kRows = 3;
      const Codec codec = make_codec(cols, 32, length, signs.data());
      const Encoded encoded = encode(codec, table(), gaussian(size_t{kRows} * cols, 5));
      ASSERT_EQ(encoded.rows, kRows);
      const Codebook codebook = make_codebook(centroids_of(codec).data(), length);
      const Matrix matrix = {.format = Format::turboquant,
                             .rows = kRows,
                             .cols = cols,
                             .data = encoded.words.data(),
                             .scales = encoded.scales.data(),
                             .group = 32,
                             .codebook = &codebook};
      std::vector<float> units(size_t{cols} * cols, 0.0f);
      for (size_t i = 0; i < cols; ++i) units[i * cols + i] = 1;
      std::vector<float> columns(size_t{cols} * kRows);
      table().matmul(
          matrix,
          {.row_begin = 0, .row_end = kRows, .vectors = cols, .x_stride = cols, .y_stride = kRows},
          units.data(), columns.data());
      const std::vector<float> decoded = decode(codec, table(), encoded);
      for (size_t row = 0; row < kRows; ++row) {
        for (size_t i = 0; i < cols; ++i) {
          ASSERT_EQ(decoded[row * cols + i], columns[i * kRows + row]) << length << " " << i;
        }
      }
    }
  }
}

TEST(Codec, BytesAreTheSameForEveryInstructionSet) {
  for (const uint32_t cols : kSizes) {
    const std::vector<float> signs = signs_of(cols);
    const std::vector<float> rows = gaussian(size_t{3} * cols, 17, 0.03f);
    for (const uint32_t length : kLengths) {
      for (const ScaleRule rule : {ScaleRule::rms, ScaleRule::search}) {
        const Codec codec = make_codec(cols, 32, length, signs.data(), rule);
        const Encoded expected = encode(codec, *scalar_table(), rows);
        for (const Table* other : supported_tables()) {
          const Encoded encoded = encode(codec, *other, rows);
          EXPECT_EQ(encoded.words, expected.words) << other->name << " " << cols << " " << length;
          EXPECT_EQ(encoded.scales, expected.scales) << other->name << " " << cols << " " << length;
          EXPECT_EQ(decode(codec, *other, encoded), decode(codec, *scalar_table(), expected));
        }
      }
    }
  }
}

// Every thread encodes its rows straight into one pair of buffers, which need no alignment.
TEST(Codec, BytesAreTheSameForEverySplitOfTheRowsAmongThreads) {
  constexpr uint32_t kRows = 30;
  constexpr uint32_t kCols = 160;
  const std::vector<float> signs = signs_of(kCols);
  const std::vector<float> rows = gaussian(size_t{kRows} * kCols, 19);
  const Codec codec = make_codec(kCols, 32, 8, signs.data());
  const Encoded expected = encode(codec, table(), rows);
  for (const uint32_t threads : {1u, 2u, 3u, 5u}) {
    std::vector<std::byte> words(expected.words.size() + 1);
    std::vector<std::byte> scales(expected.scales.size() + 1);
    std::vector<std::thread> workers;
    for (uint32_t begin = 0; begin < kRows; begin += kRows / threads) {
      workers.emplace_back([&, begin] {
        std::vector<float> values(kCols);
        std::vector<uint8_t> indices(kCols);
        encode_rows(codec, table(), rows.data() + size_t{begin} * kCols, kRows / threads,
                    {.values = values.data(),
                     .indices = indices.data(),
                     .words = words.data() + 1 + size_t{begin} * codec.words * 4,
                     .scales = scales.data() + 1 + size_t{begin} * (kCols / 32) * 2});
      });
    }
    for (std::thread& worker : workers) worker.join();
    EXPECT_TRUE(std::equal(expected.words.begin(), expected.words.end(), words.begin() + 1));
    EXPECT_TRUE(std::equal(expected.scales.begin(), expected.scales.end(), scales.begin() + 1));
  }
}

class CodecOfRule : public testing::TestWithParam<ScaleRule> {};
INSTANTIATE_TEST_SUITE_P(Rules, CodecOfRule, testing::Values(ScaleRule::rms, ScaleRule::search));

TEST_P(CodecOfRule, StopsAtTheFirstRowThatNoF16ScaleHolds) {
  const Codec codec = make_codec(64, 32, 8, nullptr, GetParam());
  const std::vector<float> good = gaussian(size_t{4} * 64, 23);
  const Encoded expected = encode(codec, table(), good);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), HUGE_VALF, -HUGE_VALF, 1e30f}) {
    std::vector<float> rows = good;
    rows[2 * 64 + 40] = bad;
    const Encoded encoded = encode(codec, table(), rows);
    EXPECT_EQ(encoded.rows, 2u);
    EXPECT_TRUE(std::equal(encoded.words.begin(), encoded.words.begin() + 2 * 7 * 4,
                           expected.words.begin()));
    EXPECT_TRUE(std::all_of(encoded.words.begin() + 3 * 7 * 4, encoded.words.end(),
                            [](std::byte byte) { return byte == std::byte{0}; }));
  }
}

// The uniform codebook's error is that of its steps, 1/32² / 12, and of what lies beyond its last
// centroid c: 2 ∫ (x − c)² φ(x) dx from c on, to which only some 60 of the samples contribute.
TEST(Codec, HasTheErrorOfItsStepsAndItsEndsWithEightBits) {
  const double c = 255.0 / 64;
  const double beyond = std::erfc(c / std::sqrt(2)) / 2;
  const double density = std::exp(-c * c / 2) / std::sqrt(2 * M_PI);
  const double expected = 1.0 / 1024 / 12 + 2 * ((1 + c * c) * beyond - c * density);
  EXPECT_NEAR(gaussian_error(256, 1 << 14), expected, 0.04 * expected);
}

TEST(Codec, ReportsTheErrorThatDecodingShows) {
  const std::vector<float> samples = gaussian(1 << 14, 37, 0.05f);
  for (const uint32_t length : kLengths) {
    const Codec codec = make_codec(1 << 11, 64, length, nullptr);
    const std::vector<float> decoded = decode(codec, table(), encode(codec, table(), samples));
    std::vector<EncodingError> errors;
    for (const Table* by : supported_tables()) {
      std::vector<float> values(codec.cols);
      std::vector<uint8_t> indices(codec.cols);
      std::vector<std::byte> words(size_t{8} * codec.words * 4), scales(size_t{8} * 32 * 2);
      encode_rows(codec, *by, samples.data(), 8,
                  {.values = values.data(),
                   .indices = indices.data(),
                   .words = words.data(),
                   .scales = scales.data()},
                  &errors.emplace_back());
    }
    const double shown = relative_squared_error(samples, decoded);
    EXPECT_NEAR(errors[0].error / errors[0].size, shown, 1e-5 * shown);
    for (const EncodingError& other : errors) {
      EXPECT_EQ(other.error, errors[0].error);
      EXPECT_EQ(other.size, errors[0].size);
    }
  }
}

TEST(Codec, EncodesIntoTilesWhatPackingItsRowsGives) {
  for (const uint32_t cols : {768u, 2880u, 7168u}) {
    const std::vector<float> signs = signs_of(cols);
    constexpr uint32_t kRows = 21;
    const std::vector<float> rows = gaussian(size_t{kRows} * cols, 41, 0.03f);
    for (const uint32_t length : {4u, 8u, 16u, 256u}) {
      const Codec codec = make_codec(cols, 32, length, signs.data());
      const Encoded encoded = encode(codec, table(), rows);
      std::vector<std::byte> expected(tile_bytes(kRows, cols, length));
      std::vector<std::byte> expected_scales(tile_scale_bytes(kRows, cols, 32));
      pack_tiles({.rows = kRows, .cols = cols, .group = 32, .length = length}, encoded.words.data(),
                 encoded.scales.data(), expected.data(), expected_scales.data());
      for (const Table* by : supported_tables()) {
        std::vector<std::byte> codes(expected.size(), std::byte{0xaa});
        std::vector<std::byte> scales(expected_scales.size(), std::byte{0xaa});
        std::vector<float> values(cols);
        std::vector<uint8_t> indices(size_t{16} * cols, 0xaa);
        EXPECT_EQ(encode_tiles(codec, *by, rows.data(), kRows,
                               {.values = values.data(),
                                .indices = indices.data(),
                                .codes = codes.data(),
                                .scales = scales.data()}),
                  kRows);
        EXPECT_EQ(codes, expected) << by->name << " " << cols << " " << length;
        EXPECT_EQ(scales, expected_scales) << by->name << " " << cols << " " << length;
      }
    }
  }
}

TEST(Codec, StopsInTilesAtTheFirstRowThatNoF16ScaleHolds) {
  const Codec codec = make_codec(64, 32, 8, nullptr);
  std::vector<float> rows = gaussian(size_t{40} * 64, 43);
  rows[size_t{18} * 64 + 40] = HUGE_VALF;
  std::vector<uint8_t> indices(size_t{16} * 64);
  std::vector<std::byte> codes(tile_bytes(40, 64, 8)), scales(tile_scale_bytes(40, 64, 32));
  EXPECT_EQ(encode_tiles(codec, table(), rows.data(), 40,
                         {.values = nullptr,
                          .indices = indices.data(),
                          .codes = codes.data(),
                          .scales = scales.data()}),
            18u);
}

// RMS 65500 under a scale that wants to be larger still.
TEST_P(CodecOfRule, KeepsScalesWithinF16) {
  for (const uint32_t length : kLengths) {
    const Codec codec = make_codec(64, 64, length, nullptr, GetParam());
    std::vector<float> row(64, 65500.0f);
    for (size_t i = 0; i < 64; i += 3) row[i] = -65500.0f;
    const Encoded encoded = encode(codec, table(), row);
    ASSERT_EQ(encoded.rows, 1u);
    EXPECT_LE(scales_of(encoded)[0], kLargestF16);
    EXPECT_GE(scales_of(encoded)[0], 10000.0f);
  }
}

TEST_P(CodecOfRule, ZerosDecodeToAlmostNothing) {
  for (const uint32_t length : kLengths) {
    const Codec codec = make_codec(64, 64, length, nullptr, GetParam());
    const Encoded encoded = encode(codec, table(), std::vector<float>(64, 0.0f));
    ASSERT_EQ(encoded.rows, 1u);
    EXPECT_NEAR(scales_of(encoded)[0], 1e-7f, 2e-8f);
    for (const float value : decode(codec, table(), encoded)) EXPECT_LT(std::abs(value), 3e-7f);
  }
}

TEST(Codec, AnyWordDecodesToACentroid) {
  for (const uint32_t length : kLengths) {
    const Codec codec = make_codec(96, 32, length, nullptr);
    Encoded encoded = encode(codec, table(), std::vector<float>(96, 1.0f));
    std::fill(encoded.words.begin(), encoded.words.end(), std::byte{0xff});
    const std::vector<float> centroids = centroids_of(codec);
    for (const float value : decode(codec, table(), encoded)) {
      EXPECT_NE(std::find(centroids.begin(), centroids.end(), value), centroids.end());
    }
  }
}

TEST(Codec, TheCodebookTensorHoldsTheCentroidsThatRowsAreDecodedWith) {
  for (const uint32_t length : kLengths) {
    const Codec codec = make_codec(64, 64, length, nullptr);
    std::vector<std::byte> f16(size_t{2} * length);
    codebook_f16(codec, f16.data());
    std::vector<float> values(length);
    table().to_f32(Format::f16, f16.data(), length, values.data());
    if (length <= 16) {
      EXPECT_TRUE(std::equal(values.begin(), values.end(), codec.centroids));
    } else {
      EXPECT_TRUE(is_uniform(values.data(), length));
    }
    for (uint32_t i = 0; i < length; ++i) {
      EXPECT_NEAR(values[i], gaussian_centroids(length)[i], 1e-3f);
    }
  }
}

TEST(Unrotate, UndoesTheRotationOfEverySize) {
  for (const uint32_t n : kSizes) {
    const Rotation rotation = make_rotation(n);
    const std::vector<float> signs = signs_of(n);
    const std::vector<float> x = gaussian(n, n);
    std::vector<float> y(n);
    table().rotate(rotation, signs.data(), x.data(), y.data());
    EXPECT_GT(relative_squared_error(x, y), 0.5) << n;  // it did rotate
    unrotate(rotation, signs.data(), y.data(), y.data());
    EXPECT_LT(relative_squared_error(x, y), 1e-12) << n;
  }
}

TEST(Unrotate, OfADecodedRowIsTheRowUpToTheErrorOfItsBits) {
  for (const uint32_t cols : {768u, 2880u, 7168u}) {
    const std::vector<float> signs = signs_of(cols);
    const std::vector<float> row = gaussian(cols, 29, 0.02f);
    const Codec codec = make_codec(cols, 32, 16, signs.data());
    std::vector<float> back = decode(codec, table(), encode(codec, table(), row));
    unrotate(codec.rotation, signs.data(), back.data(), back.data());
    EXPECT_LT(relative_squared_error(row, back), 0.0105);
  }
}

// The first word of splitmix64 from seed 0 is published with the algorithm.
TEST(RandomSigns, AreTheBitsOfSplitmix64) {
  std::vector<float> signs(64);
  random_signs(0, 64, signs.data());
  for (uint32_t i = 0; i < 64; ++i) {
    EXPECT_EQ(signs[i], (0xe220a8397b1dcdafu >> i & 1) != 0 ? -1.0f : 1.0f) << i;
  }
}

TEST(RandomSigns, DependOnTheSeedAndStartAlikeForEveryCount) {
  std::vector<float> all(1000);
  random_signs(5, 1000, all.data());
  for (const uint32_t count : {1u, 63u, 64u, 65u, 999u}) {
    std::vector<float> some(count);
    random_signs(5, count, some.data());
    EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin())) << count;
  }
  std::vector<float> other(1000);
  random_signs(6, 1000, other.data());
  const float agreement = std::inner_product(all.begin(), all.end(), other.begin(), 0.0f);
  EXPECT_LT(std::abs(agreement), 160.0f);  // five standard deviations of 1000 coin tosses
}

}  // namespace
}  // namespace sluice::kernels
