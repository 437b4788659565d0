#include "io/tensor_file.h"

#include <utility>

#include "io/check.h"

namespace sluice {

TensorFile::TensorFile(std::string path, std::vector<TensorInfo> tensors,
                       const SafetensorsWriter::Options& options)
    : file_(std::move(path)), tensors_(std::move(tensors)) {
  header_ = SafetensorsWriter::header(file_.path(), tensors_, options);
}

void TensorFile::write_at(uint32_t index, uint64_t offset, std::span<const std::byte> bytes) {
  SLUICE_CHECK(index < tensors_.size());
  const TensorInfo& tensor = tensors_[index];
  SLUICE_CHECK(offset <= tensor.size_bytes && bytes.size() <= tensor.size_bytes - offset);
  file_.write_at(bytes, tensor.offset + offset);
}

void TensorFile::finish() {
  file_.write_at(std::as_bytes(std::span(header_)), 0);
  file_.commit();
}

}  // namespace sluice
