// ConvertEncoder: turns the bytes that a batch of jobs read into the bytes that it writes.
//
// All cores work on blocks of rows of the whole batch at once. What comes out depends on the bytes
// alone: every block writes its own place, and the sums of errors are added in the jobs' order.
// Owns: codecs of the matrices at hand, scratch per thread. Borrows: the plan, the workers.
// Threads: one caller.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/codec.h"
#include "kernels/kernels.h"
#include "model/convert_jobs.h"
#include "model/convert_plan.h"
#include "model/convert_report.h"
#include "model/workers.h"

namespace sluice {

// Bytes for one place of the shard's file.
struct ConvertWrite {
  uint32_t tensor = 0;
  std::optional<uint32_t> expert;  // a whole record; else bytes of a tensor
  uint64_t offset = 0;             // in the tensor
  std::span<const std::byte> bytes;
};

// What one job read: one pointer for each of its slices. At least kernels::kOverreadBytes are
// readable behind each slice.
using JobBytes = std::array<const std::byte*, ConvertJob::kMaxSlices>;

class ConvertEncoder {
 public:
  ConvertEncoder(const ConvertPlan& plan, const kernels::Table& table, Workers& workers);
  ~ConvertEncoder();

  // Encodes jobs of one shard into out and lists what is to be written (spans of out and of what
  // was read). bytes: one for each job. out: at least the sum of the jobs' out_bytes, each rounded
  // up to kPartAlignment. Throws Error naming the tensor and the row: values that are not finite.
  void encode(const PlannedShard& shard, std::span<const ConvertJob> jobs,
              std::span<const JobBytes> bytes, std::span<std::byte> out,
              std::vector<ConvertWrite>& writes);

  // Codebooks and signs of a shard's matrices. kept: owns the bytes.
  void tables(const PlannedShard& shard, std::deque<std::vector<std::byte>>& kept,
              std::vector<ConvertWrite>& writes);

  // What the matrices encoded since the last call lost, by path. Forgets the codecs: a
  // shard is done.
  std::vector<MatrixReport> take_reports();

  // Resident memory of the scratch, in all. Requires: cols is the widest matrix.
  static uint64_t scratch_bytes(uint32_t cols, uint32_t threads);

 private:
  struct MatrixCodec {
    std::vector<float> signs;
    kernels::Codec codec;
  };
  struct Scratch;
  // Rows [begin, end) of one matrix. data, scales: of row begin.
  struct Task {
    const PlannedMatrix* matrix = nullptr;
    const SourceMatrix* source = nullptr;
    const MatrixCodec* codec = nullptr;  // null: moved
    uint32_t expert = 0;
    uint32_t begin = 0;
    uint32_t end = 0;
    bool tiles = false;
    SourceMatrix::Bytes bytes{};
    std::byte* data = nullptr;
    std::byte* scales = nullptr;
    kernels::EncodingError error;
    std::optional<uint32_t> failed_row;
  };

  const MatrixCodec& codec_of(const PlannedMatrix& matrix);
  void add_tasks(Task whole, uint32_t begin, uint32_t end);
  void add_record(const PlannedRecords& records, const ConvertJob& job, const JobBytes& bytes,
                  std::byte* record);
  void run(Task& task, Scratch& scratch) const;
  void move_rows(const Task& task) const;
  void encode_rows(Task& task, Scratch& scratch) const;
  void finish_tasks();

  const ConvertPlan& plan_;
  const kernels::Table& table_;
  Workers& workers_;
  std::vector<std::unique_ptr<Scratch>> scratch_;  // [threads]
  std::map<const PlannedMatrix*, std::unique_ptr<MatrixCodec>> codecs_;
  std::map<const PlannedMatrix*, std::vector<ErrorSum>> errors_;  // [sources]
  std::vector<Task> tasks_;
};

}  // namespace sluice
