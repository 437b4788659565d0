#include "stream/expert_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/stream/expert_layout_case.h"
#include "tests/stream/toy_checkpoint.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const ToyLayer kPlain{};
const ToyLayer kStacked{.stacked = true};

TEST(ExpertLayout, FindsOneTensorPerExpertInEveryPlainType) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const ToyLayer layer{.dtype = dtype};
    const ToyCheckpoint toy(toy_tensors(0, layer), 2, 1);
    const ExpertLayout layout = find(toy, toy_names(0, layer));
    EXPECT_EQ(layout.experts, 8u);
    ASSERT_EQ(layout.formats.size(), 3u);
    EXPECT_EQ(layout.formats[2].dtype, dtype);
    EXPECT_EQ(layout.formats[2].rows, 64u);
    EXPECT_EQ(layout.formats[2].cols, 32u);
    EXPECT_EQ(layout.formats[2].group, 0u);
    const Checkpoint checkpoint = toy.open();
    const TensorInfo& tensor = checkpoint.at("model.layers.0.mlp.experts.5.up_proj.weight");
    const FileSlice slice = layout.projections[1].data.of(5);
    EXPECT_EQ(slice.file, tensor.file);
    EXPECT_EQ(slice.offset, tensor.offset);
    EXPECT_EQ(slice.size_bytes, tensor.size_bytes);
  }
}

TEST(ExpertLayout, FindsStacksOfEveryCodebookAndGroup) {
  for (const uint32_t length : {3u, 4u, 8u, 16u}) {
    for (const uint32_t group : {32u, 64u, 128u}) {
      const ToyLayer layer{.stacked = true,
                           .hidden = 256,
                           .intermediate = 128,
                           .codebook_length = length,
                           .group = group};
      const ToyCheckpoint toy(toy_tensors(0, layer), 2, 1);
      const ExpertLayout layout = find(toy, toy_names(0, layer));
      EXPECT_EQ(layout.formats[0].dtype, DType::u32);
      EXPECT_EQ(layout.formats[0].group, group);
      EXPECT_EQ(layout.formats[0].row_words, toy_row_words(256, length));
      EXPECT_EQ(layout.formats[2].prefix, "model.layers.0.mlp.switch_mlp.down_proj");
      const Checkpoint checkpoint = toy.open();
      const TensorInfo& scales = checkpoint.at(layout.formats[2].prefix + ".scales");
      const FileSlice slice = layout.projections[2].scales.of(7);
      EXPECT_EQ(slice.offset, scales.offset + 7 * (scales.size_bytes / 8));
      EXPECT_EQ(slice.size_bytes, scales.size_bytes / 8);
    }
  }
}

TEST(ExpertLayout, FindsStacksUnderThePrefixOfTheSingleExperts) {
  std::vector<ToyTensor> tensors = toy_tensors(0, kStacked);
  for (ToyTensor& tensor : tensors) {
    const size_t at = tensor.name.find("switch_mlp");
    tensor.name.replace(at, std::string("switch_mlp").size(), "experts");
  }
  const ToyCheckpoint toy(tensors, 1, 1);
  const ExpertLayout layout = find(toy, toy_names(0, kStacked));
  EXPECT_EQ(layout.formats[0].prefix, "model.layers.0.mlp.experts.gate_proj");
}

TEST(ExpertLayout, FindsExpertsOfTwoProjections) {
  std::vector<ToyTensor> tensors = toy_tensors(0, kPlain);
  std::erase_if(tensors, [](const ToyTensor& t) { return t.name.find("gate") != t.name.npos; });
  const ToyCheckpoint toy(tensors, 1, 1);
  ExpertNames names = toy_names(0, kPlain);
  names.projections.erase(names.projections.begin());
  EXPECT_EQ(find(toy, names).formats.size(), 2u);
}

// Layer 3 as stacks of plain numbers; fused: gate and up in one.
struct PlainStackCase {
  std::vector<ToyTensor> tensors;
  ExpertNames names = toy_names(3, kPlain);

  explicit PlainStackCase(bool fused) {
    names.plain_stack = ExpertNames::PlainStack::rows;
    names.gate_and_up = "gate_up_proj";
    const std::string prefix = toy_prefix(3) + "experts.";
    tensors.push_back({prefix + "down_proj", DType::f16, {8, 64, 32}, {}});
    if (fused) {
      tensors.push_back({prefix + "gate_up_proj", DType::f16, {8, 64, 64}, {}});
    } else {
      tensors.push_back({prefix + "gate_proj", DType::f16, {8, 32, 64}, {}});
      tensors.push_back({prefix + "up_proj", DType::f16, {8, 32, 64}, {}});
    }
  }

