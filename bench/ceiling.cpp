#include "bench/ceiling.h"

#include <liburing.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <exception>
#include <latch>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "bench/bench_file.h"
#include "cache/slab.h"
#include "io/check.h"
#include "io/direct_file.h"
#include "io/error.h"

namespace sluice::bench {
namespace {

using Clock = std::chrono::steady_clock;

double own_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Loads into a register and nothing else, each of so many bytes. Written as instructions, so that
// no compiler drops a load whose value nobody wants, and no flags for instruction sets are needed.
#if defined(__x86_64__)
struct Load16 {
  static constexpr size_t kBytes = 16;
  static void load(const std::byte* p) {
    asm volatile("movdqa %0, %%xmm0" : : "m"(*reinterpret_cast<const char(*)[16]>(p)) : "xmm0");
  }
  static void finish() {}
};
struct Load32 {
  static constexpr size_t kBytes = 32;
  static void load(const std::byte* p) {
    asm volatile("vmovdqa %0, %%ymm0" : : "m"(*reinterpret_cast<const char(*)[32]>(p)) : "xmm0");
  }
  static void finish() { asm volatile("vzeroupper" : : : "xmm0"); }
};
struct Load64 {
  static constexpr size_t kBytes = 64;
  static void load(const std::byte* p) {
    asm volatile("vmovdqa64 %0, %%zmm0" : : "m"(*reinterpret_cast<const char(*)[64]>(p)) : "xmm0");
  }
  static void finish() { asm volatile("vzeroupper" : : : "xmm0"); }
};
#else
struct Load8 {
  static constexpr size_t kBytes = 8;
  static void load(const std::byte* p) { (void)*reinterpret_cast<const volatile uint64_t*>(p); }
  static void finish() {}
};
#endif

constexpr size_t kLine = 64;

// Four parts of the bytes in turn, 512 bytes of each, 2 KiB ahead of which are asked for: the
// fastest of 1, 2, 4 and 8 parts and of distances from 0 to 8 KiB, by 5 % for one thread; two
// threads are equally fast with all of them. Loads of 16 bytes are up to a fifth slower, those of
// 32 bytes 3 %.
template <typename Load>
void read_with(std::span<const std::byte> bytes) {
  constexpr size_t kParts = 4, kRun = 512, kAhead = 2048;
  const auto load = [](const std::byte* begin, size_t size) {
    for (size_t k = 0; k < size; k += Load::kBytes) Load::load(begin + k);
  };
  const size_t part = bytes.size() / kParts / kRun * kRun;
  for (size_t i = 0; i < part; i += kRun) {
    for (size_t p = 0; p < kParts; ++p) {
      const std::byte* run = bytes.data() + p * part + i;
      for (size_t k = 0; k < kRun; k += kLine) __builtin_prefetch(run + k + kAhead);
      load(run, kRun);
    }
  }
  load(bytes.data() + kParts * part, (bytes.size() - kParts * part) / kLine * kLine);
  Load::finish();
}

// The places that a reader of the task may read from, and the file.
class Blocks {
 public:
  explicit Blocks(const DiskRead& task)
      : file_(task.path),
        begin_((task.first_byte + kPageBytes - 1) / kPageBytes * kPageBytes),
        block_bytes_(task.block_bytes),
        random_(std::random_device{}()) {
    SLUICE_CHECK(task.block_bytes > 0 && task.block_bytes % kPageBytes == 0);
    SLUICE_CHECK(task.depth > 0 && task.depth <= 1024);
    const uint64_t size = file_.size_bytes();
    const uint64_t end = task.end_byte == 0 ? size : std::min(task.end_byte, size);
    count_ = end > begin_ ? (end - begin_) / block_bytes_ : 0;
    if (count_ == 0) {
      throw Error(task.path, ": bytes ", begin_, " to ", end, " have no room for a block of ",
                  block_bytes_, " bytes; give a larger file or smaller blocks");
    }
  }
  const DirectFile& file() const { return file_; }
  uint64_t next_offset() { return begin_ + random_() % count_ * block_bytes_; }
  // result: bytes, or -errno. Throws Error unless it is worth going on.
  uint64_t read_bytes(int64_t result, uint64_t offset) const {
    if (result == -EINTR || result == -EAGAIN) return 0;
    if (result == 0) throw Error(file_.path(), ": ended at offset ", offset, " while it was read");
    if (result < 0) {
      throw Error(file_.path(), ": cannot read at offset ", offset, ": ",
                  errno_text(static_cast<int>(-result)));
    }
    file_.forget(offset, static_cast<uint64_t>(result));
    return static_cast<uint64_t>(result);
  }

