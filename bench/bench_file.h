// BenchFile: a big file of pseudo-random bytes to read from, in a directory of its own that goes
// with it.
//
// The bytes depend on the position alone, are the same in every run, and compress badly. They are
// on disk and out of the page cache before the constructor returns.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace sluice::bench {

class BenchFile {
 public:
  // Throws Error: the directory cannot be written, or is full.
  BenchFile(const std::filesystem::path& parent, const std::string& name, uint64_t size_bytes);
  ~BenchFile();
  BenchFile(const BenchFile&) = delete;
  BenchFile& operator=(const BenchFile&) = delete;

  const std::filesystem::path& directory() const { return directory_; }
  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // Overwrites bytes from the file's start. Throws Error.
  void overwrite_start(const std::string& bytes);

 private:
  std::filesystem::path directory_;
  std::string path_;
  uint64_t size_bytes_;
};

// Requires: not empty.
double median(std::vector<double> values);

}  // namespace sluice::bench
