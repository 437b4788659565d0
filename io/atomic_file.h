// AtomicFile: a file that appears under its name whole, or not at all.
//
// Bytes go to "<path>.<process>-<number>.partial" beside it. commit() makes them durable (fsync),
// gives them their name (rename) and makes the name durable (fsync of the directory). An AtomicFile
// destroyed before commit() removes what it wrote; a process killed before it leaves a .partial
// file, which no reader of Sluice looks at, and whatever was at the path as it was. Threads: one;
// write_at() may run in several at once, with each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "io/posix_file.h"

namespace sluice {

class AtomicFile {
 public:
  // Throws Error: the directory does not exist or may not be written to.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::string& path() const { return path_; }
  // Appends. Throws Error naming the path and how much was written: disk full, quota, device.
  void write(std::span<const std::byte> bytes);
  // Puts bytes at an offset, which moves nothing that write() does; a file that is written in this
  // way is as long as the furthest byte, and what nobody wrote is zero. Throws Error likewise.
  void write_at(std::span<const std::byte> bytes, uint64_t offset);
  // Waits until what was written is on its way out of memory and drops it from the page cache, so
  // that a large file neither fills memory nor makes commit() wait long. A failure is commit()'s to
  // tell.
  void flush() noexcept;
  // Requires: not committed yet. Throws Error; the path then still holds what it held.
  void commit();

 private:
  std::string path_;
  std::string partial_path_;  // empty once committed
  FileDescriptor fd_;
  uint64_t written_bytes_ = 0;
  int flush_error_ = 0;  // the first errno of flush()
};

// Writes a whole file of text in this way. Throws Error.
void write_text_file(const std::string& path, std::string_view text);

}  // namespace sluice
