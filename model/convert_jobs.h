// ConvertJobs: the work of a conversion in pieces that fit in memory, in the order of the source.
//
// A job reads a few slices of the source and fills a few ranges of one output file. Jobs depend on
// the plan alone, never on threads or memory; a batch is as many consecutive jobs of one shard as
// its memory holds.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "io/coalesce.h"
#include "model/convert_plan.h"

namespace sluice {

struct ConvertJob {
  enum class Kind : uint8_t {
    copy,    // bytes [begin, end) of a copied tensor
    rows,    // rows [begin, end) of one matrix into weight and scales
    record,  // one expert, all projections
  };
  static constexpr size_t kMaxSlices = SourceMatrix::kMaxSlices * kMaxRecordProjections;

  Kind kind = Kind::copy;
  uint32_t item = 0;    // of the shard
  uint32_t expert = 0;  // rows, record: which source
  uint64_t begin = 0;
  uint64_t end = 0;
  std::array<FileSlice, kMaxSlices> slices{};
  uint32_t slice_count = 0;
  uint64_t out_bytes = 0;  // made by encoding; copies are written as they were read

  uint64_t read_bytes() const;  // exactly
  // What reading the slices may take at most, with alignment and merged gaps.
  uint64_t buffer_bytes() const;
};

// Rows that one task encodes at a time: a multiple of 16, about 256 KiB as floats. Depends on the
// width alone, because sums of errors are rounded once per block.
uint32_t encode_rows_per_task(uint32_t cols);

// The jobs of one shard in the order of their first slices. Tables (codebook, signs) are no jobs.
std::vector<ConvertJob> shard_jobs(const ConvertPlan& plan, const PlannedShard& shard);

}  // namespace sluice
