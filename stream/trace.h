// A trace: which experts the router chose, one record per token and layer, in the order of
// computation.
//
//   {"sluice_trace": 1, "model_type": "qwen3_moe", "layers": [0, 1, ...], "experts": 64, ...}
//   [layer, [expert, ...]]         the router's order, likeliest first
//   [layer, [expert, ...]]
//
// One JSON value a line. The first line says of which model it is; files without it (from other
// tools, or cut in pieces) are read too, and readers of the plain form pass over it, since it is no
// array. A layer is the model's layer index.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/posix_file.h"
#include "stream/expert_grid.h"

namespace sluice {

struct TraceFacts {
  std::string model_type;
  ExpertGrid grid;
  uint32_t experts_per_token = 0;
  uint64_t expert_bytes = 0;  // of the largest expert
  uint64_t slot_bytes = 0;    // that it takes in a cache
  friend bool operator==(const TraceFacts&, const TraceFacts&) = default;
};

// A whole trace in memory: 4 bytes per expert and 12 per record. Threads: any, once built.
class Trace {
 public:
  struct Record {
    uint32_t layer = 0;
    std::span<const uint32_t> experts;  // valid until the next add()
  };

  void add(uint32_t layer, std::span<const uint32_t> experts);
  size_t size() const { return layers_.size(); }
  Record operator[](size_t i) const {
    return {layers_[i], std::span(experts_).subspan(first_[i], first_[i + 1] - first_[i])};
  }
  size_t demands() const { return experts_.size(); }  // of all records

  std::optional<TraceFacts> facts;

 private:
  std::vector<uint32_t> layers_;
  std::vector<uint64_t> first_ = {0};  // [records + 1]: where each record's experts begin
  std::vector<uint32_t> experts_;
};

// 2^28 experts are 1 GB in memory: 700,000 tokens of a model that uses 8 experts in 48 layers.
inline constexpr uint64_t kMaxTraceDemands = uint64_t{1} << 28;
inline constexpr uint64_t kMaxTraceLineBytes = 1 << 20;

// Throws Error with the line: not a record, an expert twice in one, experts or layers outside of
// what the first line says, too long. path is for messages.
Trace parse_trace(std::string_view text, const std::string& path);
// In pieces: never the whole file at once.
Trace read_trace(const std::string& path);
// The whole file's text.
std::string trace_text(const Trace& trace);

// Writes a trace as it comes: only ever appends, and only whole lines, so that what a killed run
// leaves is a trace too. Threads: one.
class TraceWriter {
 public:
  // Creates or empties the file. Throws Error (cannot be created).
  TraceWriter(std::string path, const TraceFacts& facts);
  // Buffered until flush().
  void add(uint32_t layer, std::span<const uint32_t> experts);
  // Throws Error naming the path: disk full, quota, device.
  void flush();

 private:
  std::string path_;
  FileDescriptor fd_;
  std::string buffer_;
};

}  // namespace sluice