  std::string error() const {
    try {
      find(ToyCheckpoint(tensors, 2, 1), names);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
};

TEST(ExpertLayout, FindsStacksOfPlainNumbers) {
  const PlainStackCase stack(false);
  const ToyCheckpoint toy(stack.tensors, 2, 1);
  const ExpertLayout layout = find(toy, stack.names);
  EXPECT_EQ(layout.formats[1].dtype, DType::f16);
  EXPECT_EQ(layout.formats[1].layout, MatrixLayout::rows);
  const Checkpoint checkpoint = toy.open();
  const TensorInfo& up = checkpoint.at("model.layers.3.mlp.experts.up_proj");
  const FileSlice slice = layout.projections[1].data.of(5);
  EXPECT_EQ(slice.file, up.file);
  EXPECT_EQ(slice.offset, up.offset + 5 * 32 * 64 * 2);
  EXPECT_EQ(slice.size_bytes, 32u * 64 * 2);
}

TEST(ExpertLayout, FindsGateAndUpInOneTensorTheGateFirst) {
  const PlainStackCase stack(true);
  const ToyCheckpoint toy(stack.tensors, 2, 1);
  const ExpertLayout layout = find(toy, stack.names);
  ASSERT_EQ(layout.formats.size(), 3u);
  const Checkpoint checkpoint = toy.open();
  const TensorInfo& both = checkpoint.at("model.layers.3.mlp.experts.gate_up_proj");
  for (const uint32_t expert : {0u, 7u}) {
    for (const uint32_t projection : {0u, 1u}) {
      const FileSlice slice = layout.projections[projection].data.of(expert);
      EXPECT_EQ(slice.offset, both.offset + (expert * 2 + projection) * 32 * 64 * 2);
      EXPECT_EQ(slice.size_bytes, 32u * 64 * 2);
    }
  }
}

TEST(ExpertLayout, RefusesBadStacksOfPlainNumbers) {
  const std::string prefix = "model.layers.3.mlp.experts.";
  const auto error_of = [](bool fused, const Change& change) {
    PlainStackCase stack(fused);
    change(stack.tensors);
    return stack.error();
  };
  EXPECT_THAT(error_of(false, [](auto& tensors) { remove_tensor(tensors, "up_proj"); }),
              HasSubstr("tensor " + prefix + "up_proj is missing"));
  EXPECT_THAT(error_of(true, [](auto& tensors) { remove_tensor(tensors, "down_proj"); }),
              HasSubstr("tensor " + prefix + "down_proj is missing"));
  EXPECT_THAT(error_of(true,
                       [](auto& tensors) {
                         named(tensors, "gate_up_proj").shape = {8, 32, 64};
                       }),
              AllOf(HasSubstr("[8, 32, 64]"), HasSubstr("expected [8, 64, 64]")));
  EXPECT_THAT(
      error_of(true, [](auto& tensors) { named(tensors, "gate_up_proj").dtype = DType::u8; }),
      AllOf(HasSubstr("gate_up_proj is U8"), HasSubstr("BF16")));
  EXPECT_THAT(
      error_of(true, [](auto& tensors) { named(tensors, "gate_up_proj").dtype = DType::f32; }),
      HasSubstr("differ in type"));
  EXPECT_THAT(error_of(true,
                       [&](auto& tensors) {
                         tensors.push_back({prefix + "up_proj", DType::f16, {8, 32, 64}, {}});
                       }),
              AllOf(HasSubstr("two layouts"), HasSubstr("gate_up_proj")));
  EXPECT_THAT(error_of(false,
                       [&](auto& tensors) {
                         for (ToyTensor& single : toy_tensors(3, kPlain)) tensors.push_back(single);
                       }),
              HasSubstr("two layouts"));
  EXPECT_THAT(error_of(false,
                       [&](auto& tensors) {
                         tensors.push_back({prefix + "up_proj_bias", DType::f16, {8, 32}, {}});
                       }),
              AllOf(HasSubstr("up_proj_bias"), HasSubstr("not understood")));
}

TEST(ExpertLayout, FindsBiasesBesideAnyLayout) {
  for (const ToyLayer& layer : {kPlain, kStacked}) {
    std::vector<ToyTensor> tensors = toy_tensors(3, layer);
    ExpertNames names = toy_names(3, layer);
    names.bias_suffix = "_bias";
    for (const auto& projection : names.projections) {
      tensors.push_back({toy_prefix(3) + "experts." + projection.name + "_bias",
                         DType::bf16,
                         {8, projection.rows},
                         {}});
    }
    const ExpertLayout layout = find(ToyCheckpoint(tensors, 2, 1), names);
    EXPECT_EQ(layout.formats[1].bias, "model.layers.3.mlp.experts.up_proj_bias");
  }
}

TEST(ExpertLayout, SaysWhereItLookedWhenNoNameMatches) {
  const std::string error = error_of(kPlain, [](auto& tensors) {
    for (ToyTensor& tensor : tensors) tensor.name = "other." + tensor.name;
  });
  EXPECT_THAT(error, AllOf(HasSubstr("8 experts"), HasSubstr("model.layers.3.mlp.switch_mlp.*"),
                           HasSubstr("model.layers.3.mlp.experts.*")));
}

TEST(ExpertLayout, NamesTheFirstMissingExpert) {
  const std::string error = error_of(kPlain, [](auto& tensors) {
    remove_tensor(tensors, ".5.up_proj.weight");
    remove_tensor(tensors, ".6.up_proj.weight");
  });
  EXPECT_THAT(error, HasSubstr("model.layers.3.mlp.experts.5.up_proj.weight is missing"));
}

TEST(ExpertLayout, NamesTheMissingPartOfAStack) {
  for (const std::string part : {"weight", "scales", "signs"}) {
    const std::string error =
        error_of(kStacked, [&](auto& tensors) { remove_tensor(tensors, "up_proj." + part); });
    EXPECT_THAT(error, HasSubstr("switch_mlp.up_proj." + part + " is missing"));
  }
}

TEST(ExpertLayout, RefusesAWrongType) {
  const std::string plain = error_of(
      kPlain, [](auto& tensors) { named(tensors, ".4.up_proj.weight").dtype = DType::f32; });
  EXPECT_THAT(plain, AllOf(HasSubstr("experts.4.up_proj.weight is F32"), HasSubstr("BF16")));
  const std::string mixed = error_of(kPlain, [](auto& tensors) {
    for (ToyTensor& tensor : tensors) {
      if (tensor.name.find("down_proj") != tensor.name.npos) tensor.dtype = DType::f16;
    }
  });
  EXPECT_THAT(mixed, AllOf(HasSubstr("BF16"), HasSubstr("F16"), HasSubstr("differ")));
  for (const auto& [part, dtype] :
       std::vector<std::pair<std::string, DType>>{{"weight", DType::i32},
                                                  {"scales", DType::bf16},
                                                  {"codebook", DType::f32},
                                                  {"signs", DType::bf16}}) {
    const std::string error = error_of(kStacked, [part = part, dtype = dtype](auto& tensors) {
      named(tensors, "down_proj." + part).dtype = dtype;
    });
    EXPECT_THAT(error, HasSubstr("down_proj." + part + " is " + std::string(dtype_name(dtype))));
  }
}

TEST(ExpertLayout, RefusesAWrongShape) {
  const std::string plain = error_of(kPlain, [](auto& tensors) {
    named(tensors, ".7.down_proj.weight").shape = {32, 64};
  });
  EXPECT_THAT(plain, AllOf(HasSubstr("experts.7.down_proj.weight has shape [32, 64]"),
                           HasSubstr("expected [64, 32]")));
  const std::vector<std::pair<std::string, std::vector<uint64_t>>> stacked = {
      {"weight", {8, 32, 6}}, {"weight", {7, 32, 7}}, {"weight", {256, 7}},
      {"scales", {8, 32, 3}}, {"scales", {8, 32, 0}}, {"scales", {8, 64}},
      {"scales", {4, 32, 2}}, {"codebook", {5}},      {"codebook", {1, 8}},
      {"codebook", {0}},      {"signs", {32}},        {"signs", {64, 1}},
  };
  for (const auto& [part, shape] : stacked) {
    const std::string error = error_of(kStacked, [part = part, shape = shape](auto& tensors) {
      named(tensors, "gate_proj." + part).shape = shape;
    });
    EXPECT_THAT(error, AllOf(HasSubstr("gate_proj." + part), HasSubstr("has shape"),
                             HasSubstr(shape_text(shape)), HasSubstr("expected [")));
  }
}

TEST(ExpertLayout, RefusesAWordCountThatIsNotTheCodebooks) {
  const std::string error = error_of(kStacked, [](auto& tensors) {
    named(tensors, "up_proj.codebook").shape = {16};  // 8 words of 8 instead of 7 of 10
  });
  EXPECT_THAT(error, AllOf(HasSubstr("[8, 32, 7]"), HasSubstr("[8, 32, 8]")));
}

TEST(ExpertLayout, RefusesTwoLayoutsAtOnce) {
  const std::string error = error_of(kPlain, [](auto& tensors) {
    for (ToyTensor& tensor : toy_tensors(3, kStacked)) tensors.push_back(tensor);
  });
  EXPECT_THAT(error, AllOf(HasSubstr("two layouts"), HasSubstr("mlp.experts."),
                           HasSubstr("mlp.switch_mlp.")));
}

TEST(ExpertLayout, RefusesMoreExpertsThanPromised) {
  const std::string error = error_of(kPlain, [](auto& tensors) {
    tensors.push_back({"model.layers.3.mlp.experts.8.up_proj.weight", DType::bf16, {32, 64}, {}});
  });
  EXPECT_THAT(error, AllOf(HasSubstr("experts.8.up_proj.weight"), HasSubstr("8 experts")));
}

TEST(ExpertLayout, RefusesTensorsThatNobodyWouldRead) {
  for (const std::string stray :
       {"experts.0.up_proj.bias", "experts.07.up_proj.weight", "experts.0.router.weight",
        "experts.0.weight", "experts.0.up_proj.weight.extra",
        "experts.99999999999.up_proj.weight"}) {
    const std::string error = error_of(kPlain, [&](auto& tensors) {
      tensors.push_back({"model.layers.3.mlp." + stray, DType::bf16, {32}, {}});
    });
    EXPECT_THAT(error, AllOf(HasSubstr(stray), HasSubstr("not understood")));
  }
  for (const std::string stray : {"switch_mlp.up_proj.bias", "switch_mlp.up_proj.biases",
                                  "switch_mlp.norm.weight", "switch_mlp.0.up_proj.weight"}) {
    const std::string error = error_of(kStacked, [&](auto& tensors) {
      tensors.push_back({"model.layers.3.mlp." + stray, DType::f16, {8, 32}, {}});
    });
    EXPECT_THAT(error, AllOf(HasSubstr(stray), HasSubstr("not understood")));
  }
}

TEST(ExpertLayout, NamesTheFormatsItDoesNotSupportYet) {
  const auto expect = [](const ToyLayer& layer, const std::string& format, const Change& change) {
    EXPECT_THAT(error_of(layer, change), AllOf(HasSubstr(format), HasSubstr("not supported yet")));
  };
  const auto add = [](const std::string& name, DType dtype) -> Change {
    return [=](auto& tensors) {
      tensors.push_back({"model.layers.3.mlp." + name, dtype, {8, 32}, {}});
    };
  };
  const auto only = [](const std::string& name, DType dtype) -> Change {
    return [=](auto& tensors) { tensors = {{"model.layers.3.mlp." + name, dtype, {8, 32}, {}}}; };
  };
  expect(kPlain, "FP8", [](auto& tensors) {
    for (ToyTensor& tensor : tensors) tensor.dtype = DType::f8_e4m3;
  });
  expect(kPlain, "U8", [](auto& tensors) {
    for (ToyTensor& tensor : tensors) tensor.dtype = DType::u8;
  });
  expect(kPlain, "TurboQuant with one tensor per expert",
         add("experts.0.up_proj.codebook", DType::f16));
  expect(kStacked, "QJL", add("switch_mlp.up_proj.qjl_packed", DType::u32));
  expect(kPlain, "fused gate and up", only("experts.gate_up_proj", DType::bf16));
  expect(kPlain, "fused gate and up", only("experts.gate_up_proj_blocks", DType::u8));
  expect(kPlain, "unquantized stacked experts", only("experts.down_proj", DType::bf16));
}

TEST(ExpertLayout, RefusesPromisesOfNothing) {
  const ToyCheckpoint toy(toy_tensors(0, kPlain), 1, 1);
  ExpertNames no_experts = toy_names(0, kPlain);
  no_experts.experts = 0;
  EXPECT_THROW(find(toy, no_experts), Error);
  ExpertNames no_rows = toy_names(0, kPlain);
  no_rows.projections[1].rows = 0;
  EXPECT_THROW(find(toy, no_rows), Error);
}

TEST(TensorNames, ListsExactlyWhatStartsWithThePrefix) {
  const ToyCheckpoint toy({{"a.b", DType::u8, {1}, {}},
                           {"a.b.c", DType::u8, {1}, {}},
                           {"a.bc", DType::u8, {1}, {}},
                           {"a.c", DType::u8, {1}, {}}},
                          2, 1);
  const Checkpoint checkpoint = toy.open();
  const TensorNames names(checkpoint);
  EXPECT_THAT(names.under("a.b."), testing::ElementsAre("a.b.c"));
  EXPECT_THAT(names.under("a.b"), testing::ElementsAre("a.b", "a.b.c", "a.bc"));
  EXPECT_THAT(names.under("z"), testing::IsEmpty());
}

}  // namespace
}  // namespace sluice
