// ConvertPipeline: reads ahead, encodes on all cores, writes behind; in bounded memory.
//
//   reader thread            caller's thread and the workers       writer thread
//   direct reads, batch  ──> encode the batch                 ──>  positional writes, flush;
//   by batch             <── ────────── free batches ──────── <──  fsync and rename a whole shard
//
// A fixed number of batches goes round, each with memory for what it reads and what it writes. A
// failure anywhere ends all three, leaves nothing of the shard under way, and is thrown to the
// caller.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/read_queue.h"
#include "model/convert_plan.h"
#include "model/convert_report.h"

namespace sluice {

struct PipelineOptions {
  uint32_t threads = 1;
  uint64_t memory_bytes = 0;  // of the whole process
  ReadBackend backend = ReadBackend::automatic;
  const kernels::Table* kernels = nullptr;
  std::map<std::string, std::string> metadata;  // of every file
};

struct PipelineEvents {
  // Bytes of the source that were encoded, of those that these shards need. Caller's thread.
  std::function<void(uint64_t done, uint64_t total)> progress;
  // A shard is durable under its name. Writer thread, one at a time.
  std::function<void(uint32_t shard, std::span<const MatrixReport> matrices)> shard_finished;
  // Asked between batches; true ends the run with ConvertStopped.
  std::function<bool()> should_stop;
};

// Somebody asked to stop; what is finished can be resumed.
struct ConvertStopped {};

// Makes the given shards of the plan in directory, in their order. Throws Error (reads, writes,
// weights that are not finite, memory too small for one job), ConvertStopped.
void run_conversion(const Checkpoint& checkpoint, const ConvertPlan& plan,
                    std::span<const uint32_t> shards, const std::filesystem::path& directory,
                    const PipelineOptions& options, const PipelineEvents& events);

}  // namespace sluice
