// Experts in stacks of plain numbers: the same model as one of single experts, to the bit, however
// it is read, repacked and converted.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "model/repack.h"
#include "model/session.h"
#include "model/source_matrix.h"
#include "stream/calibration_files.h"
#include "tests/model/convert_fixture.h"
#include "tests/model/fused_checkpoint.h"
#include "tests/model/golden_case.h"
#include "tests/reference/tensors.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class FusedExperts : public Convert, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override { write_fused(golden_.directory, fused_); }

  void expect_same_logits(const fs::path& model) const {
    for (const Compute compute : {Compute::f32, Compute::int16}) {
      EXPECT_TRUE(same_bits(logits_of(model, golden_.ids, compute),
                            logits_of(golden_.directory, golden_.ids, compute)));
    }
  }

  GoldenCase golden_{GetParam()};
  fs::path fused_ = directory_.path() / "fused";
};

TEST_P(FusedExperts, GiveTheBitsOfSingleOnes) { expect_same_logits(fused_); }

TEST_P(FusedExperts, GiveTheSameBitsRepacked) {
  repack({.model = fused_, .out = out(), .verify = true, .threads = 2}, {});
  expect_same_logits(out());
}

TEST_P(FusedExperts, GiveTheSameBitsConvertedToSixteen) {
  for (const ConvertLayout layout : {ConvertLayout::records, ConvertLayout::mlx}) {
    const fs::path to = out(layout == ConvertLayout::records ? "records" : "mlx");
    convert_model(options_for(fused_, to, kStoredBits, layout), {});
    expect_same_logits(to);
  }
}

TEST_P(FusedExperts, AreQuantizedAsSingleOnesAre) {
  convert_model(options_for(fused_, out("fused3")), {});
  convert_model(options_for(golden_.directory, out("single3")), {});
  EXPECT_TRUE(same_bits(logits_of(out("fused3"), golden_.ids, Compute::f32),
                        logits_of(out("single3"), golden_.ids, Compute::f32)));
}

INSTANTIATE_TEST_SUITE_P(Goldens, FusedExperts, testing::Values("qwen3_moe", "mixtral"),
                         [](const auto& test) { return test.param; });

// gpt_oss has them in columns, with biases.
class ColumnExperts : public Convert {
 protected:
  GoldenCase golden_{"gpt_oss"};
};

TEST_F(ColumnExperts, GiveTheSameBitsConvertedToSixteen) {
  for (const ConvertLayout layout : {ConvertLayout::records, ConvertLayout::mlx}) {
    const fs::path to = out(layout == ConvertLayout::records ? "records" : "mlx");
    convert_model(options_for(golden_.directory, to, kStoredBits, layout), {});
    for (const Compute compute : {Compute::f32, Compute::int16}) {
      EXPECT_TRUE(same_bits(logits_of(to, golden_.ids, compute),
                            logits_of(golden_.directory, golden_.ids, compute)));
    }
  }
}

TEST_F(ColumnExperts, GiveTheSameLogitsQuantizedIntoRecordsOrStacks) {
  for (const std::string golden : {"gpt_oss", "gpt_oss_mxfp4"}) {
    const fs::path mlx = out(golden + "_mlx"), records = out(golden + "_records");
    convert_model(options_for(kGoldens + golden, mlx, 4, ConvertLayout::mlx), {});
    convert_model(options_for(kGoldens + golden, records, 4), {});
    EXPECT_TRUE(same_bits(logits_of(mlx, golden_.ids, Compute::f32),
                          logits_of(records, golden_.ids, Compute::f32)));
    // What was converted can be converted again.
    ConvertOptions again = options_for(mlx, out(golden + "_again"), 4);
    again.settings.attn_bits = 8;  // what the first conversion chose
    convert_model(again, {});
    EXPECT_TRUE(same_bits(logits_of(mlx, golden_.ids, Compute::f32),
                          logits_of(out(golden + "_again"), golden_.ids, Compute::f32)));
  }
}

TEST_F(ColumnExperts, OfMxfp4StayAsTheyAreInStacks) {
  const GoldenCase golden("gpt_oss_mxfp4");
  ConvertOptions options = options_for(golden.directory, out(), kStoredBits, ConvertLayout::mlx);
  convert_model(options, {});
  EXPECT_TRUE(same_bits(logits_of(out(), golden.ids, Compute::f32),
                        logits_of(golden.directory, golden.ids, Compute::f32)));
}

