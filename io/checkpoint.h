// Checkpoint: the index of every tensor of a model directory, over one or many safetensors shards.
//
// Owns: names and places, no tensor bytes. Threads: any, after open().
//
// A directory is indexed by model.safetensors.index.json if it has one, else by every *.safetensors
// in it. Names may be symlinks, as in hub caches. A shard may hold tensors that the index does not
// name (they are indexed like the others); one name in two shards is refused, index or not, because
// either could be the stale one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/safetensors.h"

namespace sluice {

class Checkpoint {
 public:
  Checkpoint(Checkpoint&&) = default;
  Checkpoint& operator=(Checkpoint&&) = default;

  // Throws Error: no directory, no shard, a damaged index (or one over 256 MB, or naming files
  // outside the directory), a shard that the index names and that is missing or lacks a tensor that
  // the index puts there, one name in two shards, a damaged header.
  static Checkpoint open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  // Paths of the shards, in the order that TensorInfo::file counts.
  const std::vector<std::string>& files() const { return files_; }
  const std::vector<uint64_t>& file_bytes() const { return file_bytes_; }
  // "__metadata__" of one shard.
  const std::map<std::string, std::string>& metadata(uint32_t file) const {
    return metadata_[file];
  }

  // All tensors, by file and then by offset.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // Null if there is none of this name. Valid as long as this object.
  const TensorInfo* find(std::string_view name) const;
  // Throws Error naming the tensor and the directory.
  const TensorInfo& at(std::string_view name) const;

 private:
  Checkpoint() = default;
  void add_file(const std::string& path);
  void index_names();

  std::filesystem::path directory_;
  std::vector<std::string> files_;
  std::vector<uint64_t> file_bytes_;
  std::vector<std::map<std::string, std::string>> metadata_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, uint32_t> by_name_;  // keys point into tensors_
};

}  // namespace sluice
