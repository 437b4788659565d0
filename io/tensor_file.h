// TensorFile: writes one safetensors file out of order, whole or not at all.
//
// As SafetensorsWriter, but the tensors' bytes come at any place, in any order. The header is
// written last, over the hole left for it, so that even the bytes of a file that was never finished
// are no safetensors file. Memory: the names. Threads: write_at() any; the rest one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/atomic_file.h"
#include "io/safetensors_writer.h"

namespace sluice {

class TensorFile {
 public:
  // Throws Error as SafetensorsWriter's constructor.
  TensorFile(std::string path, std::vector<TensorInfo> tensors,
             const SafetensorsWriter::Options& options);

  // Bytes of tensor `index`, from `offset` in it. Requires: they lie within it. Throws Error.
  void write_at(uint32_t index, uint64_t offset, std::span<const std::byte> bytes);
  void flush() noexcept { file_.flush(); }
  // Requires: every byte was written, and the other threads' writes happened before. Throws Error.
  void finish();

 private:
  AtomicFile file_;
  std::string header_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace sluice
