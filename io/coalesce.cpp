#include "io/coalesce.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

#include "io/check.h"

namespace sluice {
namespace {

uint64_t round_down(uint64_t offset) { return offset / kReadAlignment * kReadAlignment; }

uint64_t round_up(uint64_t offset) { return round_down(offset + kReadAlignment - 1); }

// Whether a read that begins at `begin` continues the extent. The gap is counted between what would
// be read, not between what is wanted: a block that two slices share is read once.
bool joins(const Extent& extent, uint32_t file, uint64_t begin, uint64_t merge_gap_bytes) {
  if (extent.file != file) return false;
  const uint64_t end = extent.offset + extent.size_bytes;
  return begin <= end || begin - end <= merge_gap_bytes;
}

}  // namespace

ReadPlan coalesce(std::span<const FileSlice> slices, uint64_t merge_gap_bytes) {
  SLUICE_CHECK(slices.size() <= std::numeric_limits<uint32_t>::max());
  std::vector<uint32_t> order(slices.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::tie(slices[a].file, slices[a].offset) < std::tie(slices[b].file, slices[b].offset);
  });

  ReadPlan plan;
  plan.places.resize(slices.size());
  for (const uint32_t i : order) {
    const FileSlice& slice = slices[i];
    SLUICE_CHECK(slice.size_bytes > 0);
    SLUICE_CHECK(slice.offset <=
                 std::numeric_limits<uint64_t>::max() - kReadAlignment - slice.size_bytes);
    const uint64_t begin = round_down(slice.offset);
    const uint64_t end = slice.offset + slice.size_bytes;
    if (plan.extents.empty() || !joins(plan.extents.back(), slice.file, begin, merge_gap_bytes)) {
      plan.extents.push_back({.file = slice.file, .offset = begin});
    }
    Extent& extent = plan.extents.back();
    extent.needed_bytes = std::max(extent.needed_bytes, end - extent.offset);
    extent.size_bytes = round_up(extent.needed_bytes);
    plan.places[i] = {.extent = static_cast<uint32_t>(plan.extents.size() - 1),
                      .inner_offset = slice.offset - extent.offset};
  }
  return plan;
}

}  // namespace sluice
