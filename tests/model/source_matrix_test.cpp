// Every source format as rows of floats, from bytes written out by hand.

#include "model/source_matrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "io/error.h"
#include "io/posix_file.h"
#include "io/safetensors_writer.h"
#include "model/block_formats.h"
#include "tests/io/temporary_directory.h"
#include "tests/reference/tensors.h"

namespace sluice {
namespace {

TEST(BlockFormats, E4m3HasTheValuesOfItsDefinition) {
  EXPECT_EQ(e4m3_value(0x00), 0.0f);
  EXPECT_EQ(e4m3_value(0x01), 0x1p-9f);  // the smallest
  EXPECT_EQ(e4m3_value(0x08), 0x1p-6f);  // the smallest normal
  EXPECT_EQ(e4m3_value(0x38), 1.0f);
  EXPECT_EQ(e4m3_value(0x3c), 1.5f);
  EXPECT_EQ(e4m3_value(0xb8), -1.0f);
  EXPECT_EQ(e4m3_value(0x7e), 448.0f);  // the largest
  EXPECT_TRUE(std::isnan(e4m3_value(0x7f)));
  EXPECT_TRUE(std::isnan(e4m3_value(0xff)));
}

TEST(BlockFormats, E2m1AndItsScalesHaveTheValuesOfTheirDefinition) {
  std::vector<float> values;
  for (uint8_t nibble = 0; nibble < 16; ++nibble) values.push_back(e2m1_value(nibble));
  EXPECT_THAT(values, testing::ElementsAre(0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3,
                                           -4, -6));
  EXPECT_EQ(e8m0_value(127), 1.0f);
  EXPECT_EQ(e8m0_value(0), 0x1p-127f);
  EXPECT_EQ(e8m0_value(254), 0x1p127f);
  EXPECT_TRUE(std::isnan(e8m0_value(255)));
}

// A checkpoint of one file of tensors given as bytes.
class Files {
 public:
  void add(const std::string& name, DType dtype, std::vector<uint64_t> shape,
           const std::vector<uint8_t>& bytes) {
    TensorInfo tensor;
    tensor.name = name;
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensors_.push_back(tensor);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void add_floats(const std::string& name, std::vector<uint64_t> shape,
                  const std::vector<float>& values) {
    std::vector<uint8_t> bytes(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    add(name, DType::f32, std::move(shape), bytes);
  }
  const Checkpoint& open() {
    SafetensorsWriter writer(directory_.file("model.safetensors"), tensors_, {});
    writer.write(std::as_bytes(std::span(bytes_)));
    writer.finish();
    checkpoint_.emplace(Checkpoint::open(directory_.path()));
    return *checkpoint_;
  }

 private:
  TemporaryDirectory directory_;
  std::vector<TensorInfo> tensors_;
  std::vector<uint8_t> bytes_;
  std::optional<Checkpoint> checkpoint_;
};

std::vector<float> read_rows(const Checkpoint& checkpoint, const SourceMatrix& matrix,
                             uint32_t begin, uint32_t end) {
  const SourceMatrix::Slices slices = matrix.slices(begin, end);
  std::vector<std::vector<std::byte>> bytes;
  SourceMatrix::Bytes pointers{};
  for (uint32_t i = 0; i < slices.count; ++i) {
    const FileSlice& slice = slices.places[i];
    bytes.emplace_back(slice.size_bytes);
    const std::string& path = checkpoint.files()[slice.file];
    read_exactly(open_regular_file(path).fd, bytes.back(), slice.offset, path);
  }
  for (uint32_t i = 0; i < slices.count; ++i) pointers[i] = bytes[i].data();
  std::vector<float> out(size_t{end - begin} * matrix.cols());
  matrix.to_f32(kernels::table(), begin, end, pointers, out.data());
  return out;
}

TEST(SourceMatrixTest, F8BlocksAreScaledByTheirBlock) {
  // [3, 4] in blocks of 2 × 2: scales [2, 2]; all weights 1.
  Files files;
  files.add("w.weight", DType::f8_e4m3, {3, 4}, std::vector<uint8_t>(12, 0x38));
  files.add_floats("w.weight_scale_inv", {2, 2}, {1, 2, 3, 4});
  const Checkpoint& checkpoint = files.open();
  const SourceMatrix matrix = SourceMatrix::open(checkpoint, "w", 0, true);
  EXPECT_EQ(matrix.kind(), SourceMatrix::Kind::fp8_blocks);
  EXPECT_THAT(read_rows(checkpoint, matrix, 0, 3),
              testing::ElementsAre(1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4));
  EXPECT_THAT(read_rows(checkpoint, matrix, 1, 3), testing::ElementsAre(1, 1, 2, 2, 3, 3, 4, 4));
  EXPECT_THAT(read_rows(checkpoint, matrix, 2, 3), testing::ElementsAre(3, 3, 4, 4));
}

TEST(SourceMatrixTest, ScalesOfF8BlocksMayBeBf16) {
  Files files;
  files.add("w.weight", DType::f8_e4m3, {2, 4}, std::vector<uint8_t>(8, 0x38));
  files.add("w.weight_scale_inv", DType::bf16, {1, 2}, {0x00, 0x40, 0x40, 0x40});  // 2, 3
  const Checkpoint& checkpoint = files.open();
  const SourceMatrix matrix = SourceMatrix::open(checkpoint, "w", 0, true);
  EXPECT_THAT(read_rows(checkpoint, matrix, 1, 2), testing::ElementsAre(2, 2, 3, 3));
}

TEST(SourceMatrixTest, Mxfp4TakesTheLowNibbleFirst) {
  Files files;
  std::vector<uint8_t> blocks(2 * 16, 0x21);  // 0.5, 1, 0.5, 1, ...
  blocks[16] = 0xf7;                          // the second row begins with 6, -6
  files.add("e_blocks", DType::u8, {1, 2, 1, 16}, blocks);
  files.add("e_scales", DType::u8, {1, 2, 1}, {128, 126});  // times 2, times 1/2
  const Checkpoint& checkpoint = files.open();
  const SourceMatrix matrix = SourceMatrix::open_mxfp4(checkpoint, "e", 0);
  const std::vector<float> rows = read_rows(checkpoint, matrix, 0, 2);
  ASSERT_EQ(rows.size(), 64u);
  EXPECT_EQ(rows[0], 1);
  EXPECT_EQ(rows[1], 2);
  EXPECT_EQ(rows[32], 3);
  EXPECT_EQ(rows[33], -3);
  EXPECT_EQ(read_rows(checkpoint, matrix, 1, 2)[0], 3);
}

TEST(SourceMatrixTest, TurboquantIsRotatedBackAsTheReferenceDoes) {
  for (const std::string name : {"tq3_qwen3_moe", "tq4_qwen3_moe", "tq3_qwen3_moe_h20_h28"}) {
    const std::string directory = SLUICE_TEST_DATA "/goldens/" + name;
    const Checkpoint checkpoint = Checkpoint::open(directory);
    const std::string dense = "model.layers.0.self_attn.o_proj";
    const std::string stack = "model.layers.1.mlp.switch_mlp.down_proj";
    const reference::Tensors tensors(directory);
    for (const auto& [path, expert] : {std::pair(dense, 0u), std::pair(stack, 3u)}) {
      const SourceMatrix matrix = SourceMatrix::open(checkpoint, path, expert, true);
      const std::vector<float> rows = read_rows(checkpoint, matrix, 0, matrix.rows());
      const reference::Matrix expected = tensors.expert_matrix(path, expert);
      ASSERT_EQ(static_cast<size_t>(expected.size()), rows.size());
      // Sums of a few hundred terms in float32.
      for (size_t i = 0; i < rows.size(); ++i) {
        ASSERT_NEAR(rows[i], expected.data()[i], 1e-6) << name << ", " << path << " at " << i;
      }
    }
  }
}

TEST(SourceMatrixTest, DamagedScalesAndShapesAreErrors) {
  Files files;
  files.add("w.weight", DType::f8_e4m3, {4, 4}, std::vector<uint8_t>(16, 0x38));
  files.add_floats("w.weight_scale_inv", {3, 1}, {1, 2, 3});
  files.add("v.weight", DType::i32, {1, 1}, {0, 0, 0, 0});
  files.add("t.weight", DType::f8_e4m3, {1, 1}, {0});
  const Checkpoint& checkpoint = files.open();
  EXPECT_THROW(SourceMatrix::open(checkpoint, "w", 0, true), Error);  // 3 blocks of 4 rows
  EXPECT_THROW(SourceMatrix::open(checkpoint, "v", 0, true), Error);  // integers
  EXPECT_THROW(SourceMatrix::open(checkpoint, "t", 0, true), Error);  // no scales
  EXPECT_THROW(SourceMatrix::open(checkpoint, "u", 0, true), Error);  // nothing
}

}  // namespace
}  // namespace sluice
