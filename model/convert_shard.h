// ConvertShard: one output file under way, of tensors or of records.
//
// Owns: the file, which appears under its name at finish() or not at all. Threads: one.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "io/tensor_file.h"
#include "model/convert_encode.h"
#include "model/convert_plan.h"
#include "stream/record_writer.h"

namespace sluice {

class ConvertShard {
 public:
  // Throws Error: the file cannot be created.
  ConvertShard(const ConvertPlan& plan, const PlannedShard& shard,
               const std::filesystem::path& directory,
               const std::map<std::string, std::string>& metadata);

  void write(const ConvertWrite& write);
  void finish();

 private:
  std::unique_ptr<TensorFile> tensors_;
  std::unique_ptr<RecordWriter> records_;
  uint64_t unflushed_bytes_ = 0;
};

}  // namespace sluice
