// ExpertBatches: all experts of a checkpoint once, in the order of the disk, in long reads.
//
// What repacking reads with: within a layer, runs of experts whose slices lie near each other are
// read together, the next batch while the caller works on the last. A cache would be of no use
// here, and a read per expert would be a short one.
//
//   ExpertBatches batches(layouts, files, queue settings);
//   while (const ExpertBatch* batch = batches.next()) { ... batch->views[i] ... }
//
// Owns: two buffers and the thread that fills them. Borrows: layouts, files (must outlive this).
// Threads: one; the views may be read by any until the next next().
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "cache/slab.h"
#include "io/direct_file.h"
#include "io/read_queue.h"
#include "stream/expert_layout.h"
#include "stream/expert_source.h"

namespace sluice {

struct ExpertBatch {
  uint32_t layer = 0;             // index into the layouts
  std::vector<uint32_t> experts;  // ids, in the order of the disk
  std::vector<ExpertView> views;  // [experts]
  uint64_t read_bytes = 0;
};

class ExpertBatches {
 public:
  // What the buffers take at least: two of the largest expert.
  static uint64_t least_bytes(std::span<const ExpertLayout> layouts);

  // files: by checkpoint file index. memory_bytes: of both buffers, at least least_bytes(). Throws
  // Error: out of memory.
  ExpertBatches(std::span<const ExpertLayout> layouts, std::span<const DirectFile* const> files,
                uint64_t memory_bytes);
  ~ExpertBatches();
  ExpertBatches(const ExpertBatches&) = delete;
  ExpertBatches& operator=(const ExpertBatches&) = delete;

  // The next batch, valid until the next call; null after the last. Throws Error naming layer, file
  // and offset of a failed read.
  const ExpertBatch* next();

 private:
  struct Buffer {
    explicit Buffer(uint64_t size_bytes) : slab(size_bytes) {}
    Slab slab;
    ExpertBatch batch;
    bool full = false;
  };
  // Where the reading thread is: a layer's experts in the order of the disk.
  struct Cursor {
    uint32_t layer = 0;
    std::vector<uint32_t> order;
    size_t next = 0;
  };

  void read_all_batches(std::stop_token stop);
  bool plan_next(Cursor& cursor, ExpertBatch& batch) const;
  void read(ReadQueue& queue, Buffer& buffer) const;

  std::span<const ExpertLayout> layouts_;
  std::span<const DirectFile* const> files_;
  uint64_t buffer_bytes_ = 0;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  size_t taken_ = 0;  // batches that next() has returned
  bool ended_ = false;
  std::exception_ptr failure_;
  std::jthread reader_;  // last: it uses all of the above
};

}  // namespace sluice
