// verify_records of model/converter.h: every record read back from the device and its checksum
// compared.
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "cache/slab.h"
#include "io/checkpoint.h"
#include "io/checksum.h"
#include "io/direct_file.h"
#include "io/error.h"
#include "model/converter.h"
#include "stream/record_format.h"

namespace sluice {

namespace {

constexpr uint64_t kReadBytes = 32 << 20;  // at once
constexpr uint32_t kDepth = 32;

struct RecordsTensor {
  const TensorInfo* tensor = nullptr;
  std::vector<uint64_t> checksums;
  uint64_t record_bytes = 0;
};

std::vector<RecordsTensor> find_records(const Checkpoint& checkpoint) {
  std::vector<RecordsTensor> found;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const auto& metadata = checkpoint.metadata(tensor.file);
    const auto text = metadata.find(record_checksums_key(tensor.name));
    if (text == metadata.end()) continue;
    const std::string where = checkpoint.files()[tensor.file] + ": tensor " + tensor.name;
    if (tensor.shape.size() != 2 || tensor.shape[1] % kRecordAlignment != 0 ||
        tensor.offset % kRecordAlignment != 0 || tensor.size_bytes == 0) {
      throw Error(where, " is ", shape_text(tensor.shape), " at ", tensor.offset,
                  "; expected whole pages of records");
    }
    found.push_back(
        {&tensor, parse_record_checksums(text->second, tensor.shape[0], where), tensor.shape[1]});
  }
  return found;
}

}  // namespace

uint64_t verify_records(const std::filesystem::path& directory,
                        const std::function<void(uint64_t done, uint64_t total)>& progress) {
  const Checkpoint checkpoint = Checkpoint::open(directory);
  const std::vector<RecordsTensor> all = find_records(checkpoint);
  uint64_t total = 0;
  uint64_t largest = 0;
  for (const RecordsTensor& records : all) {
    total += records.tensor->size_bytes;
    largest = std::max(largest, records.record_bytes);
  }
  if (all.empty()) return 0;
  const Slab slab(std::max(kReadBytes, largest));
  const std::unique_ptr<ReadQueue> queue = make_read_queue(ReadBackend::automatic, kDepth);
  uint64_t count = 0;
  uint64_t done = 0;
  for (const RecordsTensor& records : all) {
    const DirectFile file(checkpoint.files()[records.tensor->file]);
    const uint64_t experts = records.checksums.size();
    const uint64_t at_once = std::max<uint64_t>(1, kReadBytes / records.record_bytes);
    for (uint64_t first = 0; first < experts; first += at_once) {
      const uint64_t here = std::min(at_once, experts - first);
      const uint64_t bytes = here * records.record_bytes;
      const ReadRequest request = {.file = &file,
                                   .offset = records.tensor->offset + first * records.record_bytes,
                                   .size_bytes = bytes,
                                   .needed_bytes = bytes,
                                   .destination = slab.data()};
      read_all(*queue, std::span(&request, 1));
      for (uint64_t i = 0; i < here; ++i) {
        const std::span<const std::byte> record(slab.data() + i * records.record_bytes,
                                                records.record_bytes);
        if (checksum(record) == records.checksums[first + i]) continue;
        // So that the next run makes it anew instead of taking it for finished.
        ::unlink(file.path().c_str());
        throw Error(file.path(), ": the record of expert ", first + i, " of ", records.tensor->name,
                    " (offset ", request.offset + i * records.record_bytes,
                    ") is not what was written; the file is removed: check the device (dmesg, "
                    "smartctl) and run the same command again");
      }
      count += here;
      done += bytes;
      if (progress) progress(done, total);
    }
  }
  return count;
}

}  // namespace sluice
