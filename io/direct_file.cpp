#include "io/direct_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <utility>

#include "io/error.h"

namespace sluice {
namespace {

// Largest alignment that our slots and extents keep (io/coalesce.h, kReadAlignment).
constexpr uint32_t kMaxAlignment = 4096;
// Smallest that is assumed, whatever the filesystem would allow: the unit of every block device.
constexpr uint32_t kMinAlignment = 512;

uint64_t next_id() {
  static std::atomic<uint64_t> counter{0};
  return ++counter;
}

// Filesystems whose files live in the page cache itself. New kernels let them accept O_DIRECT, but
// there is no device below to be direct to.
bool lives_in_memory(int fd) {
  struct statfs status;
  if (::fstatfs(fd, &status) != 0) return false;
  const auto type = static_cast<uint64_t>(status.f_type);
  return type == TMPFS_MAGIC || type == RAMFS_MAGIC;
}

// What the filesystem demands of O_DIRECT transfers; 0 if it says that it does none. Kernels before
// 6.1, and filesystems that do not answer, leave it at 4096, which suits every device in use.
uint32_t direct_alignment(int fd) {
#ifdef STATX_DIOALIGN
  struct statx status {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0) {
    if (status.stx_dio_mem_align == 0 || status.stx_dio_offset_align == 0) return 0;
    return std::max({status.stx_dio_mem_align, status.stx_dio_offset_align, kMinAlignment});
  }
#else
  (void)fd;
#endif
  return kMaxAlignment;
}

// Reads the file's first block. Returns 0 or an errno.
int probe(int fd) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  const std::unique_ptr<void, Free> block(std::aligned_alloc(kMaxAlignment, kMaxAlignment));
  if (block == nullptr) return ENOMEM;
  ssize_t got;
  do {
    got = ::pread(fd, block.get(), kMaxAlignment, 0);
  } while (got < 0 && errno == EINTR);
  return got < 0 ? errno : 0;
}

}  // namespace

DirectFile::DirectFile(const std::string& path, bool allow_direct) : path_(path), id_(next_id()) {
  RegularFile file = open_regular_file(path);
  fd_ = std::move(file.fd);
  size_bytes_ = file.size_bytes;
  if (allow_direct) {
    direct_ = try_direct();
  } else {
    buffered_reason_ = "buffered reads were asked for";
  }
  if (!direct_) {
    alignment_ = 1;
    // Experts are read whole and in no order: read-ahead would only fetch bytes that nobody wants.
    // Advice alone; a filesystem that does not take it reads correctly all the same.
    ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_RANDOM);
  }
}

// Switches the open descriptor to O_DIRECT, or leaves it as it was and says why in
// buffered_reason_.
bool DirectFile::try_direct() {
  if (size_bytes_ == 0) {
    buffered_reason_ = "the file is empty";
    return false;
  }
  if (lives_in_memory(fd_.get())) {
    buffered_reason_ = "its filesystem keeps files in memory";
    return false;
  }
  alignment_ = direct_alignment(fd_.get());
  if (alignment_ == 0) {
    buffered_reason_ = "its filesystem does no direct I/O on it";
    return false;
  }
  if (alignment_ > kMaxAlignment || !std::has_single_bit(alignment_)) {
    buffered_reason_ = "its filesystem asks for an alignment of " + std::to_string(alignment_) +
                       " bytes; a power of two up to " + std::to_string(kMaxAlignment) +
                       " was expected";
    return false;
  }
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd_.get(), F_SETFL, flags | O_DIRECT) < 0) {
    // EINVAL: the filesystem knows no direct I/O.
    buffered_reason_ = "O_DIRECT was refused: " + errno_text(errno);
    return false;
  }
  if (const int error = probe(fd_.get()); error != 0) {
    // EINVAL, EOPNOTSUPP: accepted at open, refused at the first transfer. EIO and the rest may be
    // the device's fault; the buffered read of the same bytes will say so with its offset.
    buffered_reason_ = "a direct read of its first block failed: " + errno_text(error);
    if (::fcntl(fd_.get(), F_SETFL, flags) < 0) {
      throw Error(path_, ": cannot go back from O_DIRECT to buffered reads: ", errno_text(errno));
    }
    return false;
  }
  return true;
}

void DirectFile::forget(uint64_t offset, uint64_t size_bytes) const noexcept {
  if (direct_) return;
  ::posix_fadvise(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(size_bytes),
                  POSIX_FADV_DONTNEED);
}

}  // namespace sluice
