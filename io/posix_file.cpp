#include "io/posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/error.h"

namespace sluice {
namespace {

// Linux transfers at most this in one read and shortens what is longer.
constexpr size_t kMaxTransferBytes = 0x7ffff000;

const char* open_remedy(int error) {
  switch (error) {
    case ENOENT:  // No such name, or a symlink to nothing: a hub cache whose blobs/ is gone.
      return "; check the path, and that a symlink there does not point to a missing file";
    case EACCES:  // The file, or a directory above it, forbids it.
    case EPERM:
      return "; give this user permission to read it";
    case EMFILE:  // This process holds as many descriptors as `ulimit -n` allows.
    case ENFILE:  // The whole system does.
      return "; raise the limit of open files (ulimit -n)";
    case ELOOP:  // A symlink that leads back to itself.
      return "; a symlink in the path leads in a circle";
    default:
      return "";
  }
}

const char* kind_name(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISBLK(mode)) return "a block device";
  if (S_ISCHR(mode)) return "a character device";
  return "of an unknown kind";
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void FileDescriptor::close() noexcept {
  if (fd_ >= 0) ::close(fd_);  // Linux frees the descriptor even on EINTR, so never twice.
  fd_ = -1;
}

RegularFile open_regular_file(const std::string& path) {
  // O_NONBLOCK, because opening a FIFO without a writer would wait for one. It is taken back below:
  // io_uring fails reads of a non-blocking file with EAGAIN where it would otherwise wait.
  int raw;
  do {
    raw = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (raw < 0 && errno == EINTR);  // A signal during the open of a slow (network) file.
  if (raw < 0) {
    const int error = errno;
    throw Error(path, ": cannot open: ", errno_text(error), open_remedy(error));
  }
  RegularFile file{FileDescriptor(raw), 0};

  struct stat status;
  if (::fstat(raw, &status) != 0) throw Error(path, ": cannot stat: ", errno_text(errno));
  if (!S_ISREG(status.st_mode)) {
    throw Error(path, ": is ", kind_name(status.st_mode), "; expected a regular file");
  }
  const int flags = ::fcntl(raw, F_GETFL);
  if (flags < 0 || ::fcntl(raw, F_SETFL, flags & ~O_NONBLOCK) < 0) {
    throw Error(path, ": cannot change the mode of the descriptor: ", errno_text(errno));
  }
  file.size_bytes = static_cast<uint64_t>(status.st_size);
  return file;
}

void read_exactly(const FileDescriptor& fd, std::span<std::byte> bytes, uint64_t offset,
                  const std::string& path) {
  size_t done = 0;
  while (done < bytes.size()) {
    const size_t wanted = std::min(bytes.size() - done, kMaxTransferBytes);
    const ssize_t got =
        ::pread(fd.get(), bytes.data() + done, wanted, static_cast<off_t>(offset + done));
    if (got < 0) {
      const int error = errno;
      if (error == EINTR) continue;  // A signal came before the first byte.
      // EIO: the device cannot deliver the block; a copy from a failing disk stays damaged.
      throw Error(path, ": cannot read ", wanted, " bytes at offset ", offset + done, ": ",
                  errno_text(error), error == EIO ? "; check the device (dmesg, smartctl)" : "");
    }
    if (got == 0) {
      throw Error(path, ": ends at offset ", offset + done, ", expected ", bytes.size() - done,
                  " more bytes; was it cut while it was being read?");
    }
    done += static_cast<size_t>(got);
  }
}

std::string read_text_file(const std::string& path, uint64_t max_bytes) {
  const RegularFile file = open_regular_file(path);
  if (file.size_bytes > max_bytes) {
    throw Error(path, ": is ", file.size_bytes, " bytes, more than the ", max_bytes,
                " that a file of its kind may have");
  }
  std::string text(static_cast<size_t>(file.size_bytes), '\0');
  read_exactly(file.fd, std::as_writable_bytes(std::span(text)), 0, path);
  return text;
}

}  // namespace sluice
