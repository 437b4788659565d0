// Experts in the formats that have scales and no codebook: found, and refused where their tensors
// do not fit together.
#include "stream/weight_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/stream/expert_layout_case.h"
#include "tests/stream/toy_checkpoint.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const ToyLayer kPlain{};
const ToyLayer kStacked{.stacked = true};

// Layer 3 in the formats of stream/weight_format.h: tensors by what comes behind a matrix' prefix.
struct Part {
  std::string suffix;
  DType dtype;
  std::function<std::vector<uint64_t>(uint64_t rows, uint64_t cols)> shape;
};
struct Stored {
  std::string name;
  ScaledForm form;
  std::vector<Part> parts;
};

std::vector<Stored> stored_formats() {
  const auto groups = [](uint64_t size) {
    return [=](uint64_t rows, uint64_t cols) { return std::vector{rows, cols / size}; };
  };
  const auto whole = [](uint64_t rows, uint64_t cols) { return std::vector{rows, cols}; };
  const auto blocks = [](uint64_t rows, uint64_t cols) {
    return std::vector{rows, cols / 32, 16ul};
  };
  const auto sides = [](uint64_t rows, uint64_t cols) {
    return std::vector{(rows + 15) / 16, (cols + 15) / 16};
  };
  std::vector<Stored> formats = {
      {"f8",
       {.format = WeightFormat::f8_blocks, .group = 16, .block_rows = 16},
       {{".weight", DType::f8_e4m3, whole}, {".weight_scale_inv", DType::f32, sides}}},
      {"mxfp4 in blocks",
       {.format = WeightFormat::mxfp4, .group = 32},
       {{"_blocks", DType::u8, blocks}, {"_scales", DType::u8, groups(32)}}},
      {"mxfp4 in words",
       {.format = WeightFormat::mxfp4, .group = 32},
       {{".weight", DType::u32, groups(8)}, {".scales", DType::u8, groups(32)}}}};
  for (const uint32_t bits : {2u, 3u, 4u, 5u, 6u, 8u}) {
    const auto words = [=](uint64_t rows, uint64_t cols) {
      return std::vector{rows, cols * bits / 32};
    };
    formats.push_back(
        {"affine of " + std::to_string(bits) + " bits",
         {.format = WeightFormat::affine, .group = 32, .bits = bits, .scale_dtype = DType::bf16},
         {{".weight", DType::u32, words},
          {".scales", DType::bf16, groups(32)},
          {".biases", DType::bf16, groups(32)}}});
  }
  return formats;
}

std::vector<ToyTensor> stored_tensors(const Stored& stored, bool stacked) {
  std::vector<ToyTensor> tensors;
  for (const auto& projection : toy_names(3, kPlain).projections) {
    for (const Part& part : stored.parts) {
      std::vector<uint64_t> shape = part.shape(projection.rows, projection.cols);
      if (stacked) {
        shape.insert(shape.begin(), 8);
        tensors.push_back(
            {"model.layers.3.mlp.experts." + projection.name + part.suffix, part.dtype, shape, {}});
        continue;
      }
      for (uint32_t expert = 0; expert < 8; ++expert) {
        tensors.push_back({"model.layers.3.mlp.experts." + std::to_string(expert) + "." +
                               projection.name + part.suffix,
                           part.dtype,
                           shape,
                           {}});
      }
    }
  }
  return tensors;
}