TEST_F(ColumnExperts, AreReadAsRows) {
  const Checkpoint checkpoint = Checkpoint::open(golden_.directory);
  const ExpertNames names = expert_names(read_config(golden_.directory))[1];
  const std::string prefix = "model.layers.1.mlp.experts";
  const TensorInfo& tensor = checkpoint.at(prefix + ".gate_up_proj");  // [8, 64, 64]
  const std::vector<double> stored =
      reference::read_values(checkpoint.files()[tensor.file], tensor, 0, 8 * 64 * 64);
  const std::vector<std::byte> bytes = tensor_bytes(checkpoint, tensor);
  const SourceMatrix first =
      SourceMatrix::open_plain_stack(checkpoint, names, prefix, names.projections[0]);
  for (const uint32_t expert : {0u, 7u}) {
    const SourceMatrix matrix = first.slab(expert);
    const uint32_t begin = 3, end = 41;
    const FileSlice slice = matrix.slices(begin, end).places[0];
    const SourceMatrix::Bytes slab = {bytes.data() + (slice.offset - tensor.offset), nullptr};
    std::vector<float> rows(size_t{end - begin} * 64);
    matrix.to_f32(kernels::table(), begin, end, slab, rows.data());
    for (uint32_t row = begin; row < end; ++row) {
      for (uint32_t col = 0; col < 64; ++col) {
        ASSERT_EQ(static_cast<double>(rows[(row - begin) * 64 + col]),
                  stored[(expert * 64 + col) * 64 + row]);
      }
    }
  }
}

TEST_F(ColumnExperts, BadOnesAreRefusedByName) {
  const auto error_of = [&](const std::function<void(TensorInfo&)>& change) -> std::string {
    const fs::path model = directory_.path() / "bad";
    fs::remove_all(model);
    fs::create_directory(model);
    fs::copy(golden_.directory + "/config.json", model / "config.json");
    const Checkpoint checkpoint = Checkpoint::open(golden_.directory);
    std::vector<TensorInfo> tensors;
    for (TensorInfo tensor : checkpoint.tensors()) {
      change(tensor);
      if (!tensor.name.empty()) tensors.push_back(tensor);
    }
    SafetensorsWriter writer((model / "model.safetensors").string(), tensors, {});
    for (const TensorInfo& tensor : tensors) {
      uint64_t size_bytes = dtype_bytes(tensor.dtype);
      for (const uint64_t dimension : tensor.shape) size_bytes *= dimension;
      writer.write(std::vector<std::byte>(size_bytes));
    }
    writer.finish();
    try {
      logits_of(model, {1, 2}, Compute::f32);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const std::string experts = "model.layers.1.mlp.experts.";
  const auto remove = [&](const std::string& name) {
    return error_of([&](TensorInfo& tensor) {
      if (tensor.name == name) tensor.name.clear();
    });
  };
  for (const std::string name : {"gate_up_proj", "down_proj_bias", "gate_up_proj_bias"}) {
    EXPECT_THAT(remove(experts + name), HasSubstr("tensor " + experts + name + " is missing"));
  }
  EXPECT_THAT(remove("model.layers.2.self_attn.sinks"), HasSubstr("self_attn.sinks"));
  EXPECT_THAT(remove("model.layers.0.mlp.router.bias"), HasSubstr("router.bias"));
  EXPECT_THAT(error_of([&](TensorInfo& tensor) {
                if (tensor.name == experts + "down_proj") tensor.shape = {8, 64, 32};
              }),
              AllOf(HasSubstr("[8, 64, 32]"), HasSubstr("expected [8, 32, 64]")));
  EXPECT_THAT(error_of([&](TensorInfo& tensor) {
                if (tensor.name == experts + "down_proj_bias") tensor.shape = {8, 32};
              }),
              AllOf(HasSubstr("[8, 32]"), HasSubstr("expected [8, 64]")));
  EXPECT_THAT(error_of([&](TensorInfo& tensor) {
                if (tensor.name == experts + "down_proj_bias") tensor.dtype = DType::i32;
              }),
              AllOf(HasSubstr("down_proj_bias is I32"), HasSubstr("BF16")));
  EXPECT_THAT(error_of([&](TensorInfo& tensor) {
                if (tensor.name == experts + "down_proj_bias") tensor.name = experts + "norm";
              }),
              HasSubstr(experts + "norm is not understood"));
}

}  // namespace
}  // namespace sluice
