// ModelDirectoryWriter: a model directory that appears under its name whole, or not at all.
//
//   ModelDirectoryWriter writer("/models/out", ModelDirectoryWriter::Unfinished::start_over);
//   ... write shards into writer.directory(), each durable under its name when finished ...
//   writer.copy_side_files("/models/source");
//   writer.finish(config_json);        // index, config.json, fsync, rename
//
// Everything goes to "<out>.unfinished" first. Until finish() that directory has no config.json, so
// nothing loads it; a killed process leaves it behind, with a marker file in it that says whose it
// is, and the next run for the same out starts over or goes on, as it chooses. The marker is locked
// (flock), so that two runs never write to one directory. Threads: one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/posix_file.h"

namespace sluice {

class ModelDirectoryWriter {
 public:
  enum class Unfinished : uint8_t {
    start_over,  // what a killed run left is removed, and so is ours when this dies unfinished
    resume,      // both stay
  };
  // Throws Error: out exists, its parent does not or may not be written to, another process is at
  // it, or "<out>.unfinished" exists and is not ours.
  ModelDirectoryWriter(const std::filesystem::path& out, Unfinished unfinished);
  ~ModelDirectoryWriter();
  ModelDirectoryWriter(const ModelDirectoryWriter&) = delete;
  ModelDirectoryWriter& operator=(const ModelDirectoryWriter&) = delete;

  // Where the files go.
  const std::filesystem::path& directory() const { return directory_; }
  // Whether an earlier run's directory was taken over (resume alone); what its files are worth is
  // the caller's to find out. *.partial files of it are gone.
  bool resumed() const { return resumed_; }

  // Copies the regular files of source's top level that are neither weights (*.safetensors and
  // other formats' files, indexes) nor config.json nor hidden nor in `except`: tokenizer,
  // generation config, chat template, licence. Replaces what is there. Throws Error.
  void copy_side_files(const std::filesystem::path& source,
                       const std::set<std::string>& except = {});
  // Writes model.safetensors.index.json from the headers of the shards that are there, then
  // config.json, and gives the directory its name. Throws Error: no or broken shards, out exists
  // meanwhile, disk full.
  void finish(std::string_view config_json);

  // Removes the directory and all that is in it, while it is still locked. Nothing may follow.
  void discard();

 private:
  std::filesystem::path out_;
  std::filesystem::path directory_;
  Unfinished unfinished_;
  FileDescriptor marker_;
  bool resumed_ = false;
  bool finished_ = false;
};

// Throws Error, saying how much is missing, if the filesystem of directory (which must exist) has
// less than size_bytes left for this user.
void require_free_space(const std::filesystem::path& directory, uint64_t size_bytes);

// "experts-00002-of-00007.safetensors"; shard counts from 0 here, from 1 in the name.
std::string shard_name(std::string_view kind, size_t shard, size_t shards);

inline constexpr uint64_t kShardBytes = 5'000'000'000;  // what published checkpoints use

// Deals items of these sizes, in their order, into shards of at most shard_bytes; a larger item has
// one to itself. Returns for each shard the index of its first item; empty for no items.
std::vector<size_t> plan_shards(std::span<const uint64_t> sizes,
                                uint64_t shard_bytes = kShardBytes);

// Copies a file's bytes, durably and whole or not at all. Throws Error.
void copy_file_durably(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace sluice
