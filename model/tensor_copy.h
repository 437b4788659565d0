// TensorCopy: tensors of a checkpoint, byte for byte, into shards of a new one; those with a row
// per expert in a new order of rows, if there is one.
//
// Memory: one piece of a few MB, and one tensor whose rows are reordered. Borrows: the checkpoint.
// Threads: one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/posix_file.h"

namespace sluice {

class TensorCopy {
 public:
  // row_orders: of a tensor's name, where row n of the copy comes from. Throws Error: a file cannot
  // be opened, or a tensor's first dimension is not its order's length.
  TensorCopy(const Checkpoint& source,
             std::map<std::string, std::vector<uint32_t>, std::less<>> row_orders);

  // Called with the bytes of each piece as it is done. May throw, which ends the copying.
  using Progress = std::function<void(uint64_t bytes)>;

  // Writes these tensors, in this order, to "<kind>-0000i-of-0000n.safetensors" in directory.
  // Throws Error.
  void write_shards(const std::filesystem::path& directory,
                    const std::vector<const TensorInfo*>& tensors, const Progress& progress) const;
  // Throws Error naming the first of these tensors that copy does not have, byte for byte in its
  // place. Reads both from the disk.
  void compare(const Checkpoint& copy, const std::vector<const TensorInfo*>& tensors,
               const Progress& progress) const;

 private:
  using Sink = std::function<void(std::span<const std::byte> piece)>;
  void read_pieces(const TensorInfo& tensor, const Sink& sink) const;

  const Checkpoint* source_;
  std::vector<RegularFile> files_;
  std::map<std::string, std::vector<uint32_t>, std::less<>> row_orders_;
};

}  // namespace sluice
