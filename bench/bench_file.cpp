#include "bench/bench_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "io/error.h"

namespace sluice::bench {
namespace {

// SplitMix64: one multiply-and-shift chain per word, any position at once.
uint64_t word_at(uint64_t position) {
  uint64_t z = (position + 1) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Writes all of bytes at offset.
void write_at(int fd, const std::string& path, const char* bytes, uint64_t size_bytes,
              uint64_t offset) {
  while (size_bytes > 0) {
    const ssize_t written = pwrite(fd, bytes, size_bytes, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    // ENOSPC: --file-mb asks for more than the filesystem has left. EIO: the device.
    if (written < 0)
      throw Error(path, ": cannot write at offset ", offset, ": ", errno_text(errno));
    bytes += written;
    size_bytes -= static_cast<uint64_t>(written);
    offset += static_cast<uint64_t>(written);
  }
}

class OpenFile {
 public:
  OpenFile(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (fd_ < 0) throw Error(path, ": cannot open: ", errno_text(errno));
  }
  ~OpenFile() { close(fd_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }

  // Everything to disk and out of the page cache: what is then read comes from the device.
  void settle(const std::string& path) const {
    if (fdatasync(fd_) != 0) throw Error(path, ": fdatasync: ", errno_text(errno));
    posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  }

 private:
  int fd_;
};

}  // namespace

BenchDirectory::BenchDirectory(const std::filesystem::path& parent) {
  std::string pattern = (parent / "sluice-bench-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) {
    throw Error(parent.string(), ": cannot make a directory: ", errno_text(errno));
  }
  path_ = pattern;
}

BenchDirectory::~BenchDirectory() {
  std::error_code ignored;  // a destructor has nobody to tell
  std::filesystem::remove_all(path_, ignored);
}

void fill_random(uint64_t first_word, std::span<uint64_t> words) {
  for (size_t i = 0; i < words.size(); ++i) words[i] = word_at(first_word + i);
}

BenchFile::BenchFile(const std::filesystem::path& parent, const std::string& name,
                     uint64_t size_bytes)
    : directory_(parent), path_((directory_.path() / name).string()), size_bytes_(size_bytes) {
  const OpenFile file(path_, O_WRONLY | O_CREAT);
  constexpr uint64_t kChunkWords = uint64_t{1} << 19;
  std::vector<uint64_t> chunk(kChunkWords);
  for (uint64_t offset = 0; offset < size_bytes; offset += kChunkWords * sizeof(uint64_t)) {
    fill_random(offset / sizeof(uint64_t), chunk);
    const uint64_t length = std::min(kChunkWords * sizeof(uint64_t), size_bytes - offset);
    write_at(file.fd(), path_, reinterpret_cast<const char*>(chunk.data()), length, offset);
  }
  file.settle(path_);
}

void BenchFile::overwrite_start(const std::string& bytes) {
  const OpenFile file(path_, O_WRONLY);
  write_at(file.fd(), path_, bytes.data(), bytes.size(), 0);
  file.settle(path_);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace sluice::bench
