#include "io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>

#include "io/check.h"
#include "io/error.h"

namespace sluice {
namespace {

// Linux transfers at most this in one write and shortens what is longer.
constexpr size_t kMaxTransferBytes = 0x7ffff000;

// A process killed earlier may have had our id and left its file behind; a few numbers further on
// there is a free name.
constexpr int kMaxNames = 1000;

const char* write_remedy(int error) {
  switch (error) {
    case ENOSPC:  // The filesystem is full.
      return "; free some space there or write to another directory";
    case EDQUOT:  // This user's share of the filesystem is.
      return "; the disk quota is used up: free some space or write to another directory";
    case EFBIG:  // The filesystem's, or ulimit -f's, largest file.
      return "; the file is larger than the filesystem or ulimit -f allows";
    case EROFS:   // Mounted read-only, perhaps by the kernel after an error.
    case EACCES:  // The directory forbids it.
    case EPERM:
      return "; choose a directory that this user may write to";
    case ENOENT:  // A directory on the way is missing.
      return "; create its directory first";
    case EIO:  // The device refused the block, now or when the page cache was flushed.
      return "; check the device (dmesg, smartctl)";
    default:
      return "";
  }
}

// The partial file of one path; the number makes it unique within the process.
FileDescriptor create_partial(const std::string& path, std::string& partial_path) {
  static std::atomic<uint64_t> counter{0};
  int error = 0;
  for (int attempt = 0; attempt < kMaxNames; ++attempt) {
    partial_path = path + "." + std::to_string(::getpid()) + "-" +
                   std::to_string(counter.fetch_add(1)) + ".partial";
    const int fd = ::open(partial_path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return FileDescriptor(fd);
    error = errno;
    if (error != EEXIST && error != EINTR) break;
  }
  throw Error(path, ": cannot create ", partial_path, ": ", errno_text(error), write_remedy(error));
}

// Returns 0 or an errno. After a failed fsync the kernel has dropped the pages, so that trying
// again would wrongly succeed; only EINTR, which came before any of it, is retried.
int fsync_fully(int fd) {
  while (::fsync(fd) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

void fsync_directory_of(const std::string& path) {
  std::string directory = std::filesystem::path(path).parent_path().string();
  if (directory.empty()) directory = ".";
  const FileDescriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // EINVAL: some network filesystems cannot fsync a directory; the rename itself was done.
  const int error = fd.valid() ? fsync_fully(fd.get()) : errno;
  if (error != 0 && error != EINVAL) {
    throw Error(path, ": is written, but its name cannot be made durable (fsync of ", directory,
                "): ", errno_text(error), write_remedy(error));
  }
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  fd_ = create_partial(path_, partial_path_);
}

AtomicFile::~AtomicFile() {
  if (!partial_path_.empty()) ::unlink(partial_path_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  SLUICE_CHECK(!partial_path_.empty());
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd_.get(), bytes.data(), std::min(bytes.size(), kMaxTransferBytes));
    if (put < 0) {
      const int error = errno;
      if (error == EINTR) continue;
      throw Error(path_, ": cannot write ", bytes.size(), " bytes after the first ", written_bytes_,
                  ": ", errno_text(error), write_remedy(error));
    }
    bytes = bytes.subspan(static_cast<size_t>(put));
    written_bytes_ += static_cast<uint64_t>(put);
  }
}

void AtomicFile::write_at(std::span<const std::byte> bytes, uint64_t offset) {
  SLUICE_CHECK(!partial_path_.empty());
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd_.get(), bytes.data(), std::min(bytes.size(), kMaxTransferBytes),
                                 static_cast<off_t>(offset));
    if (put < 0) {
      const int error = errno;
      if (error == EINTR) continue;
      throw Error(path_, ": cannot write ", bytes.size(), " bytes at ", offset, ": ",
                  errno_text(error), write_remedy(error));
    }
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
}

void AtomicFile::flush() noexcept {
  // The kernel reports a failed write once, here or to fsync; commit() tells it.
  const int synced = ::sync_file_range(
      fd_.get(), 0, 0,
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  const bool failed = synced != 0 && errno != ENOSYS && errno != EINVAL && errno != ESPIPE;
  if (failed && flush_error_ == 0) flush_error_ = errno;
  (void)::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
}

void AtomicFile::commit() {
  SLUICE_CHECK(!partial_path_.empty());
  const int synced = fsync_fully(fd_.get());
  if (const int error = flush_error_ != 0 ? flush_error_ : synced; error != 0) {
    throw Error(path_, ": cannot make its bytes durable (fsync): ", errno_text(error),
                write_remedy(error));
  }
  fd_.close();
  if (::rename(partial_path_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    throw Error(path_, ": cannot rename ", partial_path_, " to it: ", errno_text(error),
                write_remedy(error));
  }
  partial_path_.clear();
  fsync_directory_of(path_);
}

void write_text_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

}  // namespace sluice
