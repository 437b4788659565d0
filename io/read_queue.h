// ReadQueue: asynchronous positional reads, many in flight, completed in any order.
//
// One interface, two back ends: io_uring (batched submission, registered buffers and files) and a
// pool of pread threads, for kernels and containers that forbid io_uring.
// tests/io/simulated_queue.h is a third that delays, reorders, shortens and fails.
//
// Requests are split into pieces of at most kPieceBytes; a request completes once, when its last
// piece has. Demand pieces start before speculative ones. At most `depth` pieces are at the device;
// the rest wait here, so that a demand read never stands behind a long line of speculation. Short
// reads are continued, EINTR and EAGAIN retried; any other errno (or an EAGAIN that does not go
// away) ends the request with that errno as a value: what of it has not started is dropped, and the
// result comes when the rest has ended. What is read of a buffered file is dropped from the page
// cache behind the read. Nothing here throws after construction, except for lack of memory.
//
// Threads: one. Every call from the first submit() on, and the destructor while requests are in
// flight, comes from the thread of that first submit() (io_uring's SINGLE_ISSUER binds the ring to
// it); construction and register_buffer() may happen on another before that. Destinations may be
// read by any thread once the result was returned. The destructor drops what has not started and
// waits for what has: no read lands in freed memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "io/direct_file.h"

namespace sluice {

enum class Deadline : uint8_t { demand, speculative };

inline constexpr uint64_t kPieceBytes = 1 << 20;

struct ReadRequest {
  const DirectFile* file = nullptr;  // borrowed until the result
  uint64_t offset = 0;               // multiple of file->alignment()
  uint64_t size_bytes = 0;           // multiple of file->alignment(); > 0
  // Bytes from offset that must exist; a file that ends before them is an error (kTruncated). Bytes
  // between needed_bytes and size_bytes are read if the file has them, else undefined: a direct
  // read may clear them.
  uint64_t needed_bytes = 0;
  // [size_bytes], aligned to file->alignment(); the queue's until the result.
  std::byte* destination = nullptr;
  uint64_t tag = 0;  // the caller's; unique among requests in flight
  Deadline deadline = Deadline::demand;
};

struct ReadResult {
  static constexpr int kTruncated = -1;  // the file ended before needed_bytes
  static constexpr int kCancelled = -2;

  uint64_t tag = 0;
  int error = 0;              // 0, an errno, kTruncated or kCancelled
  uint64_t error_offset = 0;  // in the file, where it happened
};

struct ReadStatistics {
  uint64_t requests = 0;
  uint64_t pieces = 0;
  // Bytes read for requests that have ended, well or not, by class at submission; a request that
  // was promoted counts as demand.
  uint64_t bytes_demanded = 0;
  uint64_t bytes_speculated = 0;
  uint64_t retries = 0;  // short reads continued, EINTR, EAGAIN
  uint64_t busy_us = 0;  // time with at least one piece at the device
};

class ReadQueue {
 public:
  virtual ~ReadQueue() = default;

  // Queues requests and starts as many pieces as the depth allows. Does not wait for I/O.
  virtual void submit(std::span<const ReadRequest> requests) = 0;
  // Fills results with finished requests and returns how many; starts waiting pieces. poll() never
  // waits; wait() sleeps in the kernel until it can return at least one result.
  //   Requires: for wait(), in_flight() > 0 and room for a result.
  virtual size_t poll(std::span<ReadResult> results) = 0;
  virtual size_t wait(std::span<ReadResult> results) = 0;
  // Turns a waiting speculative request into a demand one (it moves to the front).
  virtual void promote(uint64_t tag) = 0;
  // Drops the pieces of a request that have not started. Its result still comes, with kCancelled if
  // anything was dropped. Both do nothing for a tag that is not in flight (its result may be
  // waiting).
  virtual void cancel(uint64_t tag) = 0;

  // Requests submitted whose results were not yet returned.
  virtual size_t in_flight() const = 0;
  virtual ReadStatistics statistics() const = 0;
  // "io_uring", "io_uring with registered buffers", "pread ×8".
  virtual std::string description() const = 0;
  // Tells the back end about memory that most reads will land in. Best effort (RLIMIT_MEMLOCK is
  // often small): returns whether it is registered. Requires: nothing in flight; the memory stays
  // as long as anything is read, or reads into what takes its addresses go astray.
  virtual bool register_buffer(std::span<std::byte> memory) = 0;
  // From now on reads land in this memory, cut into buffers of kPieceBytes, and are copied to their
  // destinations as they arrive. Pieces at the device leave one buffer free, and speculative ones
  // start only while fewer than half of the others, rounded down, are there. Empty: reads land in
  // place again. For disks that are slow to write to memory which no cache holds
  // (stream/bounce_buffers.h). Borrowed until the next call or the queue's end. Requires: nothing
  // in flight; memory aligned as destinations are.
  virtual void bounce_through(std::span<std::byte> memory) = 0;
};

enum class ReadBackend : uint8_t { automatic, io_uring, pread };

inline constexpr uint32_t kMaxQueueDepth =
    1024;  // beyond it devices gain nothing, and rings get big

// depth: pieces at the device at once, 1..kMaxQueueDepth (pread: at most 16, one per thread).
// automatic: io_uring where the kernel allows it, else pread, with the reason in *fallback_reason
// (if not null). Throws Error if io_uring was asked for by name and is not to be had.
std::unique_ptr<ReadQueue> make_read_queue(ReadBackend backend, uint32_t depth,
                                           std::string* fallback_reason = nullptr);

// Convenience: reads everything, waits, throws Error naming file and offset of a failure.
// Requires: nothing else in flight. landed, if given, hears of every request that ended well.
void read_all(ReadQueue& queue, std::span<const ReadRequest> requests,
              const std::function<void(uint64_t tag)>& landed = {});

// What a failed result means, for messages: file, offset, errno or truncation, and what to do.
// Requires: result.error != 0; file is the request's.
std::string read_error_text(const ReadResult& result, const DirectFile& file);

}  // namespace sluice
