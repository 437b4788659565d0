#include "stream/expert_source.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cache/slab.h"
#include "tests/stream/toy_checkpoint.h"

namespace sluice {
namespace {

// Reads an expert as the plan says, by plain file reads, into a slot.
std::vector<std::byte> load(const ExpertSource& source, const Checkpoint& checkpoint,
                            const ExpertSource::ExpertPlan& plan) {
  const uint64_t read_bytes = source.packed() ? source.staging_bytes() : source.slot_bytes();
  std::vector<std::byte> read(read_bytes);
  uint64_t at = 0;
  for (const Extent& extent : plan.extents) {
    EXPECT_EQ(extent.offset % kReadAlignment, 0u);
    EXPECT_LE(at + extent.size_bytes, read_bytes);
    std::ifstream file(checkpoint.files()[extent.file], std::ios::binary);
    file.seekg(static_cast<std::streamoff>(extent.offset));
    file.read(reinterpret_cast<char*>(read.data() + at),
              static_cast<std::streamsize>(extent.needed_bytes));
    EXPECT_TRUE(file.good());
    at += extent.size_bytes;
  }
  if (!source.packed()) return read;
  std::vector<std::byte> slot(source.slot_bytes());
  for (const ExpertSource::Copy& copy : plan.copies) {
    EXPECT_EQ(copy.to % 64, 0u);
    EXPECT_LE(copy.to + copy.size_bytes + kSlotTailBytes, slot.size());
    std::memcpy(slot.data() + copy.to, read.data() + copy.from, copy.size_bytes);
  }
  return slot;
}

void expect_every_expert_readable(const ToyModel& toy, const ExpertSource& source) {
  const Checkpoint checkpoint = toy.open();
  for (uint32_t index = 0; index < toy.layers().size(); ++index) {
    for (uint32_t expert = 0; expert < toy.layers()[index].experts; ++expert) {
      const auto plan = source.plan(index, expert);
      const std::vector<std::byte> slot = load(source, checkpoint, plan);
      const ExpertView view = source.view(plan, index, slot.data());
      EXPECT_TRUE(toy.holds(index, expert, view)) << "layer " << index << ", expert " << expert;
      for (uint32_t p = 0; p < 3; ++p) {
        const ProjectionFormat& format = source.projections(index)[p];
        const uint64_t row_bytes =
            format.group > 0 ? format.row_words * 4 : format.cols * dtype_bytes(format.dtype);
        EXPECT_LE(view[p].data + format.rows * row_bytes + kSlotTailBytes,
                  slot.data() + slot.size());
      }
    }
  }
}

TEST(ExpertSource, PlacesEverySliceOfRandomLayouts) {
  for (uint32_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const ToyModel toy({{.dtype = DType::f32, .experts = 5, .hidden = 96, .intermediate = 160},
                        {.stacked = true, .experts = 7, .hidden = 384, .intermediate = 128},
                        {.dtype = DType::bf16, .experts = 3, .hidden = 33, .intermediate = 17}},
                       1 + seed % 3, seed);
    for (const double share : {0.0, 0.03, 1.0}) {
      expect_every_expert_readable(toy, toy.source(share));
    }
  }
}

TEST(ExpertSource, DescribesItsLayers) {
  const ToyModel toy({{.experts = 5}, {.stacked = true, .experts = 7}});
  const ExpertSource source = toy.source();
  EXPECT_EQ(source.layers(), 2u);
  EXPECT_EQ(source.experts(), 7u);
  EXPECT_EQ(source.model_layer(1), 11u);
  EXPECT_EQ(source.projections(0)[0].dtype, DType::bf16);
  EXPECT_EQ(source.projections(1)[0].dtype, DType::u32);
  const uint64_t plain = 3 * 64 * 32 * 2;
  const uint64_t stacked = 2 * 32 * (7 * 4 + 2 * 2) + 64 * (4 * 4 + 1 * 2);
  EXPECT_EQ(source.expert_bytes(), plain);
  EXPECT_EQ(source.total_bytes(), 5 * plain + 7 * stacked);
}

TEST(ExpertSource, PacksSmallExpertsThatAlignmentWouldBlowUp) {
  // Six slices of a few hundred bytes: six or more pages in place, one packed.
  const ToyModel toy({{.stacked = true, .experts = 64, .hidden = 128, .intermediate = 64}});
  const ExpertSource packed = toy.source();
  EXPECT_TRUE(packed.packed());
  EXPECT_EQ(packed.slot_bytes() % kPageBytes, 0u);
  EXPECT_GT(packed.staging_bytes(), packed.slot_bytes());
  const ExpertSource in_place = toy.source(1.0);
  EXPECT_FALSE(in_place.packed());
  EXPECT_EQ(in_place.staging_bytes(), 0u);
  EXPECT_GT(in_place.slot_bytes(), packed.slot_bytes());
  EXPECT_TRUE(in_place.plan(0, 0).copies.empty());
}

TEST(ExpertSource, KeepsLargeExpertsInPlace) {
  const ToyModel toy({{.dtype = DType::f32, .experts = 2, .hidden = 512, .intermediate = 512}}, 1);
  const ExpertSource source = toy.source();
  EXPECT_FALSE(source.packed());
  EXPECT_LT(static_cast<double>(source.slot_bytes()),
            static_cast<double>(source.expert_bytes()) / (1 - kMaxPaddingShare) + 1);
}

TEST(ExpertSource, DoesNotPackWhereThatSavesNoPage) {
  // The only expert is one run of a page and a half: two or three pages in place, as it happens to
  // lie, and two packed.
  int packed = 0;
  int in_place = 0;
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    const ToyModel toy({{.experts = 1, .hidden = 32, .intermediate = 32}}, 1, seed);
    const ExpertSource source = toy.source(0.0);
    EXPECT_EQ(source.slot_bytes(), 2 * kPageBytes);
    EXPECT_EQ(source.packed(), toy.source(1.0).slot_bytes() == 3 * kPageBytes);
    (source.packed() ? packed : in_place) += 1;
  }
  EXPECT_GT(packed, 0);
  EXPECT_GT(in_place, 0);
}

TEST(ExpertSource, OrdersExpertsAsTheDiskDoes) {
  const ToyModel toy({{.experts = 8}}, 2);
  const ExpertSource source = toy.source();
  const Checkpoint checkpoint = toy.open();
  std::vector<std::pair<uint64_t, uint32_t>> by_order;
  std::vector<std::tuple<uint32_t, uint64_t, uint32_t>> by_place;
  for (uint32_t expert = 0; expert < 8; ++expert) {
    by_order.emplace_back(source.disk_order(0, expert), expert);
    std::tuple<uint32_t, uint64_t, uint32_t> first{~0u, 0, expert};
    for (const std::string name : {"gate_proj", "up_proj", "down_proj"}) {
      const TensorInfo& tensor = checkpoint.at("model.layers.10.mlp.experts." +
                                               std::to_string(expert) + "." + name + ".weight");
      first = std::min(first, {tensor.file, tensor.offset, expert});
    }
    by_place.push_back(first);
  }
  std::sort(by_order.begin(), by_order.end());
  std::sort(by_place.begin(), by_place.end());
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(by_order[i].second, std::get<2>(by_place[i]));
}

}  // namespace
}  // namespace sluice
