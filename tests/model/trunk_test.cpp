// What becomes of TurboQuant matrices of the trunk once they are put in tiles where they lie.
// (What is computed with them: model.golden.)
#include "model/trunk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "io/safetensors_writer.h"
#include "kernels/kernels.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using Bytes = std::vector<std::byte>;

// A file with a matrix between two other tensors; the first one's size decides where it begins.
class TiledTrunk : public testing::TestWithParam<std::tuple<uint32_t, uint64_t>> {
 protected:
  static constexpr uint32_t kRows = 48, kCols = 192, kGroup = 64;

  void SetUp() override {
    const auto [length, before] = GetParam();
    shape_ = {.rows = kRows, .cols = kCols, .group = kGroup, .length = length};
    const auto add = [&](const std::string& name, DType dtype, std::vector<uint64_t> shape) {
      TensorInfo tensor;
      tensor.name = name;
      tensor.dtype = dtype;
      uint64_t size = dtype_bytes(dtype);
      for (const uint64_t n : shape) size *= n;
      tensor.shape = std::move(shape);
      tensors_.push_back(std::move(tensor));
      Bytes bytes(size);
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
      bytes_.push_back(std::move(bytes));
    };
    add("before", DType::f32, {before / 4});
    add("m.weight", DType::u32, {kRows, kernels::row_words(kCols, length)});
    add("m.scales", DType::f16, {kRows, kCols / kGroup});
    add("behind", DType::f32, {100});
    SafetensorsWriter writer(directory_.file("model.safetensors"), tensors_, {});
    for (const Bytes& bytes : bytes_) writer.write(bytes);
    writer.finish();
  }

  TemporaryDirectory directory_;
  std::mt19937 random_{7};
  kernels::TileShape shape_;
  std::vector<TensorInfo> tensors_;
  std::vector<Bytes> bytes_;
};

TEST_P(TiledTrunk, HoldsTheMatrixInTilesAndTheRestAsItWas) {
  const Checkpoint checkpoint = Checkpoint::open(directory_.path());
  const DirectFile file(checkpoint.files()[0]);
  const DirectFile* const files[] = {&file};
  Trunk trunk(checkpoint);
  const std::array<uint64_t, 1> before_shape = {tensors_[0].shape[0]}, behind_shape = {100};
  const auto declare = [&] {
    trunk.tensor("before", std::array{DType::f32}, before_shape);
    trunk.tensor("behind", std::array{DType::f32}, behind_shape);
    return trunk.tiles("m.weight", "m.scales", shape_);
  };
  EXPECT_EQ(declare().codes, nullptr);
  const std::unique_ptr<ReadQueue> queue = make_read_queue(ReadBackend::pread, 2);
  trunk.load(files, *queue, {});
  Workers workers(2);
  trunk.arrange(workers);
  const Trunk::Tiles tiles = declare();

  Bytes codes(kernels::tile_bytes(kRows, kCols, shape_.length));
  Bytes scales(kernels::tile_scale_bytes(kRows, kCols, kGroup));
  kernels::pack_tiles(shape_, bytes_[1].data(), bytes_[2].data(), codes.data(), scales.data());
  EXPECT_EQ(std::memcmp(tiles.codes, codes.data(), codes.size()), 0);
  EXPECT_EQ(std::memcmp(tiles.scales, scales.data(), scales.size()), 0);
  const auto same = [&](const char* name, std::span<const uint64_t> shape, const Bytes& bytes) {
    const std::byte* held = trunk.tensor(name, std::array{DType::f32}, shape);
    return std::memcmp(held, bytes.data(), bytes.size()) == 0;
  };
  EXPECT_TRUE(same("before", before_shape, bytes_[0]));
  EXPECT_TRUE(same("behind", behind_shape, bytes_[3]));
  // Words of 3 bits leave room to begin at a cache line.
  if (shape_.length == 8) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tiles.codes) % kernels::kTileAlignment, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(LengthsAndPlaces, TiledTrunk,
                         testing::Combine(testing::Values(4u, 8u, 16u, 256u),
                                          testing::Values(4u, 20u, 32u, 64u)));

}  // namespace
}  // namespace sluice
