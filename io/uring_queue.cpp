// The io_uring back end: one ring, pieces submitted in batches, completions taken from shared
// memory.
//
// The ring has at least `depth` submission entries and twice as many completion entries, and never
// more than `depth` pieces are in the kernel: neither side can overflow. Reads go to registered
// files and registered buffers where the kernel granted them, which saves it looking up the file
// and pinning the pages each time.
#include <liburing.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <optional>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "io/check.h"
#include "io/coalesce.h"
#include "io/error.h"
#include "io/piece_scheduler.h"
#include "io/read_backends.h"

namespace sluice {
namespace {

using Piece = PieceScheduler::Piece;

// Files a ring remembers; a checkpoint has at most a few hundred shards, others go unregistered.
constexpr unsigned kFileSlots = 1024;
// The kernel's limit for one registered buffer.
constexpr size_t kMaxBufferBytes = size_t{1} << 30;
// And for how many.
constexpr size_t kMaxBuffers = 1 << 14;
// What a thread of its own is worth starting for, and how many of them memory has room for.
constexpr size_t kTouchedBytes = size_t{32} << 20;
constexpr size_t kMostTouching = 8;
// Pause before the kernel is asked again after it had no memory for a request.
constexpr std::chrono::milliseconds kKernelBusyPause{1};

// From the best kernel to the oldest: 6.1 runs completions in our own thread and only when we ask
// (nothing interrupts the arithmetic); 5.19 at least spares us the interrupt; 5.6 has neither.
// TASKRUN_FLAG shows in shared memory whether there is something to ask for, so that poll() costs
// no system call when nothing has arrived. R_DISABLED: the ring binds to the thread that enables
// it, which is the one that reads, not the one that made it.
constexpr unsigned kSetupFlags[] = {
    IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    0,
};

const char* setup_remedy(int error) {
  switch (error) {
    case ENOSYS:  // The kernel is older than 5.1 or was built without io_uring.
      return " (the kernel has no io_uring)";
    case EPERM:  // sysctl kernel.io_uring_disabled, or a container's seccomp profile.
    case EACCES:
      return " (forbidden by kernel.io_uring_disabled or by the container)";
    case ENOMEM:  // Before 5.12 rings count as locked memory.
      return " (raise the limit of locked memory, ulimit -l)";
    case EMFILE:  // A ring is a descriptor.
    case ENFILE:
      return " (raise the limit of open files, ulimit -n)";
    default:
      return "";
  }
}

// Whether the kernel will let this process lock so much memory.
bool may_lock(size_t bytes) {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur >= bytes) return true;
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  return syscall(SYS_capget, &header, data) == 0 && (data[0].effective >> CAP_IPC_LOCK & 1) != 0;
}

// The kernel pins memory that is registered page by page, and first clears what was never touched,
// which is most of the time that loading a model takes. All processors do that together; where that
// cannot be, the kernel still does it alone.
void touch([[maybe_unused]] std::span<std::byte> memory) {
#ifdef MADV_POPULATE_WRITE  // since Linux 5.14
  const size_t processors =
      std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMostTouching);
  const size_t parts = std::clamp<size_t>(memory.size() / kTouchedBytes, 1, processors);
  if (parts == 1) return;
  const size_t part_bytes = (memory.size() / parts / kReadAlignment + 1) * kReadAlignment;
  std::vector<std::jthread> threads;
  try {
    for (; !memory.empty(); memory = memory.subspan(std::min(part_bytes, memory.size()))) {
      const std::span<std::byte> part = memory.first(std::min(part_bytes, memory.size()));
      threads.emplace_back([part] { madvise(part.data(), part.size(), MADV_POPULATE_WRITE); });
    }
  } catch (const std::system_error&) {  // no more threads
  }
#endif
}

// Sets the ring up with the best flags that the kernel knows. Returns 0 or an errno.
int set_up(unsigned entries, io_uring& ring, unsigned& flags) {
  int error = EINVAL;
  for (const unsigned candidate : kSetupFlags) {
    io_uring_params params{};
    params.flags = candidate;
    error = -io_uring_queue_init_params(entries, &ring, &params);
    flags = candidate;
    // EINVAL: a flag that this kernel does not know (entries are in range by construction).
    if (error != EINVAL) return error;
  }
  return error;
}

