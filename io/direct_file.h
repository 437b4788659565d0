// DirectFile: a file opened for O_DIRECT reads where its filesystem really does them, buffered
// where it does not.
//
// Some filesystems (tmpfs, overlayfs) accept O_DIRECT at open() and fail at the first transfer, so
// one block is read as a probe. A buffered file is read with POSIX_FADV_DONTNEED behind it
// (forget()), so that the page cache does not hold a second copy of what Sluice's own cache holds.
// Owns: the descriptor. Threads: any (reads are positional).
#pragma once

#include <cstdint>
#include <string>

#include "io/posix_file.h"

namespace sluice {

class DirectFile {
 public:
  // Throws Error naming the path: not there, not readable, not a regular file. allow_direct = false
  // opens buffered at once (tests).
  explicit DirectFile(const std::string& path, bool allow_direct = true);

  int fd() const { return fd_.get(); }
  // Never given twice in this process, unlike addresses and descriptors: what a queue may remember
  // a file by. Moves along.
  uint64_t id() const { return id_; }
  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }  // when it was opened
  bool direct() const { return direct_; }
  // Offsets, lengths and destination addresses of reads are multiples of this: what statx's
  // STATX_DIOALIGN says (the larger of its two, at least 512), else 4096; 1 when buffered. A power
  // of two ≤ 4096; a filesystem that asks for another makes the file buffered.
  uint32_t alignment() const { return alignment_; }
  // Why the file is buffered, for the start-up line; empty when direct.
  const std::string& buffered_reason() const { return buffered_reason_; }

  // Drops a range that was read from the page cache, if the file is buffered.
  void forget(uint64_t offset, uint64_t size_bytes) const noexcept;

 private:
  bool try_direct();

  std::string path_;
  FileDescriptor fd_;
  uint64_t id_ = 0;
  uint64_t size_bytes_ = 0;
  bool direct_ = false;
  uint32_t alignment_ = 1;
  std::string buffered_reason_;
};

}  // namespace sluice
