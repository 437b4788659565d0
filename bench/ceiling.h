// What this machine can give at most: its memory to loops that only load, and its disk to direct
// reads at random places. Every other figure is worth saying as a share of one of these, taken in
// the same run: machines are shared, and their speed changes from minute to minute.
//
// Two clocks. Wall-clock time is what a user waits, and falls when somebody else has the processor.
// The processor time of the thread that took longest leaves that out, while waiting for memory is
// part of it; but threads that did not run at the same moment did not share the memory either, so
// for more than one thread it flatters. Where the two agree, the machine was quiet.
//
// Threads: each function starts its own and ends them; call one at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace sluice::bench {

struct Seconds {
  double wall = 0;  // from the first thread's start to the last one's end
  double own = 0;   // processor time of the thread that took longest
};

// Runs work(thread) on that many threads, the calling one among them; all start when all are there.
// What work throws ends the program.
Seconds seconds_on(uint32_t threads, const std::function<void(uint32_t)>& work);

// Loads every whole line of 64 bytes of this once, as fast as one thread can: with the widest loads
// that the processor has, four parts in turn, each prefetched. Requires: 64-byte aligned.
void read_plainly(std::span<const std::byte> bytes);

// The time of that on several threads, each its own contiguous part.
Seconds read_plainly_on(uint32_t threads, std::span<const std::byte> bytes);

// GB/s (10^9 bytes of wall-clock time) at which the threads read the bytes in that way: the median
// of the rounds behind a first that is not counted. The median, as figures that are compared with
// it are medians too; the best round would be a moment that nothing else of the run has had.
// The bytes must have been written before (the kernel maps untouched memory to one page of zeros,
// which is read from the cache), and be several times the last cache for a figure about memory.
//   Requires: 64-byte aligned; threads, rounds > 0; at least a line for each thread.
double memory_read_rate(std::span<const std::byte> bytes, uint32_t threads, uint32_t rounds);

// Bytes of the largest cache of this machine, as the system tells it; 32 MiB where it does not. On
// rented machines it is the whole processor's, of which others have the most.
uint64_t last_cache_bytes();

// What is read between the end of a ramp and the end of a round; the first read that ends behind
// the ramp starts the clock. Readers need the ramp because a virtual disk is limited by a bucket of
// tokens: who comes after a pause reads ahead of the limit until the bucket is empty.
class Window {
 public:
  Window(double ramp_seconds, double seconds);
  // False when the round is over, which it is not before two reads have ended behind the ramp. To
  // be asked after every read, by one thread at a time.
  bool add(uint64_t bytes);
  // 0 where the round was left before it was over.
  double bytes_per_second() const;

 private:
  using Time = std::chrono::steady_clock::time_point;
  Time begin_, end_;
  bool started_ = false;
  Time first_, last_;
  uint64_t bytes_ = 0;
};

struct DiskRead {
  std::string path;
  uint64_t block_bytes = 0;  // multiple of 4096
  uint32_t depth = 1;        // blocks at the device at once, 1 to 1024
  double ramp_seconds = 0;   // read before the time is taken
  double seconds = 0;        // then so long
  // Blocks lie wholly within; end_byte = 0: all of the file.
  uint64_t first_byte = 0, end_byte = 0;
};

// GB/s of direct reads of blocks at random places, multiples of their size behind first_byte (which
// is rounded up to 4096), `depth` at once, into huge pages: what `fio --rw=randread --norandommap
// --direct=1` tells of the same file, or more: its buffers lie in small pages, which cost large
// blocks up to half of their rate. Through a bare io_uring, or depth threads of pread where that is
// not to be had; not through io/'s queue, which it is the measure of. Every call reads other
// places. Where the filesystem has no direct reads (DirectFile::direct), the reads are buffered and
// the figure is the page cache's.
// Throws Error: the file cannot be opened or read, or has no room for one block.
double disk_read_rate(const DiskRead& task);

}  // namespace sluice::bench
