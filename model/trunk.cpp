#include "model/trunk.h"

#include <algorithm>
#include <array>
#include <utility>

#include "io/check.h"
#include "io/error.h"
#include "kernels/kernels.h"

namespace sluice {

namespace {

// A request: small enough that progress can be shown.
constexpr uint64_t kRequestBytes = 16ull << 20;

uint64_t extent_bytes(const ReadPlan& plan) {
  uint64_t total = 0;
  for (const Extent& extent : plan.extents) total += extent.size_bytes;
  return total;
}

std::string dtype_names(std::span<const DType> dtypes) {
  std::string text;
  for (const DType dtype : dtypes) {
    if (!text.empty()) text += " or ";
    text += dtype_name(dtype);
  }
  return text;
}

}  // namespace

Trunk::Trunk(const Checkpoint& checkpoint) : checkpoint_(&checkpoint) {}

const std::byte* Trunk::tensor(const std::string& name, std::span<const DType> dtypes,
                               std::span<const uint64_t> shape) {
  const TensorInfo& info = checkpoint_->at(name);
  if (std::find(dtypes.begin(), dtypes.end(), info.dtype) == dtypes.end() ||
      !std::equal(shape.begin(), shape.end(), info.shape.begin(), info.shape.end())) {
    throw Error(
        checkpoint_->files()[info.file], ": tensor ", name, " is ", dtype_name(info.dtype), " ",
        shape_text(info.shape), "; config.json asks for ", dtype_names(dtypes), " ",
        shape_text(shape),
        ". The checkpoint and its config.json do not belong together, or a file is damaged");
  }
  const auto known = slice_of_.find(name);
  if (!loaded()) {
    if (known == slice_of_.end() && info.size_bytes > 0) {
      slice_of_.emplace(name, static_cast<uint32_t>(slices_.size()));
      slices_.push_back({info.file, info.offset, info.size_bytes});
      read_plan_.reset();
    }
    return nullptr;
  }
  SLUICE_CHECK(known != slice_of_.end());
  const SlicePlace& place = read_plan_->places[known->second];
  return slab_->data() + extent_places_[place.extent] + place.inner_offset;
}

void Trunk::count_converted(uint64_t bytes) {
  if (!loaded()) converted_bytes_ += bytes;
}

const ReadPlan& Trunk::read_plan() const {
  if (!read_plan_) read_plan_ = coalesce(slices_);
  return *read_plan_;
}

uint64_t Trunk::bytes() const { return extent_bytes(read_plan()) + converted_bytes_; }

void Trunk::load(std::span<const DirectFile* const> files, ReadQueue& queue,
                 const std::function<void(uint64_t done, uint64_t total)>& progress) {
  SLUICE_CHECK(!loaded());
  const ReadPlan& plan = read_plan();
  const uint64_t total = extent_bytes(plan);
  slab_.emplace(total + kernels::kOverreadBytes);
  std::vector<ReadRequest> requests;
  uint64_t place = 0;
  for (const Extent& extent : plan.extents) {
    extent_places_.push_back(place);
    for (uint64_t at = 0; at < extent.size_bytes; at += kRequestBytes) {
      const uint64_t size = std::min(extent.size_bytes - at, kRequestBytes);
      const uint64_t needed = extent.needed_bytes > at ? extent.needed_bytes - at : 0;
      requests.push_back({.file = files[extent.file],
                          .offset = extent.offset + at,
                          .size_bytes = size,
                          .needed_bytes = std::min(size, needed),
                          .destination = slab_->data() + place + at,
                          .tag = requests.size()});
    }
    place += extent.size_bytes;
  }
  uint64_t done = 0;
  read_all(queue, requests, [&](uint64_t tag) {
    done += requests[tag].size_bytes;
    if (progress) progress(done, total);
  });
}

}  // namespace sluice
