// ScratchLogits: logits of many positions on disk, written once from first to last and then read
// back any number of times, so that two models need not be in memory together.
//
// F32 rows [vocabulary], one behind the other, in a file without a name: it is gone with the
// process, however that ends. Its space is reserved at the start where the filesystem can.
// Threads: one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/posix_file.h"

namespace sluice {

class ScratchLogits {
 public:
  struct Shape {
    uint64_t positions = 0;
    uint32_t vocabulary = 0;
    uint64_t bytes() const { return positions * vocabulary * sizeof(float); }
  };
  // Throws Error: no file can be made in the directory, or it has no room for shape.bytes().
  ScratchLogits(std::string directory, const Shape& shape);

  // Throws Error (disk full). Requires: logits [vocabulary]; fewer than positions were added.
  void add(std::span<const float> logits);
  uint32_t vocabulary() const { return shape_.vocabulary; }
  // Rows that were added.
  uint64_t size() const { return written_ + buffered_; }
  // The row at index, valid until the next call. Throws Error. Requires: index < size().
  std::span<const float> at(uint64_t index);

 private:
  void flush();

  std::string directory_;
  Shape shape_;
  FileDescriptor file_;
  std::vector<float> rows_;  // a block of rows, being filled or as read
  uint64_t block_rows_ = 1;  // that rows_ holds
  uint64_t written_ = 0;     // rows in the file
  uint64_t buffered_ = 0;    // rows in rows_ that are not in the file yet
  uint64_t first_read_ = 0;  // rows_ holds [first_read_, first_read_ + read_) of the file
  uint64_t read_ = 0;
};

}  // namespace sluice
