// Reading ordinary files through their descriptors: what headers, indexes and configs are read
// with.
//
// The bytes of tensors do not come this way (io/read_queue.h). Threads: any; reads are positional.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace sluice {

// Owns one descriptor, closed at the end of its life.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void close() noexcept;

 private:
  int fd_ = -1;
};

struct RegularFile {
  FileDescriptor fd;
  uint64_t size_bytes = 0;  // when it was opened
};

// Opens for reading, following symlinks. Throws Error: not there, not readable, not a regular file
// (a FIFO would block, a directory cannot be read).
RegularFile open_regular_file(const std::string& path);

// Fills bytes from the file at offset. Throws Error naming path and offset: a read error, or an end
// of file before the last byte. path is for messages only.
void read_exactly(const FileDescriptor& fd, std::span<std::byte> bytes, uint64_t offset,
                  const std::string& path);

// A whole file as text. Throws Error as above, and if the file is larger than max_bytes.
std::string read_text_file(const std::string& path, uint64_t max_bytes);

}  // namespace sluice
