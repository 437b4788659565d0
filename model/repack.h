// Repacking: a checkpoint's experts into records (stream/record_format.h), losslessly, one aligned
// read per expert instead of many.
//
// Every weight, scale and codebook keeps its value; everything that is not an expert is copied byte
// for byte. With a permutation (perm.json) the experts are relabelled, so that those used together
// lie together: new expert n is the old expert perm[n], and row n of the router likewise, so the
// model computes the same, expert for expert. (The one exception: two experts of exactly the same
// score are taken in the order of their labels.) Threads: one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "stream/record_format.h"

namespace sluice {

struct RepackOptions {
  std::filesystem::path model{};             // any supported checkpoint with experts, records too
  std::filesystem::path out{};               // must not exist; its parent must
  std::optional<std::string> permutation{};  // path of a perm.json
  bool verify = false;
  uint32_t threads = 0;  // 0: as many as this process may run on
  uint64_t memory_bytes = 2'000'000'000;
  // Of TurboQuant matrices, where they have tiles.
  MatrixLayout layout = MatrixLayout::tiles;
};

struct RepackReport {
  uint32_t layers = 0;               // with experts
  uint32_t experts = 0;              // of each
  uint64_t source_expert_bytes = 0;  // all experts, as the source stores them
  uint64_t record_bytes = 0;         // all records
  uint64_t largest_record_bytes = 0;
  uint64_t copied_bytes = 0;  // everything that is not an expert
  bool permuted = false;
  uint64_t verified_records = 0;
};

// Called between pieces of work: step is "repacking" or "verifying". May throw to end it.
using RepackProgress = std::function<void(const char* step, uint64_t done, uint64_t total)>;

// Throws Error, leaving nothing of out: a source that is damaged, not supported or without experts,
// or that changes meanwhile; a permutation that is malformed, of another model or incomplete; out
// exists; no space; a write or read that fails; memory_bytes too small; a record that does not
// verify.
RepackReport repack(const RepackOptions& options, const RepackProgress& progress);

}  // namespace sluice
