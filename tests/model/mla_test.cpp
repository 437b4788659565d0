// Latent attention beyond the goldens of plain numbers: an up-projection that is stored quantized,
// and what the plan says of the cache.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "io/safetensors_writer.h"
#include "tests/model/convert_fixture.h"
#include "tests/reference/tensors.h"

namespace sluice {
namespace {

constexpr const char* kCase = "deepseek_v2_lite";
constexpr uint64_t kLayers = 3, kHeads = 4, kKvRank = 32, kRopeDim = 8;
constexpr uint64_t kUpRows = kHeads * (16 + 16);  // qk_nope_head_dim + v_head_dim

MemoryPlan plan_of(const fs::path& model, Compute compute, uint64_t context) {
  ModelOptions options;
  options.compute = compute;
  options.context = context;
  options.threads = 1;
  return Model::load(model.string(), options).plan();
}

// The same model with its up-projections as plain numbers, decoded by other code.
void write_with_plain_up_projections(const fs::path& from, const fs::path& to) {
  const Checkpoint source = Checkpoint::open(from.string());
  const reference::Tensors decoded(from);
  std::vector<TensorInfo> infos;
  std::vector<std::string> contents;
  for (const TensorInfo& tensor : source.tensors()) {
    TensorInfo info = tensor;
    std::string bytes;
    if (tensor.name.find("kv_b_proj") == std::string::npos) {
      bytes = read_file(source.files()[tensor.file]).substr(tensor.offset, tensor.size_bytes);
    } else if (tensor.name.ends_with(".weight")) {
      const reference::Matrix matrix =
          decoded.matrix(tensor.name.substr(0, tensor.name.size() - std::strlen(".weight")));
      info.dtype = DType::f32;
      info.shape = {static_cast<uint64_t>(matrix.rows()), static_cast<uint64_t>(matrix.cols())};
      const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> floats =
          matrix.cast<float>();
      bytes.assign(reinterpret_cast<const char*>(floats.data()),
                   static_cast<size_t>(floats.size()) * sizeof(float));
    } else {
      continue;
    }
    info.size_bytes = bytes.size();
    infos.push_back(info);
    contents.push_back(std::move(bytes));
  }
  fs::create_directory(to);
  SafetensorsWriter writer((to / "model.safetensors").string(), infos, {});
  for (const std::string& bytes : contents) writer.write(std::as_bytes(std::span(bytes)));
  writer.finish();
  fs::copy_file(from / "config.json", to / "config.json");
}

TEST_F(Convert, AQuantizedUpProjectionIsDecodedWhenTheModelIsLoaded) {
  convert_model(options_for(kGoldens + kCase, out(), 3, ConvertLayout::mlx), {});
  ASSERT_NE(Checkpoint::open(out().string()).find("model.layers.1.self_attn.kv_b_proj.codebook"),
            nullptr);
  write_with_plain_up_projections(out(), out("plain"));
  const GoldenCase golden(kCase);
  for (const Compute compute : {Compute::f32, Compute::int16}) {
    const std::vector<float> quantized = logits_of(out(), golden.ids, compute);
    const std::vector<float> plain = logits_of(out("plain"), golden.ids, compute);
    ASSERT_EQ(quantized.size(), plain.size());
    double worst = 0;
    for (size_t i = 0; i < plain.size(); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(quantized[i] - plain[i])));
    }
    EXPECT_LE(worst, compute == Compute::f32 ? 2e-4 : 2e-2);
  }
}

TEST_F(Convert, ThePlanCountsADecodedUpProjection) {
  convert_model(options_for(kGoldens + kCase, out(), 8), {});
  Checkpoint converted = Checkpoint::open(out().string());
  uint64_t stored = 0;  // of all but experts and embeddings
  for (const TensorInfo& tensor : converted.tensors()) {
    if (tensor.name.find("self_attn") != std::string::npos) stored += tensor.size_bytes;
  }
  constexpr uint64_t kDecoded = kLayers * kUpRows * kKvRank * sizeof(float);
  EXPECT_GE(plan_of(out(), Compute::int16, 64).trunk_bytes, stored + kDecoded);
}

// One latent and one turned key a position, whatever the number of heads.
TEST(LatentCache, HoldsLatentsAlone) {
  const fs::path model = kGoldens + kCase;
  constexpr uint64_t kContext = 512, kPage = 4096;
  const uint64_t values = kLayers * kContext * (kKvRank + kRopeDim);
  const uint64_t halves = plan_of(model, Compute::int16, kContext).kv_bytes;
  const uint64_t floats = plan_of(model, Compute::f32, kContext).kv_bytes;
  EXPECT_GE(halves, 2 * values);
  EXPECT_LE(halves, 2 * values + kPage);
  EXPECT_GE(floats, 4 * values);
  EXPECT_LE(floats, 4 * values + kPage);
}

TEST(LatentCache, HoldsTheIndexersKeysBesideThem) {
  constexpr uint64_t kContext = 512, kPage = 4096, kIndexDim = 16;
  const uint64_t values = kLayers * kContext * (kKvRank + kRopeDim + kIndexDim);
  const uint64_t halves = plan_of(kGoldens + "deepseek_v32", Compute::int16, kContext).kv_bytes;
  EXPECT_GE(halves, 2 * values);
  EXPECT_LE(halves, 2 * values + kPage);
}

}  // namespace
}  // namespace sluice
