// SimulatedQueue: a ReadQueue whose device is a seeded random generator. It delays, reorders,
// shortens, interrupts and fails reads, the same way every time for one seed. Nothing runs beside
// the caller and no time passes: a request lands only inside poll() and wait().
//
// The bytes come from the requests' files; MemoryFile makes one that touches no disk. submit()
// fills the needed part of the destination with a pattern, so that whoever reads too early reads
// garbage. Link sluice_simulated_queue. Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "io/piece_scheduler.h"
#include "io/read_queue.h"

namespace sluice {

// A file in memory, opened as a (buffered) DirectFile.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::byte> bytes);
  const DirectFile& file() const { return *file_; }
  // Cuts or extends (with zeros) the file behind the back of its DirectFile.
  void resize(uint64_t size_bytes);

 private:
  FileDescriptor fd_;
  std::unique_ptr<DirectFile> file_;
};

class SimulatedQueue final : public ReadQueue {
 public:
  struct Options {
    uint64_t seed = 1;
    uint32_t depth = 8;
    // Chances, per piece that comes back from the device.
    double shorten = 0.1;     // part of the bytes arrived
    double interrupt = 0.05;  // EINTR
    double busy = 0.05;       // EAGAIN
    double fail = 0.0;        // fail_errno
    int fail_errno = 5;       // EIO
    // Chance that a poll() lets one more piece come back; wait() always goes on until a result is
    // there.
    double progress = 0.5;
  };

  SimulatedQueue() : SimulatedQueue(Options{}) {}
  explicit SimulatedQueue(const Options& options);
  ~SimulatedQueue() override = default;

  // Every piece that overlaps this range of the file fails with the errno, until clear_failures().
  void fail_range(const DirectFile& file, uint64_t offset, uint64_t size_bytes, int error);
  void clear_failures();
  // While held, the device gives nothing back: poll() returns what had ended before. wait() must
  // not be called then unless such a result is left.
  void hold(bool held) { held_ = held; }

  // The tag of every piece that was started, in order; a retry comes again.
  const std::vector<uint64_t>& started() const { return started_; }
  // Tags given to promote() and cancel(), in order.
  const std::vector<uint64_t>& promoted() const { return promoted_; }
  const std::vector<uint64_t>& cancelled() const { return cancelled_; }

  void submit(std::span<const ReadRequest> requests) override;
  size_t poll(std::span<ReadResult> results) override;
  size_t wait(std::span<ReadResult> results) override;
  void promote(uint64_t tag) override;
  void cancel(uint64_t tag) override;
  size_t in_flight() const override { return scheduler_.in_flight(); }
  ReadStatistics statistics() const override { return scheduler_.statistics(); }
  std::string description() const override { return "simulated, seed " + std::to_string(seed_); }
  bool register_buffer(std::span<std::byte>) override { return false; }
  void bounce_through(std::span<std::byte> memory) override { scheduler_.bounce_through(memory); }

 private:
  struct Failure {
    uint64_t file_id;
    uint64_t offset;
    uint64_t end;
    int error;
  };

  bool chance(double probability);
  void start_pieces();
  void land_one();
  int64_t outcome_of(const PieceScheduler::Piece& piece);

  const uint64_t seed_;
  const Options options_;
  std::mt19937_64 random_;
  PieceScheduler scheduler_;
  PieceScheduler::Time now_{};
  std::vector<PieceScheduler::Piece*> at_device_;
  std::vector<Failure> failures_;
  bool held_ = false;
  std::vector<uint64_t> started_;
  std::vector<uint64_t> promoted_;
  std::vector<uint64_t> cancelled_;
};

}  // namespace sluice
