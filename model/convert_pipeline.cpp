#include "model/convert_pipeline.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "cache/slab.h"
#include "io/check.h"
#include "io/coalesce.h"
#include "io/direct_file.h"
#include "io/error.h"
#include "model/channel.h"
#include "model/convert_encode.h"
#include "model/convert_jobs.h"
#include "model/convert_shard.h"
#include "model/machine.h"
#include "model/plan.h"
#include "model/workers.h"

namespace sluice {

namespace {

// One being read, one being encoded, one being written, one on its way.
constexpr uint64_t kBatches = 4;
// Beyond this a batch gains nothing: reading it takes many times a read's latency, encoding it many
// times a barrier's.
constexpr uint64_t kMaxBatchBytes = uint64_t{64} << 20;
// Pieces of 1 MiB at the device at once.
constexpr uint32_t kReadDepth = 32;
// What the process grows by beside what is counted: the ring, stacks, the allocator's slack.
constexpr uint64_t kSlackBytes = 16 << 20;

struct Batch {
  explicit Batch(uint64_t bytes) : memory(bytes) {}

  Slab memory;  // what is read, then what is encoded
  uint32_t shard = 0;
  bool last_of_shard = false;
  std::vector<ConvertJob> jobs;
  std::vector<JobBytes> job_bytes;
  uint64_t out_offset = 0;
  uint64_t read_bytes = 0;
  std::deque<std::vector<std::byte>> tables;
  std::vector<ConvertWrite> writes;
  std::vector<MatrixReport> reports;
};

using BatchChannel = Channel<std::unique_ptr<Batch>>;

uint64_t out_buffer_bytes(const ConvertJob& job) {
  return (job.out_bytes + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
}

uint64_t batch_bytes(const ConvertJob& job) { return job.buffer_bytes() + out_buffer_bytes(job); }

// Around the jobs' bytes: alignment between the halves, and what a vector load may touch behind.
constexpr uint64_t kBatchOverhead = 3 * kReadAlignment;

// The three threads' common state.
class Pipeline {
 public:
  Pipeline(const Checkpoint& checkpoint, const ConvertPlan& plan, std::span<const uint32_t> shards,
           const std::filesystem::path& directory, const PipelineOptions& options,
           const PipelineEvents& events)
      : checkpoint_(checkpoint),
        plan_(plan),
        shards_(shards),
        directory_(directory),
        options_(options),
        events_(events),
        workers_(options.threads) {}

  void run() {
    make_batches();
    std::thread reader([this] { guard([this] { read_all_shards(); }); });
    std::thread writer([this] { guard([this] { write_all(); }); });
    guard([this] { encode_all(); });
    reader.join();
    encoded_.close();
    writer.join();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  // Nothing throws across a thread: the first failure is kept, and the channels end the others.
  template <class Body>
  void guard(Body body) {
    try {
      body();
    } catch (...) {
      {
        const std::lock_guard lock(failure_mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
      for (BatchChannel* channel : {&free_, &read_, &encoded_}) channel->abandon();
    }
  }

  // ---- memory

  void make_batches() {
    uint64_t largest = 0;
    uint32_t widest = 0;
    for (const uint32_t shard : shards_) {
      for (const ConvertJob& job : shard_jobs(plan_, plan_.shards[shard])) {
        largest = std::max(largest, batch_bytes(job) + kBatchOverhead);
        total_bytes_ += job.read_bytes();
      }
    }
    for (const PlannedMatrix& matrix : plan_.matrices) widest = std::max(widest, matrix.cols);
    for (const PlannedRecords& records : plan_.records) {
      for (const PlannedMatrix& matrix : records.projections) {
        widest = std::max(widest, matrix.cols);
      }
    }
    const uint64_t fixed =
        resident_bytes() + kSlackBytes + ConvertEncoder::scratch_bytes(widest, options_.threads);
    const uint64_t room = options_.memory_bytes > fixed ? options_.memory_bytes - fixed : 0;
    if (room < largest) {
      throw Error("--memory-gb: ", bytes_text(options_.memory_bytes),
                  " are too few: ", bytes_text(fixed), " are needed anyway and ",
                  bytes_text(largest), " for the largest piece of work; allow ",
                  bytes_text(fixed + largest));
    }
    batch_bytes_ = std::max(std::min(room / kBatches, kMaxBatchBytes), largest);
    const uint64_t count = std::clamp<uint64_t>(room / batch_bytes_, 1, kBatches);
    for (uint64_t i = 0; i < count; ++i) free_.put(std::make_unique<Batch>(batch_bytes_));
  }

  // ---- reading

  void read_all_shards() {
    const std::unique_ptr<ReadQueue> queue = make_read_queue(options_.backend, kReadDepth);
    for (const uint32_t shard : shards_) {
      const std::vector<ConvertJob> jobs = shard_jobs(plan_, plan_.shards[shard]);
      size_t next = 0;
      do {
        std::optional<std::unique_ptr<Batch>> batch = free_.take();
        if (!batch) return;
        (*batch)->shard = shard;
        next = fill(**batch, jobs, next);
        (*batch)->last_of_shard = next == jobs.size();
        read(**batch, *queue);
        read_.put(std::move(*batch));
      } while (next < jobs.size());
    }
    read_.close();
  }

  // Takes jobs from `next` on; returns the first that did not fit. A shard may have none.
  size_t fill(Batch& batch, std::span<const ConvertJob> jobs, size_t next) const {
    batch.jobs.clear();
    uint64_t used = kBatchOverhead;
    while (next < jobs.size() && used + batch_bytes(jobs[next]) <= batch_bytes_) {
      used += batch_bytes(jobs[next]);
      batch.jobs.push_back(jobs[next++]);
    }
    SLUICE_CHECK(!batch.jobs.empty() || jobs.empty());
    return next;
  }

  void read(Batch& batch, ReadQueue& queue) {
    std::vector<FileSlice> slices;
    for (const ConvertJob& job : batch.jobs) {
      slices.insert(slices.end(), job.slices.begin(), job.slices.begin() + job.slice_count);
    }
    const ReadPlan plan = coalesce(slices);
    std::vector<uint64_t> places;
    std::vector<ReadRequest> requests;
    uint64_t at = 0;
    for (const Extent& extent : plan.extents) {
      places.push_back(at);
      requests.push_back({.file = &file(extent.file),
                          .offset = extent.offset,
                          .size_bytes = extent.size_bytes,
                          .needed_bytes = extent.needed_bytes,
                          .destination = batch.memory.data() + at,
                          .tag = requests.size()});
      at += extent.size_bytes;
    }
    batch.out_offset = at + kReadAlignment;  // a vector load behind the last slice stays here
    SLUICE_CHECK(batch.out_offset <= batch_bytes_);
    if (!requests.empty()) sluice::read_all(queue, requests);
    batch.job_bytes.assign(batch.jobs.size(), {});
    batch.read_bytes = 0;
    size_t slice = 0;
    for (size_t i = 0; i < batch.jobs.size(); ++i) {
      for (uint32_t s = 0; s < batch.jobs[i].slice_count; ++s, ++slice) {
        const SlicePlace& place = plan.places[slice];
        batch.job_bytes[i][s] = batch.memory.data() + places[place.extent] + place.inner_offset;
        batch.read_bytes += slices[slice].size_bytes;
      }
    }
  }

  const DirectFile& file(uint32_t index) {
    std::unique_ptr<DirectFile>& opened = files_[index];
    if (!opened) {
      opened = std::make_unique<DirectFile>(checkpoint_.files()[index]);
      if (opened->size_bytes() != checkpoint_.file_bytes()[index]) {
        throw Error(opened->path(), ": is ", opened->size_bytes(), " bytes now and was ",
                    checkpoint_.file_bytes()[index], "; the source must not change meanwhile");
      }
    }
    return *opened;
  }

  // ---- encoding

  void encode_all() {
    ConvertEncoder encoder(plan_, *options_.kernels, workers_);
    uint64_t done = 0;
    bool first_of_shard = true;
    while (std::optional<std::unique_ptr<Batch>> taken = read_.take()) {
      if (events_.should_stop && events_.should_stop()) throw ConvertStopped{};
      Batch& batch = **taken;
      const PlannedShard& shard = plan_.shards[batch.shard];
      batch.writes.clear();
      batch.tables.clear();
      batch.reports.clear();
      if (first_of_shard) encoder.tables(shard, batch.tables, batch.writes);
      encoder.encode(shard, batch.jobs, batch.job_bytes,
                     batch.memory.bytes().subspan(batch.out_offset), batch.writes);
      first_of_shard = batch.last_of_shard;
      if (batch.last_of_shard) batch.reports = encoder.take_reports();
      done += batch.read_bytes;
      if (events_.progress) events_.progress(done, total_bytes_);
      encoded_.put(std::move(*taken));
    }
  }

  // ---- writing

  void write_all() {
    std::optional<ConvertShard> shard;
    while (std::optional<std::unique_ptr<Batch>> taken = encoded_.take()) {
      Batch& batch = **taken;
      if (!shard) {
        shard.emplace(plan_, plan_.shards[batch.shard], directory_, options_.metadata);
      }
      for (const ConvertWrite& write : batch.writes) shard->write(write);
      if (batch.last_of_shard) {
        shard->finish();
        shard.reset();
        if (events_.shard_finished) events_.shard_finished(batch.shard, batch.reports);
      }
      free_.put(std::move(*taken));
    }
  }

  const Checkpoint& checkpoint_;
  const ConvertPlan& plan_;
  std::span<const uint32_t> shards_;
  const std::filesystem::path& directory_;
  const PipelineOptions& options_;
  const PipelineEvents& events_;
  Workers workers_;
  uint64_t total_bytes_ = 0;
  uint64_t batch_bytes_ = 0;
  std::map<uint32_t, std::unique_ptr<DirectFile>> files_;  // the reader's
  BatchChannel free_, read_, encoded_;
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
};

}  // namespace

void run_conversion(const Checkpoint& checkpoint, const ConvertPlan& plan,
                    std::span<const uint32_t> shards, const std::filesystem::path& directory,
                    const PipelineOptions& options, const PipelineEvents& events) {
  if (shards.empty()) return;
  Pipeline(checkpoint, plan, shards, directory, options, events).run();
}

}  // namespace sluice
