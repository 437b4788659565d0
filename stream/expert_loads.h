// ExpertLoads: experts on their way from disk into slots of the cache.
//
// A load reads the extents of one expert, each a request of its own, and has ended when the last of
// them came. Then the slot is ready (ExpertCache::complete) or has failed (fail), and whoever
// started the load hears of it, in the order in which loads end. Of packed sources the extents land
// in a staging buffer, from which the slices are copied; there are as many loads at once as there
// are buffers.
//
// Owns: the staging buffers. Borrows: source, files, queue, cache. Threads: one, the queue's.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/expert_cache.h"
#include "io/read_queue.h"
#include "stream/expert_source.h"

namespace sluice {

class ExpertLoads {
 public:
  static constexpr uint32_t kNobody = 0xffffffff;

  struct Ended {
    uint32_t load = 0;
    uint32_t owner = kNobody;
    bool ok = false;
    // Why not: names layer, expert, file and offset. Empty if the load was cancelled.
    std::string error;
  };

  ExpertLoads(const ExpertSource& source, std::span<const DirectFile* const> files,
              ReadQueue& queue, ExpertCache& cache);
  // Cancels what is under way and waits for it.
  ~ExpertLoads();
  ExpertLoads(const ExpertLoads&) = delete;
  ExpertLoads& operator=(const ExpertLoads&) = delete;

  static uint64_t staging_buffers(const ExpertSource& source, uint64_t slots);

  // Whether a staging buffer is free, where they are needed.
  bool room() const { return !staging_ || !free_staging_.empty(); }
  // The slot is leased and loading. Its reads go to the device with the next submit(). owner: who
  // will be told that it ended, any number but kNobody; or kNobody. Requires: room().
  uint32_t start(ExpertKey key, uint32_t slot, Deadline deadline, uint32_t owner);
  void submit();
  uint32_t under_way() const { return under_way_; }

  // What ended since. wait: sleeps until some read did; then something is under way. The result is
  // valid until the next call.
  std::span<const Ended> reap(bool wait);
  // A load under way gets another owner, who wants it now.
  void adopt(uint32_t load, uint32_t owner);
  bool owned(uint32_t load) const { return loads_[load].owner != kNobody; }
  // Drops what has not started; the load ends nevertheless, and may end well.
  void cancel(uint32_t load);

  // Of the expert in a ready slot.
  ExpertView view(uint32_t slot, uint32_t layer) const;

 private:
  static constexpr uint32_t kNoBuffer = 0xffffffff;

  struct Load {
    ExpertKey key;
    uint32_t slot = kNoSlot;
    uint32_t owner = kNobody;
    uint32_t staging = kNoBuffer;
    uint32_t outstanding = 0;  // bit i is set until extent i's result came; 0: the load is free
    bool failed = false;
    std::string error;  // of the first read that failed
    ExpertSource::ExpertPlan plan;
  };

  void handle(const ReadResult& result);
  void end(uint32_t index);
  void copy_slices(const Load& load);

  const ExpertSource& source_;
  std::vector<const DirectFile*> files_;
  ReadQueue& queue_;
  ExpertCache& cache_;
  std::vector<ExpertSource::Places> places_;  // [slots]: of the expert that is in it
  std::unique_ptr<Slab> staging_;             // packed: buffers of source.staging_bytes()
  std::vector<uint32_t> free_staging_;
  std::vector<Load> loads_;
  std::vector<uint32_t> free_loads_;
  uint32_t under_way_ = 0;
  std::vector<ReadRequest> requests_;  // started, not submitted
  std::vector<Ended> ended_;
  std::array<ReadResult, 64> results_;
};

}  // namespace sluice
