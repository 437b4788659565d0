#include "stream/expert_source.h"

#include <algorithm>

#include "cache/slab.h"
#include "io/check.h"

namespace sluice {
namespace {

constexpr uint64_t kPlaceAlignment = 64;  // packed slices start on a cache line and a vector
static_assert(kRecordTailBytes == kSlotTailBytes && kRecordAlignment == kReadAlignment &&
              kMaxRecordProjections == kMaxProjections);
constexpr uint32_t kParts = ExpertLayout::Projection::kParts;
constexpr size_t kMaxSlices = size_t{kParts} * kMaxProjections;

uint64_t round_up(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Where a slice's place in the slot is kept: projection, and data (0), scales (1) or biases (2).
struct SliceRole {
  uint32_t projection = 0;
  uint32_t part = 0;
};

// The slices of one expert in their order in the model: no allocation, as hits never plan and
// misses often do.
struct ExpertSlices {
  std::array<FileSlice, kMaxSlices> slices;
  std::array<SliceRole, kMaxSlices> roles;
  uint32_t count = 0;
};

ExpertSlices slices_of(const ExpertLayout& layer, uint32_t expert) {
  SLUICE_CHECK(expert < layer.experts);
  ExpertSlices result;
  for (uint32_t p = 0; p < layer.projections.size(); ++p) {
    const auto parts = layer.projections[p].parts();
    for (uint32_t part = 0; part < kParts; ++part) {
      if (parts[part]->size_bytes == 0) continue;
      result.slices[result.count] = parts[part]->of(expert);
      result.roles[result.count++] = {p, part};
    }
  }
  return result;
}

ReadPlan coalesce(const ExpertSlices& expert) {
  return coalesce(std::span(expert.slices).first(expert.count));
}

uint64_t extent_bytes(const ReadPlan& reads) {
  uint64_t total = 0;
  for (const Extent& extent : reads.extents) total += extent.size_bytes;
  return total;
}

// Where each slice lies when the extents follow one another from offset 0.
std::array<uint64_t, kMaxSlices> slice_offsets(const ReadPlan& reads) {
  std::array<uint64_t, kMaxSlices> offsets{};
  for (size_t slice = 0; slice < reads.places.size(); ++slice) {
    const SlicePlace& place = reads.places[slice];
    offsets[slice] = place.inner_offset;
    for (uint32_t before = 0; before < place.extent; ++before) {
      offsets[slice] += reads.extents[before].size_bytes;
    }
  }
  return offsets;
}

}  // namespace

ExpertSource::ExpertSource(const Checkpoint& checkpoint, std::span<const ExpertNames> layers,
                           double max_padding_share) {
  SLUICE_CHECK(!layers.empty());
  const TensorNames tensor_names(checkpoint);
  layers_.reserve(layers.size());
  for (const ExpertNames& names : layers) {
    layers_.push_back(find_experts(checkpoint, tensor_names, names));
  }
  measure(max_padding_share);
}

// Sizes of slot and staging, and with them the choice between in place and packed.
void ExpertSource::measure(double max_padding_share) {
  uint64_t in_place_bytes = 0;
  uint64_t packed_bytes = 0;
  uint64_t longest_reads = 0;
  for (const ExpertLayout& layer : layers_) {
    experts_ = std::max(experts_, layer.experts);
    for (uint32_t expert = 0; expert < layer.experts; ++expert) {
      const ExpertSlices slices = slices_of(layer, expert);
      const ReadPlan reads = coalesce(slices);
      const auto offsets = slice_offsets(reads);
      uint64_t stored = 0;
      uint64_t packed_end = 0;
      uint64_t last_end = 0;
      for (uint32_t slice = 0; slice < slices.count; ++slice) {
        const uint64_t size_bytes = slices.slices[slice].size_bytes;
        stored += size_bytes;
        packed_end = round_up(packed_end, kPlaceAlignment) + size_bytes;
        last_end = std::max(last_end, offsets[slice] + size_bytes);
      }
      longest_reads = std::max(longest_reads, extent_bytes(reads));
      in_place_bytes = std::max({in_place_bytes, extent_bytes(reads), last_end + kSlotTailBytes});
      packed_bytes = std::max(packed_bytes, packed_end + kSlotTailBytes);
      expert_bytes_ = std::max(expert_bytes_, stored);
      total_bytes_ += stored;
    }
  }
  in_place_bytes = round_up(in_place_bytes, kPageBytes);
  packed_bytes = round_up(packed_bytes, kPageBytes);
  const double padding_share =
      1.0 - static_cast<double>(expert_bytes_) / static_cast<double>(in_place_bytes);
  packed_ = padding_share > max_padding_share && packed_bytes < in_place_bytes;
  slot_bytes_ = packed_ ? packed_bytes : in_place_bytes;
  staging_bytes_ = packed_ ? longest_reads : 0;
}

ExpertSource::ExpertPlan ExpertSource::plan(uint32_t index, uint32_t expert) const {
  const ExpertSlices slices = slices_of(layers_[index], expert);
  ReadPlan reads = coalesce(slices);
  const auto offsets = slice_offsets(reads);
  ExpertPlan result;
  uint64_t packed_end = 0;
  if (packed_) result.copies.reserve(slices.count);
  for (uint32_t slice = 0; slice < slices.count; ++slice) {
    uint64_t place = offsets[slice];
    if (packed_) {
      const uint64_t size_bytes = slices.slices[slice].size_bytes;
      place = round_up(packed_end, kPlaceAlignment);
      packed_end = place + size_bytes;
      result.copies.push_back({offsets[slice], place, size_bytes});
    }
    const SliceRole role = slices.roles[slice];
    result.places[role.projection][role.part] = place;
  }
  result.extents = std::move(reads.extents);
  return result;
}

ExpertView ExpertSource::view(const Places& places, uint32_t index, const std::byte* slot) const {
  ExpertView result{};
  const ExpertLayout& layer = layers_[index];
  for (uint32_t p = 0; p < layer.projections.size(); ++p) {
    const auto parts = layer.projections[p].parts();
    for (uint32_t part = 0; part < kParts; ++part) {
      if (parts[part]->size_bytes > 0) result[p].part(part) = slot + places[p][part];
    }
  }
  return result;
}

uint64_t ExpertSource::disk_order(uint32_t index, uint32_t expert) const {
  // File above, offset below: 2^48 bytes is more than a filesystem's largest file.
  constexpr uint64_t kOffsetBits = 48;
  constexpr uint64_t kMaxOffset = (uint64_t{1} << kOffsetBits) - 1;
  const ExpertSlices slices = slices_of(layers_[index], expert);
  uint64_t first = ~uint64_t{0};
  for (uint32_t slice = 0; slice < slices.count; ++slice) {
    const FileSlice& place = slices.slices[slice];
    first =
        std::min(first, uint64_t{place.file} << kOffsetBits | std::min(place.offset, kMaxOffset));
  }
  return first;
}

}  // namespace sluice
