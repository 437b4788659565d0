// Converter: rewrites a published checkpoint as the one that streams best; all of stream-convert
// but its command line.
//
// The new directory appears under its name when everything in it is durable
// (model/model_directory_writer.h). A conversion that was killed or failed goes on where its
// journal says (model/convert_journal.h); the bytes of the result depend on the source and the
// settings alone: never on threads, memory, instruction set, or on having been resumed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "io/read_queue.h"
#include "model/convert_plan.h"
#include "model/convert_report.h"

namespace sluice {

struct ConvertOptions {
  std::filesystem::path model;
  std::filesystem::path out;
  ConvertSettings settings;
  uint32_t threads = 0;  // 0: all there are
  uint64_t memory_bytes = 2'000'000'000;
  ReadBackend backend = ReadBackend::automatic;
  bool verify = false;
  const kernels::Table* kernels = nullptr;  // null: the best there is
  std::string program;                      // "stream-convert 0.1.0": into the files' metadata
};

struct ConvertEvents {
  // What is about to be done: bytes of the source to read, bytes to write, shards that an earlier
  // run had finished. Caller's thread, like the others.
  std::function<void(const ConvertPlan& plan, size_t finished_shards)> planned;
  std::function<void(uint64_t done, uint64_t total)> progress;
  std::function<void(uint64_t done, uint64_t total)> verifying;
  std::function<bool()> should_stop;
};

struct ConvertResult {
  std::vector<MatrixReport> matrices;  // by path; empty if it was finished before
  uint64_t verified_records = 0;
  bool finished_before = false;  // an earlier run had everything but the last clean-up
};

// Throws Error (bad input, no space, failed reads or writes): out is untouched, what can be resumed
// stays in "<out>.unfinished". Throws ConvertStopped (model/convert_pipeline.h) if should_stop said
// so.
ConvertResult convert_model(const ConvertOptions& options, const ConvertEvents& events);

// The config of the result: the source's with a new "quantization". Throws Error.
std::string converted_config(const std::string& config_text, const std::string& path,
                             const ConvertSettings& settings);

// The config of a checkpoint whose own quantization (F8 blocks, MXFP4) the converter decodes.
ModelConfig read_source_config(const std::filesystem::path& model);

// Reads every record of a model directory past the page cache and compares its checksum; returns
// how many there are. Throws Error naming file, layer tensor and expert.
uint64_t verify_records(const std::filesystem::path& directory,
                        const std::function<void(uint64_t done, uint64_t total)>& progress);

}  // namespace sluice
