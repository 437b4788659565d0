#include "model/expert_batches.h"

#include <algorithm>
#include <memory>

#include "io/check.h"
#include "io/coalesce.h"
#include "io/error.h"

namespace sluice {
namespace {

// Enough in flight for any device, in pieces of 1 MiB.
constexpr uint32_t kDepth = 32;
// Longer batches gain nothing and delay the work on them.
constexpr uint64_t kMostBufferBytes = uint64_t{256} << 20;

// What a slice may take in a buffer: itself, the aligned superset's two ends, and the gap before it
// that a merged read runs over.
uint64_t footprint(uint64_t size_bytes) {
  return size_bytes == 0 ? 0 : size_bytes + 2 * kReadAlignment + kMergeGapBytes;
}

uint64_t footprint(const ExpertLayout& layout) {
  uint64_t total = 0;
  for (const ExpertLayout::Projection& projection : layout.projections) {
    for (const ExpertLayout::Slices* part : projection.parts()) {
      total += footprint(part->size_bytes);
    }
  }
  return total;
}

std::vector<uint32_t> disk_order(const ExpertLayout& layout) {
  std::vector<uint32_t> order(layout.experts);
  for (uint32_t expert = 0; expert < layout.experts; ++expert) order[expert] = expert;
  const auto place = [&](uint32_t expert) {
    const FileSlice slice = layout.projections[0].data.of(expert);
    return std::pair(slice.file, slice.offset);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return place(a) < place(b); });
  return order;
}

}  // namespace

uint64_t ExpertBatches::least_bytes(std::span<const ExpertLayout> layouts) {
  uint64_t most = 0;
  for (const ExpertLayout& layout : layouts) most = std::max(most, footprint(layout));
  return 2 * most;
}

ExpertBatches::ExpertBatches(std::span<const ExpertLayout> layouts,
                             std::span<const DirectFile* const> files, uint64_t memory_bytes)
    : layouts_(layouts), files_(files) {
  const uint64_t least = least_bytes(layouts) / 2;
  SLUICE_CHECK(memory_bytes / 2 >= least);
  buffer_bytes_ = std::max(least, std::min(memory_bytes / 2, kMostBufferBytes));
  for (int i = 0; i < 2; ++i) buffers_.push_back(std::make_unique<Buffer>(buffer_bytes_));
  reader_ = std::jthread([this](std::stop_token stop) { read_all_batches(stop); });
}

ExpertBatches::~ExpertBatches() {
  reader_.request_stop();
  changed_.notify_all();
}

const ExpertBatch* ExpertBatches::next() {
  std::unique_lock lock(mutex_);
  if (taken_ > 0) buffers_[(taken_ - 1) % 2]->full = false;
  changed_.notify_all();
  Buffer& buffer = *buffers_[taken_ % 2];
  changed_.wait(lock, [&] { return buffer.full || ended_; });
  if (!buffer.full) {
    if (failure_) std::rethrow_exception(failure_);
    return nullptr;
  }
  ++taken_;
  return &buffer.batch;
}

// The reader's thread. A failure is told when all batches before it were taken.
void ExpertBatches::read_all_batches(std::stop_token stop) {
  try {
    const std::unique_ptr<ReadQueue> queue = make_read_queue(ReadBackend::automatic, kDepth);
    Cursor cursor;
    for (size_t number = 0;; ++number) {
      Buffer& buffer = *buffers_[number % 2];
      {
        std::unique_lock lock(mutex_);
        if (!changed_.wait(lock, stop, [&] { return !buffer.full; })) return;
      }
      if (stop.stop_requested() || !plan_next(cursor, buffer.batch)) break;
      read(*queue, buffer);
      const std::lock_guard lock(mutex_);
      buffer.full = true;
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

// As many experts of one layer as fit.
bool ExpertBatches::plan_next(Cursor& cursor, ExpertBatch& batch) const {
  if (cursor.next == cursor.order.size()) {
    if (!cursor.order.empty()) ++cursor.layer;
    if (cursor.layer == layouts_.size()) return false;
    cursor.order = disk_order(layouts_[cursor.layer]);
    cursor.next = 0;
  }
  const uint64_t fitting = buffer_bytes_ / footprint(layouts_[cursor.layer]);
  const uint64_t count = std::min<uint64_t>(fitting, cursor.order.size() - cursor.next);
  const auto first = cursor.order.begin() + static_cast<std::ptrdiff_t>(cursor.next);
  batch.layer = cursor.layer;
  batch.experts.assign(first, first + static_cast<std::ptrdiff_t>(count));
  cursor.next += count;
  return true;
}

void ExpertBatches::read(ReadQueue& queue, Buffer& buffer) const {
  ExpertBatch& batch = buffer.batch;
  const ExpertLayout& layout = layouts_[batch.layer];
  std::vector<FileSlice> slices;
  for (const uint32_t expert : batch.experts) {
    for (const ExpertLayout::Projection& projection : layout.projections) {
      for (const ExpertLayout::Slices* part : projection.parts()) {
        if (part->size_bytes > 0) slices.push_back(part->of(expert));
      }
    }
  }
  const ReadPlan plan = coalesce(slices);
  std::vector<uint64_t> starts;
  std::vector<ReadRequest> requests;
  uint64_t at = 0;
  for (const Extent& extent : plan.extents) {
    SLUICE_CHECK(at + extent.size_bytes <= buffer_bytes_);
    starts.push_back(at);
    requests.push_back({.file = files_[extent.file],
                        .offset = extent.offset,
                        .size_bytes = extent.size_bytes,
                        .needed_bytes = extent.needed_bytes,
                        .destination = buffer.slab.data() + at,
                        .tag = requests.size()});
    at += extent.size_bytes;
  }
  batch.read_bytes = at;
  try {
    read_all(queue, requests);
  } catch (const Error& error) {
    throw Error("experts of layer ", layout.model_layer, ": ", error.what());
  }
  size_t slice = 0;
  const auto next_address = [&] {
    const SlicePlace& place = plan.places[slice++];
    return buffer.slab.data() + starts[place.extent] + place.inner_offset;
  };
  batch.views.assign(batch.experts.size(), ExpertView{});
  for (ExpertView& view : batch.views) {
    for (size_t p = 0; p < layout.projections.size(); ++p) {
      const auto parts = layout.projections[p].parts();
      for (uint32_t part = 0; part < parts.size(); ++part) {
        if (parts[part]->size_bytes > 0) view[p].part(part) = next_address();
      }
    }
  }
}

}  // namespace sluice
