#include "model/tensor_copy.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "io/check.h"
#include "io/error.h"
#include "io/safetensors_writer.h"
#include "model/model_directory_writer.h"

namespace sluice {
namespace {

constexpr uint64_t kPieceBytesOfCopy = uint64_t{8} << 20;

std::vector<RegularFile> open_files(const Checkpoint& checkpoint) {
  std::vector<RegularFile> files;
  for (const std::string& path : checkpoint.files()) {
    files.push_back(open_regular_file(path));
    // Advice only: the files are read once, from front to back.
    ::posix_fadvise(files.back().fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  }
  return files;
}

}  // namespace

TensorCopy::TensorCopy(const Checkpoint& source,
                       std::map<std::string, std::vector<uint32_t>, std::less<>> row_orders)
    : source_(&source), files_(open_files(source)), row_orders_(std::move(row_orders)) {
  for (const auto& [name, order] : row_orders_) {
    const TensorInfo& tensor = source.at(name);
    if (!tensor.shape.empty() && tensor.shape[0] == order.size()) continue;
    throw Error(source.files()[tensor.file], ": tensor ", name, " has shape ",
                shape_text(tensor.shape), ", expected a row for each of ", order.size(),
                " experts, to move with them");
  }
}

void TensorCopy::read_pieces(const TensorInfo& tensor, const Sink& sink) const {
  const RegularFile& file = files_[tensor.file];
  const std::string& path = source_->files()[tensor.file];
  const auto order = row_orders_.find(tensor.name);
  std::vector<std::byte> bytes(order == row_orders_.end()
                                   ? std::min(tensor.size_bytes, kPieceBytesOfCopy)
                                   : tensor.size_bytes);
  if (order == row_orders_.end()) {
    for (uint64_t at = 0; at < tensor.size_bytes; at += bytes.size()) {
      const std::span<std::byte> piece =
          std::span(bytes).first(std::min<uint64_t>(bytes.size(), tensor.size_bytes - at));
      read_exactly(file.fd, piece, tensor.offset + at, path);
      sink(piece);
    }
    return;
  }
  read_exactly(file.fd, bytes, tensor.offset, path);
  const uint64_t row_bytes = tensor.size_bytes / order->second.size();
  std::vector<std::byte> moved(bytes.size());
  for (uint64_t row = 0; row < order->second.size(); ++row) {
    std::memcpy(moved.data() + row * row_bytes, bytes.data() + order->second[row] * row_bytes,
                row_bytes);
  }
  sink(moved);
}

void TensorCopy::write_shards(const std::filesystem::path& directory,
                              const std::vector<const TensorInfo*>& tensors,
                              const Progress& progress) const {
  std::vector<uint64_t> sizes;
  for (const TensorInfo* tensor : tensors) sizes.push_back(tensor->size_bytes);
  const std::vector<size_t> first = plan_shards(sizes);
  for (size_t shard = 0; shard < first.size(); ++shard) {
    const size_t end = shard + 1 < first.size() ? first[shard + 1] : tensors.size();
    std::vector<TensorInfo> infos;
    for (size_t i = first[shard]; i < end; ++i) infos.push_back(*tensors[i]);
    SafetensorsWriter writer((directory / shard_name("model", shard, first.size())).string(),
                             std::move(infos), {.metadata = {{"format", "pt"}}});
    for (size_t i = first[shard]; i < end; ++i) {
      read_pieces(*tensors[i], [&](std::span<const std::byte> piece) {
        writer.write(piece);
        progress(piece.size());
      });
    }
    writer.finish();
  }
}

void TensorCopy::compare(const Checkpoint& copy, const std::vector<const TensorInfo*>& tensors,
                         const Progress& progress) const {
  const std::vector<RegularFile> files = open_files(copy);
  for (const RegularFile& file : files) {
    // What was just written is to come from the disk, not from memory. It is durable by now, so
    // that the kernel can drop it.
    ::posix_fadvise(file.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
  std::vector<std::byte> bytes;
  for (const TensorInfo* tensor : tensors) {
    const TensorInfo& copied = copy.at(tensor->name);
    const std::string& path = copy.files()[copied.file];
    if (copied.dtype != tensor->dtype || copied.shape != tensor->shape) {
      throw Error(path, ": tensor ", tensor->name, " is ", dtype_name(copied.dtype), " ",
                  shape_text(copied.shape), ", expected ", dtype_name(tensor->dtype), " ",
                  shape_text(tensor->shape));
    }
    uint64_t at = 0;
    read_pieces(*tensor, [&](std::span<const std::byte> piece) {
      bytes.resize(piece.size());
      read_exactly(files[copied.file].fd, bytes, copied.offset + at, path);
      if (std::memcmp(bytes.data(), piece.data(), piece.size()) != 0) {
        throw Error(path, ": tensor ", tensor->name, " is not what was copied from ",
                    source_->files()[tensor->file], ", within ", piece.size(), " bytes from ", at,
                    " on; the device lost something, or the source changed. Repack again");
      }
      at += piece.size();
      progress(piece.size());
    });
  }
}

}  // namespace sluice
