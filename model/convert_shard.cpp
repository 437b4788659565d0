#include "model/convert_shard.h"

#include <utility>
#include <vector>

namespace sluice {

namespace {

// Written before the page cache is asked to let go: enough to keep the device busy, little enough
// that the last flush of a file is short.
constexpr uint64_t kFlushBytes = 64 << 20;

}  // namespace

ConvertShard::ConvertShard(const ConvertPlan& plan, const PlannedShard& shard,
                           const std::filesystem::path& directory,
                           const std::map<std::string, std::string>& metadata) {
  const std::string path = (directory / shard.name).string();
  if (!shard.records) {
    tensors_ = std::make_unique<TensorFile>(path, shard.tensors,
                                            SafetensorsWriter::Options{.metadata = metadata});
    return;
  }
  std::vector<RecordTensor> records;
  for (const PlannedItem& item : shard.items) {
    const PlannedRecords& planned = plan.records[item.index];
    records.push_back({shard.tensors[item.first_tensor].name, planned.experts, planned.table});
  }
  records_ = std::make_unique<RecordWriter>(path, std::move(records), metadata);
}

void ConvertShard::write(const ConvertWrite& write) {
  if (write.expert) {
    records_->write(write.tensor, *write.expert, write.bytes);
  } else {
    tensors_->write_at(write.tensor, write.offset, write.bytes);
  }
  unflushed_bytes_ += write.bytes.size();
  if (unflushed_bytes_ < kFlushBytes) return;
  unflushed_bytes_ = 0;
  if (records_) {
    records_->flush();
  } else {
    tensors_->flush();
  }
}

void ConvertShard::finish() {
  if (records_) {
    records_->finish();
  } else {
    tensors_->finish();
  }
}

}  // namespace sluice
