// SafetensorsWriter: writes one safetensors file, whole or not at all.
//
// The tensors are declared first (so that the header is known), then written in that order, into an
// AtomicFile: the path holds what it held before until finish() has everything on disk, and a
// writer destroyed before finish() leaves nothing behind. Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/atomic_file.h"
#include "io/safetensors.h"

namespace sluice {

class SafetensorsWriter {
 public:
  struct Options {
    std::map<std::string, std::string> metadata;
    // The data buffer starts at a multiple of this (the header is padded with spaces). 8 is what
    // the reference writer does; Sluice's records ask for 4096.
    uint32_t data_alignment = 8;  // > 0
  };

  // tensors: name, dtype and shape; offsets and sizes are computed here. Throws Error: the file
  // cannot be created, or no reader would accept these tensors (a name twice, not UTF-8, sizes past
  // 2^64).
  SafetensorsWriter(std::string path, std::vector<TensorInfo> tensors, const Options& options);

  // The bytes before the data buffer, length and JSON, and what they say: tensors get their sizes
  // and their offsets from the start of the file. For writers of other kinds. Throws as above.
  static std::string header(const std::string& path, std::vector<TensorInfo>& tensors,
                            const Options& options);

  // Appends bytes of the tensors in their declared order; a tensor may come in several pieces.
  // Requires: no more bytes than declared. Throws Error (disk full and the like, naming the path).
  void write(std::span<const std::byte> bytes);
  // Requires: exactly all bytes of all tensors were written. Throws Error.
  void finish();

 private:
  AtomicFile file_;
  uint64_t remaining_bytes_ = 0;
};

}  // namespace sluice
