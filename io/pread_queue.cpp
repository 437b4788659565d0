// The pread back end: a few threads, each of which takes the next piece, reads it and reports.
//
// All bookkeeping sits in one PieceScheduler behind one mutex, which is held for microseconds per
// piece of up to a megabyte. Threads take pieces by themselves, so that the device stays busy while
// the caller computes. Everybody sleeps on a condition variable; nobody spins.
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "io/check.h"
#include "io/error.h"
#include "io/piece_scheduler.h"
#include "io/read_backends.h"

namespace sluice {
namespace {

// Threads beyond this cost more in switches than deeper queues give: one NVMe drive reads pieces of
// 1 MiB at full speed with 8 in flight.
constexpr uint32_t kMaxThreads = 16;

class PreadQueue final : public ReadQueue {
 public:
  explicit PreadQueue(uint32_t depth)
      : thread_count_(std::min(depth, kMaxThreads)), scheduler_(thread_count_) {
    threads_.reserve(thread_count_);
    try {
      for (uint32_t i = 0; i < thread_count_; ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {
      stop();
      // EAGAIN: the limit of threads (ulimit -u, or the container's pids) is reached.
      throw Error("read queue: cannot start thread ", threads_.size() + 1, " of ", thread_count_,
                  ": ", error.what(), "; raise the limit of threads or lower the queue depth");
    }
  }

  ~PreadQueue() override { stop(); }

  void submit(std::span<const ReadRequest> requests) override {
    {
      const std::lock_guard lock(mutex_);
      for (const ReadRequest& request : requests) scheduler_.add(request);
    }
    work_arrived_.notify_all();
  }

  size_t poll(std::span<ReadResult> results) override {
    const std::lock_guard lock(mutex_);
    return scheduler_.take(results);
  }

  size_t wait(std::span<ReadResult> results) override {
    std::unique_lock lock(mutex_);
    SLUICE_CHECK(!results.empty() && scheduler_.in_flight() > 0);
    result_arrived_.wait(lock, [&] { return scheduler_.has_results(); });
    return scheduler_.take(results);
  }

  void promote(uint64_t tag) override {
    {
      const std::lock_guard lock(mutex_);
      scheduler_.promote(tag);
    }
    work_arrived_.notify_all();  // more of what is demanded may be at the device
  }

  void cancel(uint64_t tag) override {
    const std::lock_guard lock(mutex_);
    scheduler_.cancel(tag);
  }

  size_t in_flight() const override {
    const std::lock_guard lock(mutex_);
    return scheduler_.in_flight();
  }

  ReadStatistics statistics() const override {
    const std::lock_guard lock(mutex_);
    return scheduler_.statistics();
  }

  std::string description() const override { return "pread ×" + std::to_string(thread_count_); }

  bool register_buffer(std::span<std::byte>) override { return false; }

  void bounce_through(std::span<std::byte> memory) override {
    const std::lock_guard lock(mutex_);
    scheduler_.bounce_through(memory);
  }

 private:
  static PieceScheduler::Time now() { return std::chrono::steady_clock::now(); }

  void work() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      PieceScheduler::Piece* piece = scheduler_.start(now());
      if (piece == nullptr) {
        wait_for_work(lock);
        continue;
      }
      lock.unlock();
      const int64_t outcome = read(*piece);
      if (piece->bounces()) {
        lock.lock();
        scheduler_.came_back(piece, now());
        lock.unlock();
        work_arrived_.notify_one();  // the device has room for another thread's piece
      }
      if (outcome > 0) take_in(*piece, static_cast<uint64_t>(outcome));
      lock.lock();
      scheduler_.finish(piece, outcome, now());
      if (scheduler_.has_results()) result_arrived_.notify_one();
    }
  }

  void wait_for_work(std::unique_lock<std::mutex>& lock) {
    if (const auto retry = scheduler_.next_retry()) {
      work_arrived_.wait_until(lock, *retry);
    } else {
      work_arrived_.wait(lock);
    }
  }

  // One system call; what it leaves undone the scheduler sees and asks for again.
  static int64_t read(const PieceScheduler::Piece& piece) {
    const ssize_t got =
        ::pread(piece.file().fd(), piece.destination(), static_cast<size_t>(piece.size_bytes()),
                static_cast<off_t>(piece.offset()));
    return got < 0 ? -errno : got;
  }

  // The device has its next piece meanwhile.
  static void take_in(const PieceScheduler::Piece& piece, uint64_t bytes) {
    piece.deliver(bytes);
    piece.file().forget(piece.offset(), bytes);
  }

  // Reads under way end first: their destinations may be gone after this.
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      scheduler_.abandon();
    }
    work_arrived_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  const uint32_t thread_count_;
  mutable std::mutex mutex_;
  std::condition_variable work_arrived_;
  std::condition_variable result_arrived_;
  PieceScheduler scheduler_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<ReadQueue> make_pread_queue(uint32_t depth) {
  return std::make_unique<PreadQueue>(depth);
}

}  // namespace sluice
