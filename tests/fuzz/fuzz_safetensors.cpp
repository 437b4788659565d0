// Fuzzes parse_safetensors_header(): whatever the bytes, it returns a header whose tensors tile the
// data buffer, or throws Error. Input: the size of the data buffer (4 bytes, little-endian), then
// the JSON.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "io/check.h"
#include "io/error.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  uint64_t file_bytes = 0;
  for (size_t i = 4; i-- > 0;) file_bytes = file_bytes << 8 | data[i];
  const std::string_view json(reinterpret_cast<const char*>(data) + 4, size - 4);
  file_bytes += 8 + json.size();
  try {
    const sluice::SafetensorsHeader header =
        sluice::parse_safetensors_header(json, file_bytes, "fuzz");
    uint64_t cursor = 8 + json.size();
    std::set<std::string_view> names;
    for (const sluice::TensorInfo& tensor : header.tensors) {
      SLUICE_CHECK(tensor.offset == cursor);
      SLUICE_CHECK(names.insert(tensor.name).second);
      uint64_t size_bytes = sluice::dtype_bytes(tensor.dtype);
      for (const uint64_t dimension : tensor.shape) size_bytes *= dimension;
      SLUICE_CHECK(size_bytes == tensor.size_bytes);
      cursor += size_bytes;
    }
    SLUICE_CHECK(cursor == file_bytes);
  } catch (const sluice::Error&) {
    // Refused, as it should be.
  }
  return 0;
}
