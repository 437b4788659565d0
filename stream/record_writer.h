// RecordWriter: writes one file of expert records (record_format.h), whole or not at all.
//
//   RecordWriter writer(path, {{"model.layers.0.mlp.experts.records", 128, table}, ...});
//   writer.write(0, expert, record);   // each record once, in any order, from any thread
//   writer.finish();                   // checksums into the header, fsync, rename
//
// The header's length is known before the checksums are: it is written last, over the hole left for
// it, so that even the bytes of a file that was never finished are no safetensors file. Memory: the
// tables and 8 bytes per record. Threads: write() any; the rest one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/atomic_file.h"
#include "io/safetensors_writer.h"
#include "stream/record_format.h"

namespace sluice {

struct RecordTensor {
  std::string name;  // "model.layers.0.mlp.experts.records"
  uint32_t experts = 0;
  RecordTable table;
};

class RecordWriter {
 public:
  // metadata: further "__metadata__" of the file; the keys of record_format.h are added to it.
  // Throws Error: the file cannot be created, a name twice. Requires: experts > 0, tables that
  // parse_record_table() accepts.
  RecordWriter(std::string path, std::vector<RecordTensor> tensors,
               std::map<std::string, std::string> metadata = {});

  // tensor: index into tensors. record: [record_bytes] of its table, gaps and tail zero. Each
  // record once. Throws Error (disk full and the like, naming the path).
  void write(uint32_t tensor, uint32_t expert, std::span<const std::byte> record);
  // AtomicFile::flush() of what was written so far.
  void flush() noexcept { file_.flush(); }
  // Requires: every record was written, and the other threads' writes happened before. Throws
  // Error.
  void finish();

  uint64_t file_bytes() const { return file_bytes_; }
  // What the file will hold, with shapes, offsets and sizes: for the index.
  const std::vector<TensorInfo>& tensors() const { return infos_; }

 private:
  std::string header();

  AtomicFile file_;
  std::vector<RecordTensor> tensors_;
  std::map<std::string, std::string> metadata_;
  std::vector<TensorInfo> infos_;                 // [tensors]
  std::vector<std::vector<uint64_t>> checksums_;  // [tensors][experts]
  std::vector<std::vector<uint8_t>> written_;     // [tensors][experts]: bytes, as bits would race
  uint64_t file_bytes_ = 0;
};

}  // namespace sluice