bool knows_reads(io_uring& ring) {
  io_uring_probe* probe = io_uring_get_probe_ring(&ring);
  if (probe == nullptr) return false;
  const bool known = io_uring_opcode_supported(probe, IORING_OP_READ) != 0 &&
                     io_uring_opcode_supported(probe, IORING_OP_READ_FIXED) != 0;
  io_uring_free_probe(probe);
  return known;
}

class UringQueue final : public ReadQueue {
 public:
  // Takes the ring over.
  UringQueue(const io_uring& ring, unsigned flags, uint32_t depth)
      : ring_(ring), disabled_((flags & IORING_SETUP_R_DISABLED) != 0), scheduler_(depth) {
    batch_.reserve(depth);
    arrived_.reserve(depth);
    // EINVAL: sparse tables came with 5.19. EMFILE: more than ulimit -n. Files then go
    // unregistered.
    files_registered_ = io_uring_register_files_sparse(&ring_, kFileSlots) == 0;
  }

  ~UringQueue() override {
    scheduler_.abandon();
    while (scheduler_.at_device() > 0) {
      check_thread();
      wait_for_completion();
      reap();
    }
    io_uring_queue_exit(&ring_);
  }

  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;

  void submit(std::span<const ReadRequest> requests) override {
    enable();
    check_thread();
    for (const ReadRequest& request : requests) scheduler_.add(request);
    start_pieces();
  }

  size_t poll(std::span<ReadResult> results) override {
    check_thread();
    reap();
    start_pieces();
    return scheduler_.take(results);
  }

  size_t wait(std::span<ReadResult> results) override {
    SLUICE_CHECK(!results.empty() && in_flight() > 0);
    for (;;) {
      const size_t count = poll(results);
      if (count > 0) return count;
      if (scheduler_.at_device() > 0) {
        wait_for_completion();
      } else {
        const std::optional<PieceScheduler::Time> retry = scheduler_.next_retry();
        SLUICE_CHECK(retry.has_value());
        std::this_thread::sleep_until(*retry);
      }
    }
  }

  void promote(uint64_t tag) override { scheduler_.promote(tag); }
  void cancel(uint64_t tag) override { scheduler_.cancel(tag); }
  size_t in_flight() const override { return scheduler_.in_flight(); }
  ReadStatistics statistics() const override { return scheduler_.statistics(); }

  std::string description() const override {
    return buffers_.empty() ? "io_uring" : "io_uring with registered buffers";
  }

  bool register_buffer(std::span<std::byte> memory) override;
  void bounce_through(std::span<std::byte> memory) override { scheduler_.bounce_through(memory); }

 private:
  // Binds the ring to this thread, at the first submit.
  void enable() {
    if (owner_) return;
    owner_ = std::this_thread::get_id();
    if (!disabled_) return;
    // liburing 2.3 declares io_uring_enable_rings() but does not export it.
    const int result = io_uring_register(static_cast<unsigned>(ring_.ring_fd),
                                         IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    SLUICE_CHECK(result == 0);
  }

  void check_thread() const { SLUICE_CHECK(!owner_ || *owner_ == std::this_thread::get_id()); }

  static PieceScheduler::Time now() { return std::chrono::steady_clock::now(); }

  void start_pieces();
  void prepare(io_uring_sqe& sqe, const Piece& piece);
  void submit_batch();
  void withdraw_batch(int outcome);
  void reap();
  void wait_for_completion();
  std::optional<int> file_slot(const DirectFile& file);
  std::optional<int> buffer_slot(const std::byte* begin, uint64_t size_bytes) const;

  io_uring ring_;
  const bool disabled_;
  std::optional<std::thread::id> owner_;
  PieceScheduler scheduler_;
  struct Prepared {
    io_uring_sqe* sqe;
    Piece* piece;
  };
  std::vector<Prepared> batch_;  // in the order of their entries in the ring; empty between calls
  struct Arrived {
    Piece* piece;
    int outcome;
  };
  std::vector<Arrived> arrived_;  // empty between calls
  bool files_registered_ = false;
  std::unordered_map<uint64_t, int> file_slots_;  // by DirectFile::id(), which is never reused
  std::vector<iovec> buffers_;                    // registered, sorted by address
};

// Starts what the depth allows, with one system call.
void UringQueue::start_pieces() {
  const PieceScheduler::Time time = now();
  while (Piece* piece = scheduler_.start(time)) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
      // Full of withdrawn entries: the kernel still takes none.
      scheduler_.finish(piece, -EAGAIN, time);
      continue;
    }
    prepare(*sqe, *piece);
    batch_.push_back({sqe, piece});
  }
  if (io_uring_sq_ready(&ring_) > 0) submit_batch();
}

