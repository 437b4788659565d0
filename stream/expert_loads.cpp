#include "stream/expert_loads.h"

#include <algorithm>
#include <cstring>

#include "io/check.h"

namespace sluice {
namespace {

// The pieces that are at the device at once (ModelOptions::io_depth is 16), as more buffers could
// not be filled any faster.
constexpr uint32_t kMaxStagingBuffers = 16;

// A request's tag names the load and the extent it reads.
uint64_t make_tag(uint32_t load, uint32_t extent) { return uint64_t{load} << 32 | extent; }
uint32_t tag_load(uint64_t tag) { return static_cast<uint32_t>(tag >> 32); }
uint32_t tag_extent(uint64_t tag) { return static_cast<uint32_t>(tag); }

}  // namespace

ExpertLoads::ExpertLoads(const ExpertSource& source, std::span<const DirectFile* const> files,
                         ReadQueue& queue, ExpertCache& cache)
    : source_(source),
      files_(files.begin(), files.end()),
      queue_(queue),
      cache_(cache),
      places_(cache.slots()) {
  queue.register_buffer(cache.slab());
  if (const auto buffers = static_cast<uint32_t>(staging_buffers(source, cache.slots()))) {
    staging_ = std::make_unique<Slab>(buffers * source.staging_bytes());
    queue.register_buffer(staging_->bytes());
    for (uint32_t buffer = buffers; buffer-- > 0;) free_staging_.push_back(buffer);
  }
}

ExpertLoads::~ExpertLoads() {
  for (uint32_t load = 0; load < loads_.size(); ++load) cancel(load);
  while (under_way_ > 0) reap(/*wait=*/true);
}

uint64_t ExpertLoads::staging_buffers(const ExpertSource& source, uint64_t slots) {
  return source.packed() ? std::min<uint64_t>(slots, kMaxStagingBuffers) : 0;
}

uint32_t ExpertLoads::start(ExpertKey key, uint32_t slot, Deadline deadline, uint32_t owner) {
  SLUICE_CHECK(room());
  if (free_loads_.empty()) {
    free_loads_.push_back(static_cast<uint32_t>(loads_.size()));
    loads_.emplace_back();
  }
  const uint32_t index = free_loads_.back();
  free_loads_.pop_back();
  Load& load = loads_[index];
  load.key = key;
  load.slot = slot;
  load.owner = owner;
  load.failed = false;
  load.error.clear();
  std::byte* destination = cache_.slot_data(slot);
  if (staging_) {
    load.staging = free_staging_.back();
    free_staging_.pop_back();
    destination = staging_->data() + load.staging * source_.staging_bytes();
  }
  load.plan = source_.plan(key.layer, key.expert);
  for (uint32_t i = 0; i < load.plan.extents.size(); ++i) {
    const Extent& extent = load.plan.extents[i];
    SLUICE_CHECK(extent.file < files_.size() && files_[extent.file] != nullptr);
    requests_.push_back({.file = files_[extent.file],
                         .offset = extent.offset,
                         .size_bytes = extent.size_bytes,
                         .needed_bytes = extent.needed_bytes,
                         .destination = destination,
                         .tag = make_tag(index, i),
                         .deadline = deadline});
    destination += extent.size_bytes;
    load.outstanding |= 1u << i;
  }
  ++under_way_;
  return index;
}

void ExpertLoads::submit() {
  if (!requests_.empty()) queue_.submit(requests_);
  requests_.clear();
}

std::span<const ExpertLoads::Ended> ExpertLoads::reap(bool wait) {
  ended_.clear();
  const size_t count = wait ? queue_.wait(results_) : queue_.poll(results_);
  for (size_t i = 0; i < count; ++i) handle(results_[i]);
  return ended_;
}

void ExpertLoads::handle(const ReadResult& result) {
  const uint32_t index = tag_load(result.tag);
  const uint32_t extent = tag_extent(result.tag);
  SLUICE_CHECK(index < loads_.size() && (loads_[index].outstanding >> extent & 1u) != 0);
  Load& load = loads_[index];
  load.outstanding &= ~(1u << extent);
  if (result.error != 0) {
    load.failed = true;
    if (load.error.empty() && result.error != ReadResult::kCancelled) {
      const DirectFile& file = *files_[load.plan.extents[extent].file];
      load.error = "layer " + std::to_string(source_.model_layer(load.key.layer)) + ", expert " +
                   std::to_string(load.key.expert) + ": " + read_error_text(result, file);
    }
  }
  if (load.outstanding == 0) end(index);
}

void ExpertLoads::end(uint32_t index) {
  Load& load = loads_[index];
  if (load.failed) {
    cache_.fail(load.slot);
  } else {
    if (staging_) copy_slices(load);
    places_[load.slot] = load.plan.places;
    cache_.complete(load.slot);
  }
  if (load.staging != kNoBuffer) free_staging_.push_back(load.staging);
  load.staging = kNoBuffer;
  ended_.push_back(
      {.load = index, .owner = load.owner, .ok = !load.failed, .error = std::move(load.error)});
  free_loads_.push_back(index);
  --under_way_;
}

void ExpertLoads::copy_slices(const Load& load) {
  const std::byte* from = staging_->data() + load.staging * source_.staging_bytes();
  std::byte* to = cache_.slot_data(load.slot);
  for (const ExpertSource::Copy& copy : load.plan.copies) {
    std::memcpy(to + copy.to, from + copy.from, static_cast<size_t>(copy.size_bytes));
  }
}

void ExpertLoads::adopt(uint32_t load, uint32_t owner) {
  SLUICE_CHECK(load < loads_.size() && loads_[load].outstanding != 0);
  loads_[load].owner = owner;
  for (uint32_t i = 0; i < loads_[load].plan.extents.size(); ++i) {
    queue_.promote(make_tag(load, i));
  }
}

void ExpertLoads::cancel(uint32_t load) {
  for (uint32_t i = 0; loads_[load].outstanding >> i != 0; ++i) {
    if ((loads_[load].outstanding >> i & 1u) != 0) queue_.cancel(make_tag(load, i));
  }
}

ExpertView ExpertLoads::view(uint32_t slot, uint32_t layer) const {
  return source_.view(places_[slot], layer, cache_.slot_data(slot));
}

}  // namespace sluice
