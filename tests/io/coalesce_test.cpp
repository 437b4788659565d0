#include "io/coalesce.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace sluice {
namespace {

TEST(Coalesce, NothingNeedsNoReads) {
  const ReadPlan plan = coalesce({});
  EXPECT_TRUE(plan.extents.empty());
  EXPECT_TRUE(plan.places.empty());
}

TEST(Coalesce, AnUnalignedSliceIsReadAsItsAlignedSuperset) {
  const std::vector<FileSlice> slices = {{.file = 3, .offset = 5000, .size_bytes = 4000}};
  const ReadPlan plan = coalesce(slices);
  ASSERT_EQ(plan.extents.size(), 1u);
  EXPECT_EQ(plan.extents[0].file, 3u);
  EXPECT_EQ(plan.extents[0].offset, 4096u);
  EXPECT_EQ(plan.extents[0].size_bytes, 8192u);
  EXPECT_EQ(plan.extents[0].needed_bytes, 4904u);
  EXPECT_EQ(plan.places[0].inner_offset, 904u);
}

TEST(Coalesce, SlicesAreMergedUpToTheGapAndNotBeyond) {
  const uint64_t gap = 8192;
  for (const auto& [distance, extents] : {std::pair{gap, 1u}, std::pair{gap + 4096, 2u}}) {
    const std::vector<FileSlice> slices = {{0, 0, 4096}, {0, 4096 + distance, 4096}};
    EXPECT_EQ(coalesce(slices, gap).extents.size(), extents) << distance;
  }
}

TEST(Coalesce, ABlockThatTwoSlicesShareIsReadOnceEvenWithoutAGap) {
  const std::vector<FileSlice> slices = {{0, 100, 10}, {0, 200, 10}};
  const ReadPlan plan = coalesce(slices, 0);
  ASSERT_EQ(plan.extents.size(), 1u);
  EXPECT_EQ(plan.extents[0].size_bytes, 4096u);
  EXPECT_EQ(plan.extents[0].needed_bytes, 210u);
}

TEST(Coalesce, FilesAreNeverMerged) {
  const std::vector<FileSlice> slices = {{1, 0, 4096}, {0, 4096, 4096}};
  const ReadPlan plan = coalesce(slices);
  ASSERT_EQ(plan.extents.size(), 2u);
  EXPECT_EQ(plan.extents[0].file, 0u);
  EXPECT_EQ(plan.places[0].extent, 1u);
  EXPECT_EQ(plan.places[1].extent, 0u);
}

TEST(Coalesce, SlicesMayOverlapAndNest) {
  const std::vector<FileSlice> slices = {{0, 0, 100'000}, {0, 5000, 10}, {0, 5000, 200'000}};
  const ReadPlan plan = coalesce(slices, 0);
  ASSERT_EQ(plan.extents.size(), 1u);
  EXPECT_EQ(plan.extents[0].needed_bytes, 205'000u);
  EXPECT_EQ(plan.places[1].inner_offset, 5000u);
}

// The dumbest model: the set of blocks that slices touch, joined wherever at most `gap` lies
// between.
std::vector<std::pair<uint64_t, uint64_t>> joined_blocks(const std::vector<FileSlice>& slices,
                                                         uint32_t file, uint64_t gap) {
  std::set<uint64_t> blocks;
  for (const FileSlice& slice : slices) {
    if (slice.file != file) continue;
    for (uint64_t block = slice.offset / kReadAlignment;
         block * kReadAlignment < slice.offset + slice.size_bytes; ++block) {
      blocks.insert(block);
    }
  }
  std::vector<std::pair<uint64_t, uint64_t>> runs;
  for (const uint64_t block : blocks) {
    const uint64_t begin = block * kReadAlignment;
    if (runs.empty() || begin - runs.back().second > gap) runs.emplace_back(begin, begin);
    runs.back().second = begin + kReadAlignment;
  }
  return runs;
}

TEST(Coalesce, AgreesWithCountingBlocks) {
  std::mt19937_64 random(7);
  const auto below = [&](uint64_t limit) { return random() % limit; };
  for (int round = 0; round < 500; ++round) {
    std::vector<FileSlice> slices(below(40));
    for (FileSlice& slice : slices) {
      slice = {static_cast<uint32_t>(below(3)), below(1 << 20), 1 + below(1 << (1 + below(16)))};
    }
    const uint64_t gap = below(4) == 0 ? 0 : below(1 << 16);
    const ReadPlan plan = coalesce(slices, gap);

    std::vector<std::pair<uint64_t, uint64_t>> expected;
    std::vector<std::pair<uint64_t, uint64_t>> actual;
    for (uint32_t file = 0; file < 3; ++file) {
      for (const auto& run : joined_blocks(slices, file, gap)) expected.push_back(run);
    }
    for (const Extent& extent : plan.extents) {
      actual.emplace_back(extent.offset, extent.offset + extent.size_bytes);
    }
    ASSERT_EQ(actual, expected) << "round " << round;

    std::vector<uint64_t> needed(plan.extents.size());
    ASSERT_EQ(plan.places.size(), slices.size());
    for (size_t i = 0; i < slices.size(); ++i) {
      const SlicePlace& place = plan.places[i];
      const Extent& extent = plan.extents[place.extent];
      ASSERT_EQ(extent.file, slices[i].file);
      ASSERT_EQ(extent.offset + place.inner_offset, slices[i].offset);
      needed[place.extent] =
          std::max(needed[place.extent], place.inner_offset + slices[i].size_bytes);
    }
    for (size_t i = 0; i < needed.size(); ++i) {
      ASSERT_EQ(plan.extents[i].needed_bytes, needed[i]) << "round " << round;
    }
  }
}

}  // namespace
}  // namespace sluice