void UringQueue::prepare(io_uring_sqe& sqe, const Piece& piece) {
  const std::optional<int> file = file_slot(piece.file());
  const int fd = file.value_or(piece.file().fd());
  const auto size_bytes = static_cast<unsigned>(piece.size_bytes());
  if (const auto buffer = buffer_slot(piece.destination(), piece.size_bytes())) {
    io_uring_prep_read_fixed(&sqe, fd, piece.destination(), size_bytes, piece.offset(), *buffer);
  } else {
    io_uring_prep_read(&sqe, fd, piece.destination(), size_bytes, piece.offset());
  }
  if (file) io_uring_sqe_set_flags(&sqe, IOSQE_FIXED_FILE);
  io_uring_sqe_set_data(&sqe, const_cast<Piece*>(&piece));
}

// Hands the prepared entries to the kernel; afterwards every piece at the device is really there.
void UringQueue::submit_batch() {
  while (io_uring_sq_ready(&ring_) > 0) {
    const int submitted = io_uring_submit(&ring_);
    // EINTR: a signal came first. A positive number may be less than all: the kernel pauses behind
    // an entry that failed at once (its completion says so).
    if (submitted > 0 || submitted == -EINTR) continue;
    // EAGAIN, or none taken: no memory for a request. EBUSY: completions have overflowed and must
    // be reaped first. Both pass. EPERM, ENOSYS: a sandbox that allows rings but not their use;
    // that ends the requests.
    const bool passing = submitted == 0 || submitted == -EAGAIN || submitted == -EBUSY;
    withdraw_batch(passing ? -EAGAIN : submitted);
    break;
  }
  batch_.clear();
}

// The kernel would not take the last entries. They cannot be removed from the ring, but they are
// still ours to write: they become no-ops, and their pieces end with the outcome (EAGAIN: a retry).
void UringQueue::withdraw_batch(int outcome) {
  // Entries before the batch's are no-ops of an earlier withdrawal.
  size_t left = std::min<size_t>(io_uring_sq_ready(&ring_), batch_.size());
  for (; left > 0; --left) {
    const Prepared& prepared = batch_[batch_.size() - left];
    io_uring_prep_nop(prepared.sqe);
    io_uring_sqe_set_data(prepared.sqe, nullptr);
    scheduler_.finish(prepared.piece, outcome, now());
  }
}

// Takes all completions that have arrived, without waiting. Where pieces bounce, which takes time,
// the device gets its next ones before these are delivered and after each of them, since some
// devices tell of all that they have read at once, when nothing is left.
void UringQueue::reap() {
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
    auto* piece = static_cast<Piece*>(io_uring_cqe_get_data(cqe));
    const int outcome = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    if (piece == nullptr) continue;  // a withdrawn entry
    scheduler_.came_back(piece, now());
    arrived_.push_back({piece, outcome});
  }
  if (arrived_.empty()) return;
  start_pieces();
  for (const Arrived& arrived : arrived_) {
    if (arrived.outcome > 0) {
      const auto bytes = static_cast<uint64_t>(arrived.outcome);
      arrived.piece->deliver(bytes);
      arrived.piece->file().forget(arrived.piece->offset(), bytes);
    }
    const bool bounced = arrived.piece->bounces();
    scheduler_.finish(arrived.piece, arrived.outcome, now());
    if (bounced) start_pieces();
  }
  arrived_.clear();
}

