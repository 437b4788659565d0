#include "stream/record_writer.h"

#include <algorithm>
#include <utility>

#include "io/check.h"
#include "io/checksum.h"

namespace sluice {

RecordWriter::RecordWriter(std::string path, std::vector<RecordTensor> tensors,
                           std::map<std::string, std::string> metadata)
    : file_(std::move(path)), tensors_(std::move(tensors)), metadata_(std::move(metadata)) {
  for (const RecordTensor& tensor : tensors_) {
    SLUICE_CHECK(tensor.experts > 0);
    // The reader decides what is a legal table; none that it refuses is ever written.
    const std::string table = record_table_text(tensor.table);
    parse_record_table(table, tensor.table.record_bytes, file_.path() + ": " + tensor.name);
    metadata_[record_table_key(tensor.name)] = table;
    checksums_.emplace_back(tensor.experts);
    written_.emplace_back(tensor.experts);
    TensorInfo info;
    info.name = tensor.name;
    info.dtype = DType::u8;
    info.shape = {tensor.experts, tensor.table.record_bytes};
    infos_.push_back(std::move(info));
  }
  file_bytes_ = header().size();
  for (const TensorInfo& info : infos_) file_bytes_ += info.size_bytes;
}

// Places infos_ as a side effect, at the same offsets whatever the checksums are.
std::string RecordWriter::header() {
  std::map<std::string, std::string> metadata = metadata_;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    metadata[record_checksums_key(tensors_[i].name)] = record_checksums_text(checksums_[i]);
  }
  return SafetensorsWriter::header(
      file_.path(), infos_, {.metadata = std::move(metadata), .data_alignment = kRecordAlignment});
}

void RecordWriter::write(uint32_t tensor, uint32_t expert, std::span<const std::byte> record) {
  SLUICE_CHECK(tensor < tensors_.size() && expert < tensors_[tensor].experts);
  const uint64_t record_bytes = tensors_[tensor].table.record_bytes;
  SLUICE_CHECK(record.size() == record_bytes && written_[tensor][expert] == 0);
  checksums_[tensor][expert] = checksum(record);
  file_.write_at(record, infos_[tensor].offset + expert * record_bytes);
  written_[tensor][expert] = 1;
}

void RecordWriter::finish() {
  for (const std::vector<uint8_t>& written : written_) {
    SLUICE_CHECK(std::find(written.begin(), written.end(), 0) == written.end());
  }
  const std::string before = header();
  file_.write_at(std::as_bytes(std::span(before)), 0);
  file_.commit();
}

}  // namespace sluice
