#include "tests/io/simulated_queue.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/check.h"
#include "io/error.h"

namespace sluice {
namespace {

constexpr std::byte kNotYet{0xa5};

}  // namespace

MemoryFile::MemoryFile(std::span<const std::byte> bytes)
    : fd_(::memfd_create("sluice test", MFD_CLOEXEC)) {
  if (!fd_.valid()) throw Error("memfd_create: ", errno_text(errno));
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd_.get(), bytes.data(), bytes.size());
    if (put < 0) throw Error("memory file: ", errno_text(errno));
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  file_ = std::make_unique<DirectFile>("/proc/self/fd/" + std::to_string(fd_.get()));
}

void MemoryFile::resize(uint64_t size_bytes) {
  SLUICE_CHECK(::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) == 0);
}

SimulatedQueue::SimulatedQueue(const Options& options)
    : seed_(options.seed), options_(options), random_(options.seed), scheduler_(options.depth) {}

void SimulatedQueue::fail_range(const DirectFile& file, uint64_t offset, uint64_t size_bytes,
                                int error) {
  failures_.push_back({file.id(), offset, offset + size_bytes, error});
}

void SimulatedQueue::clear_failures() { failures_.clear(); }

void SimulatedQueue::submit(std::span<const ReadRequest> requests) {
  for (const ReadRequest& request : requests) {
    scheduler_.add(request);
    std::fill_n(request.destination, request.needed_bytes, kNotYet);
  }
  start_pieces();
}

size_t SimulatedQueue::poll(std::span<ReadResult> results) {
  start_pieces();
  while (!held_ && !at_device_.empty() && chance(options_.progress)) land_one();
  return scheduler_.take(results);
}

size_t SimulatedQueue::wait(std::span<ReadResult> results) {
  SLUICE_CHECK(!results.empty() && in_flight() > 0);
  start_pieces();
  while (!scheduler_.has_results()) {
    SLUICE_CHECK(!held_);
    if (at_device_.empty()) {
      now_ = scheduler_.next_retry().value();
      start_pieces();
    }
    land_one();
  }
  return scheduler_.take(results);
}

void SimulatedQueue::promote(uint64_t tag) {
  promoted_.push_back(tag);
  scheduler_.promote(tag);
}

void SimulatedQueue::cancel(uint64_t tag) {
  cancelled_.push_back(tag);
  scheduler_.cancel(tag);
}

bool SimulatedQueue::chance(double probability) {
  return std::uniform_real_distribution<double>(0.0, 1.0)(random_) < probability;
}

void SimulatedQueue::start_pieces() {
  while (PieceScheduler::Piece* piece = scheduler_.start(now_)) {
    at_device_.push_back(piece);
    started_.push_back(piece->tag());
  }
}

// Any of the pieces at the device comes back.
void SimulatedQueue::land_one() {
  std::uniform_int_distribution<size_t> any(0, at_device_.size() - 1);
  std::swap(at_device_[any(random_)], at_device_.back());
  PieceScheduler::Piece* piece = at_device_.back();
  at_device_.pop_back();
  now_ += std::chrono::microseconds(1);
  const int64_t outcome = outcome_of(*piece);
  if (outcome > 0) piece->deliver(static_cast<uint64_t>(outcome));
  scheduler_.finish(piece, outcome, now_);
  start_pieces();
}

int64_t SimulatedQueue::outcome_of(const PieceScheduler::Piece& piece) {
  if (chance(options_.interrupt)) return -EINTR;
  if (chance(options_.busy)) return -EAGAIN;
  if (chance(options_.fail)) return -options_.fail_errno;
  const uint64_t end = piece.offset() + piece.size_bytes();
  for (const Failure& failure : failures_) {
    if (failure.file_id == piece.file().id() && piece.offset() < failure.end &&
        failure.offset < end) {
      return -failure.error;
    }
  }
  uint64_t wanted = piece.size_bytes();
  if (wanted > 1 && chance(options_.shorten)) {
    wanted = std::uniform_int_distribution<uint64_t>(1, wanted - 1)(random_);
  }
  // A direct read must be aligned at its end too; the bytes that are too many go unmentioned.
  const uint64_t alignment = piece.file().alignment();
  const uint64_t asked = (wanted + alignment - 1) / alignment * alignment;
  const ssize_t got =
      ::pread(piece.file().fd(), piece.destination(), asked, static_cast<off_t>(piece.offset()));
  if (got < 0) return -errno;
  return std::min(got, static_cast<ssize_t>(wanted));
}

}  // namespace sluice
