#include "model/convert_jobs.h"

#include <algorithm>
#include <tuple>

namespace sluice {

namespace {

constexpr uint64_t kJobBytes = 4 << 20;      // read by one job of copying or of rows, about
constexpr uint64_t kTaskFloats = 64 * 1024;  // 256 KiB: fits the second-level cache
constexpr uint32_t kTileRows = 16;           // of the kernels' tiles

void add_slices(ConvertJob& job, const SourceMatrix& source, uint32_t begin, uint32_t end) {
  const SourceMatrix::Slices slices = source.slices(begin, end);
  for (uint32_t i = 0; i < slices.count; ++i) job.slices[job.slice_count++] = slices.places[i];
}

void add_copy_jobs(uint32_t item, const TensorInfo& tensor, std::vector<ConvertJob>& jobs) {
  for (uint64_t begin = 0; begin < tensor.size_bytes; begin += kJobBytes) {
    ConvertJob job;
    job.item = item;
    job.begin = begin;
    job.end = std::min(begin + kJobBytes, tensor.size_bytes);
    job.slices[job.slice_count++] = {tensor.file, tensor.offset + begin, job.end - begin};
    jobs.push_back(job);
  }
}

void add_matrix_jobs(uint32_t item, const PlannedMatrix& matrix, std::vector<ConvertJob>& jobs) {
  const uint64_t row_out_bytes = words_per_row(matrix.cols, matrix.codebook_length) * 4 +
                                 uint64_t{matrix.cols / matrix.group} * 2;
  const uint32_t block = encode_rows_per_task(matrix.cols);
  for (uint32_t expert = 0; expert < matrix.sources.size(); ++expert) {
    const SourceMatrix& source = matrix.sources[expert];
    const uint64_t blocks = std::max<uint64_t>(1, kJobBytes / (source.row_bytes() * block));
    // What any rows need all bytes for is read once.
    const auto rows = source.in_columns()
                          ? matrix.rows
                          : static_cast<uint32_t>(std::min<uint64_t>(blocks * block, matrix.rows));
    for (uint32_t begin = 0; begin < matrix.rows; begin += rows) {
      ConvertJob job;
      job.kind = ConvertJob::Kind::rows;
      job.item = item;
      job.expert = expert;
      job.begin = begin;
      job.end = std::min(begin + rows, matrix.rows);
      job.out_bytes = (job.end - job.begin) * row_out_bytes;
      add_slices(job, source, begin, static_cast<uint32_t>(job.end));
      jobs.push_back(job);
      if (matrix.rows - begin <= rows) break;
    }
  }
}

void add_record_jobs(uint32_t item, const PlannedRecords& records, std::vector<ConvertJob>& jobs) {
  for (uint32_t expert = 0; expert < records.experts; ++expert) {
    ConvertJob job;
    job.kind = ConvertJob::Kind::record;
    job.item = item;
    job.expert = expert;
    job.out_bytes = records.table.record_bytes;
    for (const PlannedMatrix& projection : records.projections) {
      add_slices(job, projection.sources[expert], 0, projection.rows);
    }
    jobs.push_back(job);
  }
}

}  // namespace

uint64_t ConvertJob::read_bytes() const {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < slice_count; ++i) bytes += slices[i].size_bytes;
  return bytes;
}

uint64_t ConvertJob::buffer_bytes() const {
  return read_bytes() + slice_count * (2 * kReadAlignment + kMergeGapBytes);
}

uint32_t encode_rows_per_task(uint32_t cols) {
  const uint64_t rows = kTaskFloats / std::max(cols, 1u) / kTileRows * kTileRows;
  return static_cast<uint32_t>(std::clamp<uint64_t>(rows, kTileRows, 1024));
}

std::vector<ConvertJob> shard_jobs(const ConvertPlan& plan, const PlannedShard& shard) {
  std::vector<ConvertJob> jobs;
  for (uint32_t item = 0; item < shard.items.size(); ++item) {
    const PlannedItem& planned = shard.items[item];
    switch (planned.kind) {
      case PlannedItem::Kind::copy:
        add_copy_jobs(item, *plan.copies[planned.index], jobs);
        break;
      case PlannedItem::Kind::matrix:
        add_matrix_jobs(item, plan.matrices[planned.index], jobs);
        break;
      case PlannedItem::Kind::records:
        add_record_jobs(item, plan.records[planned.index], jobs);
        break;
      case PlannedItem::Kind::tables:
        break;
    }
  }
  std::stable_sort(jobs.begin(), jobs.end(), [](const ConvertJob& a, const ConvertJob& b) {
    return std::tie(a.slices[0].file, a.slices[0].offset) <
           std::tie(b.slices[0].file, b.slices[0].offset);
  });
  return jobs;
}

}  // namespace sluice
