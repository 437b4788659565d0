// BenchFile: a big file of pseudo-random bytes to read from, in a directory of its own that goes
// with it.
//
// The bytes depend on the position alone, are the same in every run, and compress badly. They are
// on disk and out of the page cache before the constructor returns.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace sluice::bench {

// A directory of its own, which goes with everything in it.
class BenchDirectory {
 public:
  // Throws Error: parent cannot be written.
  explicit BenchDirectory(const std::filesystem::path& parent);
  ~BenchDirectory();
  BenchDirectory(const BenchDirectory&) = delete;
  BenchDirectory& operator=(const BenchDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Pseudo-random words: those of the positions from first_word on, the same in every run.
void fill_random(uint64_t first_word, std::span<uint64_t> words);

class BenchFile {
 public:
  // Throws Error: the directory cannot be written, or is full.
  BenchFile(const std::filesystem::path& parent, const std::string& name, uint64_t size_bytes);

  const std::filesystem::path& directory() const { return directory_.path(); }
  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // Overwrites bytes from the file's start. Throws Error.
  void overwrite_start(const std::string& bytes);

 private:
  BenchDirectory directory_;
  std::string path_;
  uint64_t size_bytes_;
};

// Requires: not empty.
double median(std::vector<double> values);

}  // namespace sluice::bench
