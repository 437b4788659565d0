// ExpertSource: where every expert lies on disk, and how it will lie in a cache slot.
//
// Built once from a checkpoint's headers (stream/expert_layout.h says which layouts are known);
// immutable. Threads: any.
//
// A slot holds an expert in one of two ways, whichever the source chose for all its experts:
//   * in place: the aligned extents that hold its slices, one behind the other; a slice lies at its
//     extent's place plus the inner offset, which differs from expert to expert.
//   * packed: where alignment would waste more than kMaxPaddingShare of a slot (small experts), the
//     extents are read into a staging buffer and the slices copied to fixed, 64-byte aligned
//     places. (Never where that would not make the slot smaller: a slot is whole pages.)
// Either way the slot itself holds kSlotTailBytes behind the last slice, so that a vector load past
// the end of a matrix never touches the neighbouring slot, which a read may be filling.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "io/checkpoint.h"
#include "io/coalesce.h"
#include "stream/expert_layout.h"

namespace sluice {

inline constexpr double kMaxPaddingShare = 0.03;
// What a kernel's vector load may touch past the last byte of a matrix: the widest register.
inline constexpr uint64_t kSlotTailBytes = 64;

// One projection's bytes inside a slot.
struct ProjectionView {
  const std::byte* data = nullptr;
  const std::byte* scales = nullptr;  // of formats that have them
  const std::byte* biases = nullptr;  // affine
  // The part that ExpertLayout::Projection::parts() names so.
  const std::byte*& part(uint32_t i) { return i == 0 ? data : i == 1 ? scales : biases; }
};

using ExpertView = std::array<ProjectionView, kMaxProjections>;

class ExpertSource {
 public:
  // Throws Error: tensors missing, of another type or shape than promised, an expert missing from
  // the middle, mixed layouts within a layer, a format that is not supported, tensors beside the
  // experts that nobody would read. Requires: at least one layer, 1..kMaxProjections projections
  // each. checkpoint is not kept.
  ExpertSource(const Checkpoint& checkpoint, std::span<const ExpertNames> layers,
               double max_padding_share = kMaxPaddingShare);

  // Index into what follows, of a model layer; the layers that were named, in that order.
  uint32_t layers() const { return static_cast<uint32_t>(layers_.size()); }
  uint32_t experts() const { return experts_; }  // of the layer that has most
  uint32_t model_layer(uint32_t index) const { return layers_[index].model_layer; }  // for messages
  std::span<const ProjectionFormat> projections(uint32_t index) const {
    return layers_[index].formats;
  }

  uint64_t slot_bytes() const {
    return slot_bytes_;
  }  // multiple of 4096, the largest any expert needs
  uint64_t staging_bytes() const {
    return staging_bytes_;
  }  // per expert in flight; 0 when in place
  // The stored bytes of the largest expert, without padding.
  uint64_t expert_bytes() const { return expert_bytes_; }
  uint64_t total_bytes() const { return total_bytes_; }  // of all experts
  bool packed() const { return packed_; }

  struct Copy {  // packed: staging → slot
    uint64_t from = 0;
    uint64_t to = 0;
    uint64_t size_bytes = 0;
  };
  // Offsets in the slot, per projection: data, scales, biases.
  using Places =
      std::array<std::array<uint64_t, ExpertLayout::Projection::kParts>, kMaxProjections>;
  struct ExpertPlan {
    // Read one behind the other from the slot's or staging's start.
    std::vector<Extent> extents;
    std::vector<Copy> copies;  // packed only
    Places places{};
  };
  // How to fetch one expert. Computed on demand from the tensors' places; cheap (no allocation
  // beyond the vectors). Requires: expert is one of the layer's.
  ExpertPlan plan(uint32_t index, uint32_t expert) const;
  ExpertView view(const ExpertPlan& plan, uint32_t index, const std::byte* slot) const {
    return view(plan.places, index, slot);
  }
  ExpertView view(const Places& places, uint32_t index, const std::byte* slot) const;

  // Where an expert's first byte lies, to sort by disk order.
  uint64_t disk_order(uint32_t index, uint32_t expert) const;

 private:
  void measure(double max_padding_share);

  std::vector<ExpertLayout> layers_;
  uint32_t experts_ = 0;
  uint64_t slot_bytes_ = 0;
  uint64_t staging_bytes_ = 0;
  uint64_t expert_bytes_ = 0;
  uint64_t total_bytes_ = 0;
  bool packed_ = false;
};

}  // namespace sluice
