// Synthetic records: a model directory with experts alone, as stream-repack leaves them: what
// replays routing needs, and nothing that could answer.
//
// The weights are random TurboQuant codes in tiles, every scale is 0.02, the signs of the rotation
// are random. Threads: any.
#pragma once

#include <cstdint>
#include <filesystem>

namespace sluice::bench {

struct RecordsShape {
  uint32_t layers = 0;
  uint32_t experts = 0;
  uint32_t experts_per_token = 0;
  uint32_t hidden = 0;
  uint32_t intermediate = 0;  // of an expert
  uint32_t bits = 3;          // 2, 3, 4 or 8
  uint32_t group = 64;        // inputs per scale; divides hidden and intermediate
};

// Of one record.
uint64_t synthetic_record_bytes(const RecordsShape& shape);

// Writes config.json, the records and their codebooks and signs into an empty directory. What is
// written is on disk and out of the page cache. Throws Error: no space, a shape that has no tiles.
void write_synthetic_records(const std::filesystem::path& directory, const RecordsShape& shape);

}  // namespace sluice::bench