TEST(WeightFormat, FindsEveryFormatWithScalesStackedAndSingle) {
  for (const Stored& stored : stored_formats()) {
    for (const bool stacked : {true, false}) {
      if (!stacked && stored.parts[0].suffix == "_blocks") continue;
      const ToyCheckpoint toy(stored_tensors(stored, stacked), 2, 1);
      const ExpertLayout layout = find(toy, toy_names(3, kPlain));
      const Checkpoint checkpoint = toy.open();
      for (size_t p = 0; p < 3; ++p) {
        EXPECT_EQ(layout.formats[p].format, stored.form.format) << stored.name;
        EXPECT_EQ(layout.formats[p].scaled, stored.form) << stored.name;
        const ExpertNames::Projection projection = toy_names(3, kPlain).projections[p];
        const std::string prefix =
            std::string("model.layers.3.mlp.experts.") + (stacked ? "" : "5.") + projection.name;
        const auto parts = layout.projections[p].parts();
        for (size_t i = 0; i < parts.size(); ++i) {
          EXPECT_EQ(parts[i]->size_bytes > 0, i < stored.parts.size()) << stored.name;
          if (i >= stored.parts.size()) continue;
          const TensorInfo& tensor = checkpoint.at(prefix + stored.parts[i].suffix);
          const uint64_t size = stacked ? tensor.size_bytes / 8 : tensor.size_bytes;
          EXPECT_EQ(parts[i]->of(5).offset, tensor.offset + (stacked ? 5 * size : 0));
          EXPECT_EQ(parts[i]->of(5).size_bytes, size);
          const ScaledSizes sizes = scaled_sizes(stored.form, projection.rows, projection.cols);
          EXPECT_EQ(size, i == 0 ? sizes.data : sizes.scales) << stored.name;
        }
      }
    }
  }
}

TEST(WeightFormat, RefusesFormatsWithScalesWhosePartsAreMissingOrOdd) {
  for (const Stored& stored : stored_formats()) {
    for (const bool stacked : {true, false}) {
      if (!stacked && stored.parts[0].suffix == "_blocks") continue;
      const auto error = [&](const Change& change) {
        return error_of(kPlain, [&](auto& tensors) {
          tensors = stored_tensors(stored, stacked);
          change(tensors);
        });
      };
      for (const Part& part : stored.parts) {
        const std::string name = (stacked ? "experts.up_proj" : "experts.0.up_proj") + part.suffix;
        EXPECT_NE(error([&](auto& tensors) { remove_tensor(tensors, name); }), "no error") << name;
        EXPECT_THAT(error([&](auto& tensors) { named(tensors, name).dtype = DType::i32; }),
                    AllOf(HasSubstr(name), HasSubstr("I32"), HasSubstr("expected")));
        for (const std::vector<uint64_t>& shape :
             {std::vector<uint64_t>{7}, {8, 33, 64}, {3, 5}, {8, 32, 2, 15}, {8, 3000, 1}}) {
          EXPECT_THAT(error([&](auto& tensors) { named(tensors, name).shape = shape; }),
                      AllOf(HasSubstr(name), HasSubstr(shape_text(shape)), HasSubstr("expected")));
        }
      }
      EXPECT_THAT(error([&](auto& tensors) {
                    tensors.push_back({"model.layers.3.mlp.experts." +
                                           std::string(stacked ? "" : "0.") + "up_proj.zeros",
                                       DType::u8,
                                       {32},
                                       {}});
                  }),
                  AllOf(HasSubstr("up_proj.zeros"), HasSubstr("not understood")));
    }
  }
}

TEST(WeightFormat, RefusesScalesBesidePlainExperts) {
  for (const std::string name : {"weight_scale_inv", "scales", "biases"}) {
    const std::string error = error_of(kPlain, [&](auto& tensors) {
      tensors.push_back({"model.layers.3.mlp.experts.5.up_proj." + name, DType::f32, {1, 2}, {}});
    });
    EXPECT_THAT(error, HasSubstr("experts.5.up_proj.")) << name;
  }
}

TEST(WeightFormat, FindsPlainStacksWhoseTensorsAreCalledWeight) {
  std::vector<ToyTensor> tensors = toy_tensors(0, kStacked);
  std::erase_if(tensors, [](const ToyTensor& t) { return !t.name.ends_with(".weight"); });
  for (ToyTensor& tensor : tensors) {
    const bool down = tensor.name.find("down_proj") != tensor.name.npos;
    tensor.dtype = DType::bf16;
    tensor.shape = down ? std::vector<uint64_t>{8, 64, 32} : std::vector<uint64_t>{8, 32, 64};
  }
  const ToyCheckpoint toy(tensors, 1, 1);
  const ExpertLayout layout = find(toy, toy_names(0, kStacked));
  EXPECT_EQ(layout.formats[2].format, WeightFormat::plain);
  EXPECT_EQ(layout.projections[2].data.of(3).size_bytes, 64u * 32 * 2);
}

}  // namespace
}  // namespace sluice
