#include "model/convert_encode.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "io/check.h"
#include "io/error.h"
#include "kernels/tiles.h"

namespace sluice {

namespace {

uint64_t round_up(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Everything of a record that is no part of it: the bytes of a file never depend on memory.
void clear_gaps(const RecordTable& table, std::byte* record) {
  uint64_t end = 0;
  const auto part = [&](const RecordPart& next) {
    if (next.size_bytes == 0) return;
    std::memset(record + end, 0, next.offset - end);
    end = next.offset + next.size_bytes;
  };
  for (const RecordProjection& projection : table.projections) {
    part(projection.data);
    part(projection.scales);
    part(projection.bias);
  }
  std::memset(record + end, 0, table.record_bytes - end);
}

uint64_t words_row_bytes(const PlannedMatrix& matrix) {
  return words_per_row(matrix.cols, matrix.codebook_length) * 4;
}

}  // namespace

struct ConvertEncoder::Scratch {
  std::vector<float> values;     // [rows of a task, cols]
  std::vector<float> rotated;    // [cols]
  std::vector<uint8_t> indices;  // [rows of a tile, cols]
};

ConvertEncoder::ConvertEncoder(const ConvertPlan& plan, const kernels::Table& table,
                               Workers& workers)
    : plan_(plan), table_(table), workers_(workers) {
  for (uint32_t i = 0; i < workers.threads(); ++i) scratch_.push_back(std::make_unique<Scratch>());
}

ConvertEncoder::~ConvertEncoder() = default;

uint64_t ConvertEncoder::scratch_bytes(uint32_t cols, uint32_t threads) {
  const uint64_t values = uint64_t{encode_rows_per_task(cols)} * cols;
  // The values twice: those of a matrix in columns are transposed before they become floats.
  return threads * (2 * values * sizeof(float) + uint64_t{cols} * (4 + kernels::kRowsPerTile));
}

const ConvertEncoder::MatrixCodec& ConvertEncoder::codec_of(const PlannedMatrix& matrix) {
  std::unique_ptr<MatrixCodec>& made = codecs_[&matrix];
  if (!made) {
    made = std::make_unique<MatrixCodec>();
    made->signs.resize(matrix.cols);
    kernels::random_signs(matrix.sign_seed, matrix.cols, made->signs.data());
    made->codec = kernels::make_codec(matrix.cols, matrix.group, matrix.codebook_length,
                                      made->signs.data(), kernels::ScaleRule::search);
  }
  return *made;
}

void ConvertEncoder::tables(const PlannedShard& shard, std::deque<std::vector<std::byte>>& kept,
                            std::vector<ConvertWrite>& writes) {
  for (const PlannedItem& item : shard.items) {
    uint32_t tensor = item.first_tensor;
    const PlannedMatrix* matrix = nullptr;
    if (item.kind == PlannedItem::Kind::tables) {
      matrix = &plan_.records[item.index].projections[item.projection];
    } else if (item.kind == PlannedItem::Kind::matrix) {
      matrix = &plan_.matrices[item.index];
      tensor += 2;  // behind the weight and its scales
    } else {
      continue;
    }
    std::vector<float> codebook = matrix->sources[0].codebook();
    std::vector<float> signs(matrix->cols, 1.0f);
    if (matrix->quantized) {
      const std::span<const float> centroids = kernels::gaussian_centroids(matrix->codebook_length);
      codebook.assign(centroids.begin(), centroids.end());
      signs = codec_of(*matrix).signs;
    } else if (matrix->sources[0].signs() != nullptr) {
      signs = *matrix->sources[0].signs();
    }
    for (const std::vector<float>* values : {&codebook, &signs}) {
      std::vector<std::byte>& bytes = kept.emplace_back(values->size() * 2);
      table_.to_f16(values->data(), values->size(), bytes.data());
      writes.push_back({tensor++, std::nullopt, 0, bytes});
    }
  }
}

void ConvertEncoder::encode(const PlannedShard& shard, std::span<const ConvertJob> jobs,
                            std::span<const JobBytes> bytes, std::span<std::byte> out,
                            std::vector<ConvertWrite>& writes) {
  tasks_.clear();
  uint64_t at = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const ConvertJob& job = jobs[i];
    const PlannedItem& item = shard.items[job.item];
    if (job.kind == ConvertJob::Kind::copy) {
      writes.push_back({item.first_tensor,
                        std::nullopt,
                        job.begin,
                        {bytes[i][0], static_cast<size_t>(job.end - job.begin)}});
      continue;
    }
    SLUICE_CHECK(at + job.out_bytes <= out.size());
    std::byte* to = out.data() + at;
    at = round_up(at + job.out_bytes, kPartAlignment);
    if (job.kind == ConvertJob::Kind::record) {
      add_record(plan_.records[item.index], job, bytes[i], to);
      writes.push_back({item.first_tensor, job.expert, 0, {to, job.out_bytes}});
      continue;
    }
    const PlannedMatrix& matrix = plan_.matrices[item.index];
    const uint64_t row_bytes = words_row_bytes(matrix);
    const uint64_t row_scale_bytes = uint64_t{matrix.cols / matrix.group} * 2;
    const uint64_t rows = job.end - job.begin;
    const uint64_t first_row = uint64_t{job.expert} * matrix.rows + job.begin;
    Task task;
    task.matrix = &matrix;
    task.source = &matrix.sources[job.expert];
    task.codec = &codec_of(matrix);
    task.expert = job.expert;
    task.bytes = {bytes[i][0], bytes[i][1]};
    task.data = to;
    task.scales = to + rows * row_bytes;
    writes.push_back(
        {item.first_tensor, std::nullopt, first_row * row_bytes, {task.data, rows * row_bytes}});
    writes.push_back({item.first_tensor + 1,
                      std::nullopt,
                      first_row * row_scale_bytes,
                      {task.scales, rows * row_scale_bytes}});
    add_tasks(task, static_cast<uint32_t>(job.begin), static_cast<uint32_t>(job.end));
  }
  workers_.run(static_cast<uint32_t>(tasks_.size()),
               [&](uint32_t task, uint32_t worker) { run(tasks_[task], *scratch_[worker]); });
  finish_tasks();
}

void ConvertEncoder::add_record(const PlannedRecords& records, const ConvertJob& job,
                                const JobBytes& bytes, std::byte* record) {
  clear_gaps(records.table, record);
  size_t slice = 0;
  for (size_t i = 0; i < records.projections.size(); ++i) {
    const PlannedMatrix& matrix = records.projections[i];
    const RecordProjection& form = records.table.projections[i];
    Task task;
    task.matrix = &matrix;
    task.source = &matrix.sources[job.expert];
    task.codec = matrix.quantized ? &codec_of(matrix) : nullptr;
    task.expert = job.expert;
    task.tiles = form.layout == MatrixLayout::tiles;
    for (uint32_t s = 0; s < task.source->slices(0, 1).count; ++s) task.bytes[s] = bytes[slice++];
    task.data = record + form.data.offset;
    task.scales = record + form.scales.offset;
    add_tasks(task, 0, matrix.rows);
  }
}

// whole: data, scales and bytes of row begin.
void ConvertEncoder::add_tasks(Task whole, uint32_t begin, uint32_t end) {
  const PlannedMatrix& matrix = *whole.matrix;
  const uint32_t step = encode_rows_per_task(matrix.cols);
  for (uint32_t row = begin; row < end; row += std::min(step, end - row)) {
    Task task = whole;
    task.begin = row;
    task.end = row + std::min(step, end - row);
    task.bytes = whole.source->skip_rows(whole.bytes, begin, row);
    const uint32_t before = row - begin;
    if (matrix.codebook_length == 0) {
      task.data += uint64_t{before} * whole.source->row_bytes();
    } else if (whole.tiles) {
      task.data += kernels::tile_bytes(before, matrix.cols, matrix.codebook_length);
      task.scales += kernels::tile_scale_bytes(before, matrix.cols, matrix.group);
    } else {
      task.data += before * words_row_bytes(matrix);
      task.scales += uint64_t{before} * (matrix.cols / matrix.group) * 2;
    }
    tasks_.push_back(task);
  }
}

void ConvertEncoder::run(Task& task, Scratch& scratch) const {
  if (task.codec == nullptr) {
    move_rows(task);
  } else {
    encode_rows(task, scratch);
  }
}

void ConvertEncoder::move_rows(const Task& task) const {
  const PlannedMatrix& matrix = *task.matrix;
  const uint64_t rows = task.end - task.begin;
  if (task.source->kind() == SourceMatrix::Kind::plain) {
    task.source->copy_rows(task.begin, task.end, task.bytes, task.data);
  } else if (task.tiles) {
    kernels::pack_tiles({.rows = static_cast<uint32_t>(rows),
                         .cols = matrix.cols,
                         .group = matrix.group,
                         .length = matrix.codebook_length},
                        task.bytes[0], task.bytes[1], task.data, task.scales);
  } else {
    std::memcpy(task.data, task.bytes[0], rows * words_row_bytes(matrix));
    std::memcpy(task.scales, task.bytes[1], rows * (matrix.cols / matrix.group) * 2);
  }
}

void ConvertEncoder::encode_rows(Task& task, Scratch& scratch) const {
  const PlannedMatrix& matrix = *task.matrix;
  const kernels::Codec& codec = task.codec->codec;
  const uint32_t rows = task.end - task.begin;
  scratch.values.resize(std::max(scratch.values.size(), size_t{rows} * matrix.cols));
  scratch.rotated.resize(std::max<size_t>(scratch.rotated.size(), matrix.cols));
  scratch.indices.resize(
      std::max(scratch.indices.size(), size_t{kernels::kRowsPerTile} * matrix.cols));
  task.source->to_f32(table_, task.begin, task.end, task.bytes, scratch.values.data());
  const uint32_t encoded = task.tiles
                               ? kernels::encode_tiles(codec, table_, scratch.values.data(), rows,
                                                       {.values = scratch.rotated.data(),
                                                        .indices = scratch.indices.data(),
                                                        .codes = task.data,
                                                        .scales = task.scales},
                                                       &task.error)
                               : kernels::encode_rows(codec, table_, scratch.values.data(), rows,
                                                      {.values = scratch.rotated.data(),
                                                       .indices = scratch.indices.data(),
                                                       .words = task.data,
                                                       .scales = task.scales},
                                                      &task.error);
  if (encoded < rows) task.failed_row = task.begin + encoded;
}

// Added task by task, so that the rounding does not depend on where a batch ends.
void ConvertEncoder::finish_tasks() {
  for (const Task& task : tasks_) {
    const PlannedMatrix& matrix = *task.matrix;
    if (task.failed_row) {
      throw Error("tensor ", task.source->name(), matrix.stacked ? ", expert " : "",
                  matrix.stacked ? std::to_string(task.expert) : std::string(), ", row ",
                  *task.failed_row,
                  ": holds infinities, NaN, or values too large for an F16 scale; is the "
                  "checkpoint damaged?");
    }
    if (task.codec == nullptr) continue;
    std::vector<ErrorSum>& sums = errors_[&matrix];
    sums.resize(matrix.sources.size());
    sums[task.expert].add({task.error.error, task.error.size});
  }
}

std::vector<MatrixReport> ConvertEncoder::take_reports() {
  std::vector<MatrixReport> reports;
  for (const auto& [matrix, sums] : errors_) {
    MatrixReport& report = reports.emplace_back();
    report.path = matrix->path;
    report.layer = matrix->layer;
    report.codebook_length = matrix->codebook_length;
    report.experts = static_cast<uint32_t>(sums.size());
    for (uint32_t expert = 0; expert < sums.size(); ++expert) report.add(expert, sums[expert]);
  }
  std::sort(reports.begin(), reports.end(),
            [](const MatrixReport& a, const MatrixReport& b) { return a.path < b.path; });
  errors_.clear();
  codecs_.clear();
  return reports;
}

}  // namespace sluice
