// BounceBuffers: a little memory that reads land in before they are copied to their slots, where
// that is faster.
//
// Some disks write slowly to memory that no processor's cache holds: those of virtual machines,
// where a thread of the host copies what was read. Measured on one: 3.2 GB/s into 8 MiB again and
// again, 2.0 GB/s into the slots of a large cache (bench/RESULTS.md). There it pays to read into a
// few buffers that stay in the cache, and to copy from these past it (io/streaming_copy.h), which a
// core does at 17 GB/s. Elsewhere the copy is for nothing, so it is tried: a hundred MB of
// the largest file are read in place and as many bounced, which takes a tenth of a second.
//
// Owns: the buffers. Borrows: the queue. Threads: one, the queue's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "cache/slab.h"
#include "io/read_queue.h"
#include "stream/expert_source.h"

namespace sluice {

enum class Bounce : uint8_t { automatic, on, off };

class BounceBuffers {
 public:
  // What they may take, for the plan. automatic: none for a cache so small that processors' caches
  // may hold much of it, and none for packed sources, whose experts are copied anyway.
  static uint64_t bytes(const ExpertSource& source, uint64_t cache_bytes, Bounce bounce);

  // slots: where reads would land in place; a trial overwrites some of it. files: as
  // ExpertStream's. Requires: nothing in flight.
  BounceBuffers(const ExpertSource& source, std::span<const DirectFile* const> files,
                ReadQueue& queue, std::span<std::byte> slots, Bounce bounce);
  // Requires: nothing in flight.
  ~BounceBuffers();
  BounceBuffers(const BounceBuffers&) = delete;
  BounceBuffers& operator=(const BounceBuffers&) = delete;

  bool in_use() const { return buffers_ != nullptr; }

 private:
  ReadQueue& queue_;
  std::unique_ptr<Slab> buffers_;
};

}  // namespace sluice
