// Fuzzes parse_record_table(): whatever the bytes, it returns a table whose parts lie apart,
// aligned and within the record, and that comes back the same when written and read again, or
// throws Error. Input: the record's size in units of 64 bytes (2 bytes, little-endian), then the
// JSON.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "io/check.h"
#include "io/error.h"
#include "stream/record_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const uint64_t record_bytes = uint64_t{64} * static_cast<uint64_t>(data[0] | data[1] << 8);
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  try {
    const sluice::RecordTable table = sluice::parse_record_table(text, record_bytes, "fuzz");
    SLUICE_CHECK(table.record_bytes == record_bytes && record_bytes % 4096 == 0);
    uint64_t end = 0;
    for (const sluice::RecordProjection& projection : table.projections) {
      SLUICE_CHECK(projection.data.size_bytes > 0);
      for (const sluice::RecordPart& part : {projection.data, projection.scales, projection.bias}) {
        if (part.size_bytes == 0) continue;
        SLUICE_CHECK(part.offset % 64 == 0 && part.offset >= end);
        SLUICE_CHECK(part.size_bytes <= record_bytes && part.offset <= record_bytes);
        end = part.offset + part.size_bytes;
      }
    }
    SLUICE_CHECK(end + 64 <= record_bytes);
    const std::string again = sluice::record_table_text(table);
    SLUICE_CHECK(again ==
                 sluice::record_table_text(sluice::parse_record_table(again, record_bytes, "")));
  } catch (const sluice::Error&) {
    // Refused, as it should be.
  }
  return 0;
}
