// The tile layout: where each code lies, and that packing loses nothing.
#include "kernels/tiles.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kernels/tables.h"

namespace sluice::kernels {
namespace {

constexpr uint32_t kLengths[] = {4, 8, 16, 256};
constexpr uint32_t kGroups[] = {32, 64, 128};

uint32_t bits_of(uint32_t length) {
  return length == 4 ? 2 : length == 8 ? 3 : length == 16 ? 4 : 8;
}

// The code of a row and input by the drawing of tiles.h, bit by bit.
uint32_t drawn_code(const std::byte* codes, const TileShape& shape, uint32_t row, uint32_t col) {
  const uint32_t bits = bits_of(shape.length);
  const size_t unit = size_t{row} / 16 * (shape.cols / 32) + col / 32;
  const uint32_t vector = col % 32 / 4, place = row % 16 * 4 + col % 4;
  const auto byte = [&](size_t k) {
    return static_cast<uint32_t>(codes[(unit * bits + k) * 64 + place]);
  };
  if (bits == 3 && vector >= 6) {
    const uint32_t w = byte(0) >> 6 | byte(1) >> 6 << 2 | byte(2) >> 6 << 4;
    return w >> (3 * (vector - 6)) & 7;
  }
  const uint32_t per_byte = 8 / bits;
  return byte(vector / per_byte) >> (vector % per_byte * bits) & (shape.length - 1);
}

TEST(Tiles, HaveEveryCodeAndScaleInItsDrawnPlace) {
  Random random(1);
  for (const uint32_t length : kLengths) {
    for (const uint32_t group : kGroups) {
      TiledMatrix w(random, length, 37, 5 * group, group);
      for (uint32_t row = 0; row < 48; ++row) {
        for (uint32_t col = 0; col < w.shape.cols; ++col) {
          const uint32_t expected = row < 37 ? w.rows.code(row, col) : 0;
          ASSERT_EQ(drawn_code(w.codes.data(), w.shape, row, col), expected)
              << length << ", row " << row << ", col " << col;
        }
        for (uint32_t g = 0; g < 5; ++g) {
          uint16_t scale;
          std::memcpy(&scale, w.scales.data() + ((row / 16 * 5 + g) * 16 + row % 16) * 2, 2);
          ASSERT_EQ(f16_value(scale), row < 37 ? w.rows.scale(row, g) : 0.0f);
        }
      }
    }
  }
}

TEST(Tiles, UnpackToTheWordsTheyWerePackedFrom) {
  Random random(2);
  for (const uint32_t length : kLengths) {
    for (const uint32_t cols : {768u, 2048u, 2880u, 7168u, 11008u, 13824u}) {
      TiledMatrix w(random, length, 21, cols, cols % 64 == 0 ? 64 : 32);
      const size_t word_bytes = size_t{21} * row_words(cols, length) * 4;
      const size_t scale_bytes = size_t{21} * (cols / w.shape.group) * 2;
      std::vector<std::byte> words(word_bytes + 1, std::byte{0xaa});
      std::vector<std::byte> scales(scale_bytes + 1, std::byte{0xaa});
      unpack_tiles(w.shape, w.codes.data(), w.scales.data(), words.data(), scales.data());
      EXPECT_TRUE(std::equal(words.begin(), words.end() - 1, w.rows.matrix.data)) << length;
      EXPECT_TRUE(std::equal(scales.begin(), scales.end() - 1, w.rows.matrix.scales)) << length;
      EXPECT_EQ(words.back(), std::byte{0xaa});
      EXPECT_EQ(scales.back(), std::byte{0xaa});
    }
  }
}

TEST(Tiles, OfBlocksOfRowsAreTheWholeMatrixsTiles) {
  Random random(3);
  for (const uint32_t length : kLengths) {
    TiledMatrix w(random, length, 72, 192, 64);
    std::vector<std::byte> codes(tile_bytes(72, 192, length));
    std::vector<std::byte> scales(tile_scale_bytes(72, 192, 64));
    for (uint32_t row = 0; row < 72; row += 32) {
      const TileShape block = {
          .rows = std::min(72 - row, 32u), .cols = 192, .group = 64, .length = length};
      pack_tiles(block, w.rows.matrix.data + size_t{row} * row_words(192, length) * 4,
                 w.rows.matrix.scales + size_t{row} * 3 * 2,
                 codes.data() + tile_bytes(row, 192, length),
                 scales.data() + tile_scale_bytes(row, 192, 64));
    }
    EXPECT_TRUE(std::equal(codes.begin(), codes.end(), w.codes.data()));
    EXPECT_TRUE(std::equal(scales.begin(), scales.end(), w.scales.data()));
  }
}

TEST(Tiles, TakeAnyWordsAndKeepTheirCodes) {
  Random random(4);
  TiledMatrix w(random, 8, 16, 32, 32);
  std::vector<uint32_t> words(16 * 4, 0xffffffff);
  pack_tiles(w.shape, reinterpret_cast<const std::byte*>(words.data()), w.rows.matrix.scales,
             w.codes.data(), w.scales.data());
  std::vector<uint32_t> unpacked(16 * 4);
  std::vector<std::byte> scales(16 * 2);
  unpack_tiles(w.shape, w.codes.data(), w.scales.data(),
               reinterpret_cast<std::byte*>(unpacked.data()), scales.data());
  for (size_t i = 0; i < unpacked.size(); ++i) {
    // 10 codes a word, 2 in the last of 32.
    EXPECT_EQ(unpacked[i], i % 4 < 3 ? 0x3fffffffu : 0x3fu);
  }
}

TEST(Tiles, ExistForWholeGroupsOfCodesOfWholeBits) {
  EXPECT_TRUE(has_tiles(2048, 64, 8));
  EXPECT_TRUE(has_tiles(32, 32, 256));
  EXPECT_FALSE(has_tiles(2048, 64, 3));
  EXPECT_FALSE(has_tiles(2048, 48, 4));
  EXPECT_FALSE(has_tiles(96, 64, 4));
  EXPECT_FALSE(has_tiles(0, 64, 4));
  EXPECT_EQ(tile_bytes(17, 64, 8), size_t{2 * 2 * 192});
  EXPECT_EQ(tile_scale_bytes(17, 64, 32), size_t{2 * 2 * 32});
}

using TilesProduct = TableTest;

// Both paths of tiles against those of rows in the scalar table, which the tests of TurboQuant hold
// against exact arithmetic.
void expect_the_bits_of_rows(const Table& by, const TiledMatrix& w, uint32_t vectors,
                             uint32_t row_begin, uint32_t row_end, const std::vector<float>& x) {
  const uint32_t cols = w.shape.cols, group = w.shape.group;
  const uint32_t y_stride = w.shape.rows + 3;
  const MatmulTask task = {.row_begin = row_begin,
                           .row_end = row_end,
                           .vectors = vectors,
                           .x_stride = cols,
                           .y_stride = y_stride};
  std::vector<float> expected(size_t{vectors} * y_stride + 1, -7.0f), found = expected;
  IntegerVectors inputs(vectors, cols, group, 1), scalar_inputs(vectors, cols, group);
  inputs.quantize(by, x, vectors, cols, group);
  scalar_inputs.quantize(scalar(), x, vectors, cols, group);
  scalar().matmul_integer(w.rows.matrix, task, scalar_inputs.view, expected.data());
  by.matmul_integer(w.matrix, task, inputs.view, found.data());
  EXPECT_TRUE(same_bits(found, expected))
      << by.name << " integer, length " << w.shape.length << ", group " << group << ", " << vectors
      << " vectors, rows " << row_begin << " to " << row_end;
  scalar().matmul(w.rows.matrix, task, x.data(), expected.data());
  by.matmul(w.matrix, task, x.data(), found.data());
  EXPECT_TRUE(same_bits(found, expected))
      << by.name << " floats, length " << w.shape.length << ", group " << group << ", " << vectors
      << " vectors, rows " << row_begin << " to " << row_end;
}

TEST(ScalarTiles, GiveTheBitsOfRows) {
  Random random(5);
  for (const uint32_t length : kLengths) {
    for (const uint32_t group : kGroups) {
      const TiledMatrix w(random, length, 21, 3 * group, group);
      expect_the_bits_of_rows(scalar(), w, 2, 0, 21, random.gaussians(size_t{2} * 3 * group));
    }
  }
}

TEST_P(TilesProduct, GivesTheBitsOfRows) {
  Random random(6);
  for (const uint32_t length : kLengths) {
    for (const uint32_t group : kGroups) {
      for (const uint32_t vectors : {1u, 2u, 3u, 8u, 13u, 16u, 37u}) {
        const uint32_t rows = random.between(1, 100), cols = group * random.between(1, 7);
        const TiledMatrix w(random, length, rows, cols, group);
        expect_the_bits_of_rows(tested(), w, vectors, 0, rows,
                                random.gaussians(size_t{vectors} * cols));
      }
    }
  }
}

TEST_P(TilesProduct, IsTheSameForAnySplitOfTheTiles) {
  Random random(7);
  const TiledMatrix w(random, 8, 120, 256, 64);
  for (const uint32_t vectors : {2u, 150u}) {
    const auto x = random.gaussians(size_t{vectors} * 256);
    for (uint32_t row = 0; row < 120; row += 48) {
      expect_the_bits_of_rows(tested(), w, vectors, row, std::min(row + 48, 120u), x);
    }
    expect_the_bits_of_rows(tested(), w, vectors, 0, 120, x);
  }
}

// More groups than a chunk of lanes_tiles.h holds.
TEST_P(TilesProduct, OfManyGroupsCarriesItsTotalsOn) {
  Random random(8);
  for (const uint32_t vectors : {1u, 4u, 41u}) {
    const TiledMatrix w(random, 4, 25, 32 * 300, 32);
    expect_the_bits_of_rows(tested(), w, vectors, 0, 25, random.gaussians(size_t{vectors} * 9600));
  }
}

// Of even and of odd codebooks, with every product of one magnitude: of either sign, and of one.
TEST_P(TilesProduct, IsExactAtItsLargest) {
  Random random(9);
  for (const int16_t largest : {int16_t{254}, int16_t{255}}) {
    TiledMatrix w(random, 8, 48, 640, 128);
    for (const uint32_t vectors : {1u, 41u}) {
      for (const int16_t other : {static_cast<int16_t>(-largest), largest}) {
        for (uint32_t i = 0; i < 8; ++i) w.rows.codebook.quantized[i] = i < 4 ? other : largest;
        const size_t inputs = size_t{vectors} * 640;
        expect_the_bits_of_rows(tested(), w, vectors, 0, 48, random.signs(inputs));
        expect_the_bits_of_rows(tested(), w, vectors, 0, 48, std::vector<float>(inputs, 1.0f));
        expect_the_bits_of_rows(tested(), w, vectors, 0, 48, std::vector<float>(inputs, -1.0f));
      }
    }
  }
}

SLUICE_FOR_EACH_TABLE(TilesProduct);

}  // namespace
}  // namespace sluice::kernels