 private:
  DirectFile file_;
  uint64_t begin_, block_bytes_, count_ = 0;
  std::mt19937_64 random_;
};

// An io_uring that reads blocks into buffers of its own.
class Ring {
 public:
  explicit Ring(uint32_t depth) {
    // Completions interrupt nobody: they are taken in when this thread waits for them.
    error_ =
        io_uring_queue_init(depth, &ring_, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    // EINVAL: a kernel before 6.1.
    if (error_ == -EINVAL) error_ = io_uring_queue_init(depth, &ring_, 0);
  }
  ~Ring() {
    if (error_ == 0) io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  bool usable() const { return error_ == 0; }

  double read(const DiskRead& task, Blocks& blocks, Slab& memory) {
    const iovec buffer = {memory.data(), memory.bytes().size()};
    // Refused where the limit on locked memory is small; the kernel then pins each read's pages.
    const bool registered = io_uring_register_buffers(&ring_, &buffer, 1) == 0;
    const int fd = blocks.file().fd();
    const bool fixed_file = io_uring_register_files(&ring_, &fd, 1) == 0;
    std::vector<uint64_t> offsets(task.depth);
    const auto start = [&](uint32_t slot) {
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      offsets[slot] = blocks.next_offset();
      std::byte* into = memory.data() + uint64_t{slot} * task.block_bytes;
      const auto bytes = static_cast<unsigned>(task.block_bytes);
      const int file = fixed_file ? 0 : fd;
      if (registered) {
        io_uring_prep_read_fixed(sqe, file, into, bytes, offsets[slot], 0);
      } else {
        io_uring_prep_read(sqe, file, into, bytes, offsets[slot]);
      }
      if (fixed_file) sqe->flags |= IOSQE_FIXED_FILE;
      io_uring_sqe_set_data64(sqe, slot);
    };
    for (uint32_t slot = 0; slot < task.depth; ++slot) start(slot);
    Window window(task.ramp_seconds, task.seconds);
    std::exception_ptr failure;  // thrown when nothing of the kernel's is under way any more
    uint32_t under_way = task.depth;
    for (bool more = true; under_way > 0;) {
      const int submitted = io_uring_submit_and_wait(&ring_, 1);
      if (submitted < 0 && submitted != -EINTR) {
        throw Error("io_uring_enter: ", errno_text(-submitted));
      }
      io_uring_cqe* cqe = nullptr;
      while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
        const auto slot = static_cast<uint32_t>(io_uring_cqe_get_data64(cqe));
        const int result = cqe->res;
        io_uring_cqe_seen(&ring_, cqe);
        --under_way;
        try {
          more = more && window.add(blocks.read_bytes(result, offsets[slot]));
        } catch (const Error&) {
          failure = std::current_exception();
          more = false;
        }
        if (!more) continue;
        start(slot);
        ++under_way;
      }
    }
    if (failure) std::rethrow_exception(failure);
    return window.bytes_per_second();
  }

 private:
  io_uring ring_{};
  int error_ = 0;
};

double read_with_threads(const DiskRead& task, Blocks& blocks, Slab& memory) {
  Window window(task.ramp_seconds, task.seconds);
  std::mutex mutex;  // of everything below, and the places
  bool more = true;
  std::exception_ptr failure;
  const auto reader = [&](uint32_t slot) {
    std::unique_lock lock(mutex);
    while (more) {
      const uint64_t offset = blocks.next_offset();
      lock.unlock();
      const ssize_t n = pread(blocks.file().fd(), memory.data() + slot * task.block_bytes,
                              task.block_bytes, static_cast<off_t>(offset));
      const int64_t result = n < 0 ? -errno : n;
      lock.lock();
      try {
        more = window.add(blocks.read_bytes(result, offset)) && more;
      } catch (const Error&) {
        failure = std::current_exception();
        more = false;
      }
    }
  };
  {
    std::vector<std::jthread> others;
    for (uint32_t slot = 1; slot < task.depth; ++slot) others.emplace_back(reader, slot);
    reader(0);
  }
  if (failure) std::rethrow_exception(failure);
  return window.bytes_per_second();
}

}  // namespace

Seconds seconds_on(uint32_t threads, const std::function<void(uint32_t)>& work) {
  std::vector<double> own(threads);
  std::vector<Clock::time_point> begin(threads), end(threads);
  std::latch all_there(threads);
  const auto timed = [&](uint32_t t) {
    all_there.arrive_and_wait();
    begin[t] = Clock::now();
    const double start = own_seconds();
    work(t);
    own[t] = own_seconds() - start;
    end[t] = Clock::now();
  };
  {
    std::vector<std::jthread> others;
    for (uint32_t t = 1; t < threads; ++t) others.emplace_back(timed, t);
    timed(0);
  }
  const auto wall =
      *std::max_element(end.begin(), end.end()) - *std::min_element(begin.begin(), begin.end());
  return {.wall = std::chrono::duration<double>(wall).count(),
          .own = *std::max_element(own.begin(), own.end())};
}

void read_plainly(std::span<const std::byte> bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return read_with<Load64>(bytes);
  if (__builtin_cpu_supports("avx2")) return read_with<Load32>(bytes);
  read_with<Load16>(bytes);
#else
  read_with<Load8>(bytes);
#endif
}

Seconds read_plainly_on(uint32_t threads, std::span<const std::byte> bytes) {
  const size_t lines = bytes.size() / kLine;
  return seconds_on(threads, [&](uint32_t t) {
    const size_t begin = lines * t / threads, end = lines * (t + 1) / threads;
    read_plainly(bytes.subspan(begin * kLine, (end - begin) * kLine));
  });
}

double memory_read_rate(std::span<const std::byte> bytes, uint32_t threads, uint32_t rounds) {
  read_plainly_on(threads, bytes);
  std::vector<double> rates;
  for (uint32_t round = 0; round < rounds; ++round) {
    rates.push_back(static_cast<double>(bytes.size()) / 1e9 / read_plainly_on(threads, bytes).wall);
  }
  return median(rates);
}

uint64_t last_cache_bytes() {
  for (const int name : {_SC_LEVEL4_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE}) {
    if (const long bytes = sysconf(name); bytes > 0) return static_cast<uint64_t>(bytes);
  }
  return uint64_t{32} << 20;
}

Window::Window(double ramp_seconds, double seconds) {
  const auto in = [](double time) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(time));
  };
  begin_ = Clock::now() + in(ramp_seconds);
  end_ = begin_ + in(seconds);
}

bool Window::add(uint64_t bytes) {
  const Time now = Clock::now();
  if (now < begin_) return true;
  if (started_) {
    bytes_ += bytes;
    last_ = now;
  } else {
    started_ = true;
    first_ = last_ = now;
  }
  return now < end_ || bytes_ == 0;
}

double Window::bytes_per_second() const {
  const double seconds = std::chrono::duration<double>(last_ - first_).count();
  return seconds > 0 ? static_cast<double>(bytes_) / seconds : 0;
}

double disk_read_rate(const DiskRead& task) {
  Blocks blocks(task);
  Slab memory(task.depth * task.block_bytes);
  // Touched before the clock runs.
  std::fill(memory.bytes().begin(), memory.bytes().end(), std::byte{0});
  Ring ring(task.depth);
  return (ring.usable() ? ring.read(task, blocks, memory)
                        : read_with_threads(task, blocks, memory)) /
         1e9;
}

}  // namespace sluice::bench
