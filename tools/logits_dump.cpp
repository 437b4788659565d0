#include "tools/logits_dump.h"

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <utility>

#include "io/check.h"
#include "io/error.h"
#include "io/safetensors_writer.h"

namespace sluice {
namespace {

// A file without a name: it is gone with the process, however that ends.
std::FILE* open_unnamed(const std::string& path) {
  std::string name = path + ".XXXXXX";
  const int descriptor = mkstemp(name.data());
  if (descriptor < 0) throw Error(name, ": cannot be created: ", errno_text(errno));
  unlink(name.c_str());
  std::FILE* file = fdopen(descriptor, "w+b");
  if (file == nullptr) {
    const int error = errno;
    close(descriptor);
    throw Error(name, ": cannot be opened: ", errno_text(error));
  }
  return file;
}

}  // namespace

LogitsDump::LogitsDump(std::string path, uint32_t vocabulary)
    : path_(std::move(path)), vocabulary_(vocabulary), rows_(open_unnamed(path_), &std::fclose) {}

void LogitsDump::add(uint32_t id, std::span<const float> logits) {
  SLUICE_CHECK(logits.size() == vocabulary_);
  if (std::fwrite(logits.data(), sizeof(float), logits.size(), rows_.get()) != logits.size()) {
    throw Error(path_, ": the logits of position ", ids_.size(),
                " cannot be written: ", errno_text(errno));
  }
  ids_.push_back(id);
}

void LogitsDump::finish() {
  const uint64_t positions = ids_.size();
  std::vector<TensorInfo> tensors(2);
  tensors[0].name = "logits";
  tensors[0].dtype = DType::f32;
  tensors[0].shape = {positions, vocabulary_};
  tensors[1].name = "token_ids";
  tensors[1].dtype = DType::i64;
  tensors[1].shape = {positions};
  SafetensorsWriter writer(path_, std::move(tensors), {});

  if (std::fflush(rows_.get()) != 0) {
    throw Error(path_, ": the logits cannot be written: ", errno_text(errno));
  }
  std::rewind(rows_.get());
  std::vector<float> row(vocabulary_);
  for (uint64_t position = 0; position < positions; ++position) {
    if (std::fread(row.data(), sizeof(float), row.size(), rows_.get()) != row.size()) {
      throw Error(path_, ": the logits of position ", position,
                  " cannot be read back from their temporary file: ", errno_text(errno));
    }
    writer.write(std::as_bytes(std::span(row)));
  }
  writer.write(std::as_bytes(std::span(ids_)));
  writer.finish();
}

}  // namespace sluice
