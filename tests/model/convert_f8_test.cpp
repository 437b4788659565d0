// Converting checkpoints in F8 with scales of blocks.

#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors_writer.h"
#include "model/block_formats.h"
#include "tests/model/convert_fixture.h"

namespace sluice {
namespace {

// Two checkpoints of the same weights, one of them in F8 with scales of blocks: the quantized
// matrices of both must be the same bytes.
class F8Twin {
 public:
  F8Twin(const fs::path& golden, const fs::path& f8, const fs::path& plain) {
    const Checkpoint checkpoint = Checkpoint::open(golden);
    for (const TensorInfo& tensor : checkpoint.tensors()) {
      if (tensor.name.ends_with("_proj.weight")) {
        add_projection(tensor);
      } else {
        add(f8_, tensor, read_bytes(checkpoint, tensor));
        add(plain_, tensor, read_bytes(checkpoint, tensor));
      }
    }
    auto config = nlohmann::json::parse(read_file(golden / "config.json"));
    write(plain, plain_, config.dump());
    config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {32, 32}}};
    write(f8, f8_, config.dump());
  }

 private:
  struct File {
    std::vector<TensorInfo> tensors;
    std::vector<std::byte> bytes;
  };

  static std::vector<std::byte> read_bytes(const Checkpoint& checkpoint, const TensorInfo& tensor) {
    const std::string text = read_file(checkpoint.files()[tensor.file]);
    const auto* begin = reinterpret_cast<const std::byte*>(text.data()) + tensor.offset;
    return {begin, begin + tensor.size_bytes};
  }

  static void add(File& file, TensorInfo tensor, const std::vector<std::byte>& bytes) {
    file.tensors.push_back(std::move(tensor));
    file.bytes.insert(file.bytes.end(), bytes.begin(), bytes.end());
  }

  template <class Value>
  static std::vector<std::byte> bytes_of(const std::vector<Value>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    return {bytes.begin(), bytes.end()};
  }

  void add_projection(TensorInfo tensor) {
    const uint64_t rows = tensor.shape[0];
    const uint64_t cols = tensor.shape[1];
    const uint64_t row_blocks = (rows + 31) / 32;
    const uint64_t col_blocks = (cols + 31) / 32;
    std::vector<float> scales;
    for (uint64_t i = 0; i < row_blocks * col_blocks; ++i) {
      scales.push_back(0.001f * static_cast<float>(i + 1));
    }
    std::vector<uint8_t> codes;
    std::vector<float> values;
    for (uint64_t i = 0; i < rows * cols; ++i) {
      state_ = state_ * 6364136223846793005 + 1442695040888963407;
      codes.push_back(static_cast<uint8_t>(state_ >> 56) & 0xbf);  // below 2 in size
      values.push_back(e4m3_value(codes.back()) *
                       scales[i / cols / 32 * col_blocks + i % cols / 32]);
    }
    tensor.dtype = DType::f8_e4m3;
    add(f8_, tensor, bytes_of(codes));
    tensor.dtype = DType::f32;
    add(plain_, tensor, bytes_of(values));
    tensor.name += "_scale_inv";
    tensor.shape = {row_blocks, col_blocks};
    add(f8_, tensor, bytes_of(scales));
  }

  static void write(const fs::path& directory, const File& file, const std::string& config) {
    fs::create_directory(directory);
    SafetensorsWriter writer((directory / "model.safetensors").string(), file.tensors, {});
    writer.write(file.bytes);
    writer.finish();
    std::ofstream(directory / "config.json") << config;
  }

  File f8_, plain_;
  uint64_t state_ = 7;
};

TEST_F(Convert, F8BlocksGiveWhatTheirDecodedWeightsGive) {
  const F8Twin twin(kGoldens + "qwen3_moe", out("f8"), out("plain"));
  for (const ConvertLayout layout : {ConvertLayout::records, ConvertLayout::mlx}) {
    const std::string name = layout == ConvertLayout::mlx ? "mlx" : "records";
    convert_model(options_for(out("f8"), out(name + "_f8"), 4, layout), {});
    convert_model(options_for(out("plain"), out(name + "_plain"), 4, layout), {});
    const Checkpoint from_f8 = Checkpoint::open(out(name + "_f8"));
    const Checkpoint from_plain = Checkpoint::open(out(name + "_plain"));
    ASSERT_EQ(from_f8.tensors().size(), from_plain.tensors().size());
    for (const TensorInfo& tensor : from_f8.tensors()) {
      const TensorInfo& other = from_plain.at(tensor.name);
      const std::string ours = read_file(from_f8.files()[tensor.file]);
      const std::string theirs = read_file(from_plain.files()[other.file]);
      EXPECT_EQ(ours.substr(tensor.offset, tensor.size_bytes),
                theirs.substr(other.offset, other.size_bytes))
          << tensor.name;
    }
  }
}

TEST_F(Convert, F8ThatWouldStayIsAnErrorAtOnce) {
  const F8Twin twin(kGoldens + "qwen3_moe", out("f8"), out("plain"));
  expect_error([&] { convert_model(options_for(out("f8"), out(), kStoredBits), {}); }, "F8_E4M3");
  expect_nothing_left();
}

}  // namespace
}  // namespace sluice