// Sleeps in the kernel until a completion is there. Requires: a piece at the device.
void UringQueue::wait_for_completion() {
  io_uring_cqe* cqe = nullptr;
  const int error = -io_uring_wait_cqe(&ring_, &cqe);
  // EINTR: a signal woke us; the caller looks and comes back.
  if (error == 0 || error == EINTR) return;
  // EAGAIN, EBUSY: the kernel has no memory to post completions; it gets some time to find it.
  SLUICE_CHECK(error == EAGAIN || error == EBUSY);
  std::this_thread::sleep_for(kKernelBusyPause);
}

// The file's place in the ring's table, entered at its first read. The table keeps the file open
// until the ring is gone, whoever closes it: a slot never comes to mean another file.
std::optional<int> UringQueue::file_slot(const DirectFile& file) {
  if (!files_registered_) return std::nullopt;
  if (const auto entry = file_slots_.find(file.id()); entry != file_slots_.end()) {
    return entry->second;
  }
  if (file_slots_.size() == kFileSlots) return std::nullopt;
  const auto slot = static_cast<unsigned>(file_slots_.size());
  const int fd = file.fd();
  // ENOMEM, or EBADF for a descriptor that is no longer open (the read will say so): unregistered.
  if (io_uring_register_files_update(&ring_, slot, &fd, 1) != 1) return std::nullopt;
  return file_slots_.emplace(file.id(), static_cast<int>(slot)).first->second;
}

// The registered buffer that wholly holds the range, if one does.
std::optional<int> UringQueue::buffer_slot(const std::byte* begin, uint64_t size_bytes) const {
  auto next = std::upper_bound(buffers_.begin(), buffers_.end(), begin,
                               [](const std::byte* address, const iovec& buffer) {
                                 return address < static_cast<const std::byte*>(buffer.iov_base);
                               });
  if (next == buffers_.begin()) return std::nullopt;
  const iovec& buffer = *std::prev(next);
  const auto inner = static_cast<uint64_t>(begin - static_cast<const std::byte*>(buffer.iov_base));
  if (inner + size_bytes > buffer.iov_len) return std::nullopt;
  return static_cast<int>(std::prev(next) - buffers_.begin());
}

bool UringQueue::register_buffer(std::span<std::byte> memory) {
  SLUICE_CHECK(in_flight() == 0);
  check_thread();
  std::vector<iovec> buffers = buffers_;
  for (size_t at = 0; at < memory.size(); at += kMaxBufferBytes) {
    buffers.push_back({memory.data() + at, std::min(memory.size() - at, kMaxBufferBytes)});
  }
  if (buffers.size() == buffers_.size() || buffers.size() > kMaxBuffers) return false;
  size_t locked_bytes = 0;
  for (const iovec& buffer : buffers) locked_bytes += buffer.iov_len;
  if (may_lock(locked_bytes)) touch(memory);
  std::sort(buffers.begin(), buffers.end(),
            [](const iovec& a, const iovec& b) { return a.iov_base < b.iov_base; });

  // A ring has one table of buffers; a longer one replaces it.
  const auto give = [this](const std::vector<iovec>& table) {
    return io_uring_register_buffers(&ring_, table.data(), static_cast<unsigned>(table.size())) ==
           0;
  };
  if (!buffers_.empty()) io_uring_unregister_buffers(&ring_);
  // ENOMEM: more than RLIMIT_MEMLOCK allows to lock. EFAULT, EOPNOTSUPP: memory of a kind that
  // cannot be locked. Reads then pin their pages one by one.
  if (give(buffers)) {
    buffers_ = std::move(buffers);
    return true;
  }
  if (!buffers_.empty() && !give(buffers_)) buffers_.clear();
  return false;
}

}  // namespace

std::unique_ptr<ReadQueue> make_uring_queue(uint32_t depth, std::string& reason) {
  io_uring ring;
  unsigned flags = 0;
  if (const int error = set_up(depth, ring, flags); error != 0) {
    reason = "io_uring_setup: " + errno_text(error) + setup_remedy(error);
    return nullptr;
  }
  if (!knows_reads(ring)) {
    io_uring_queue_exit(&ring);
    reason = "this kernel's io_uring is too old (it has no plain reads; 5.6 brought them)";
    return nullptr;
  }
  return std::make_unique<UringQueue>(ring, flags, depth);
}

}  // namespace sluice
