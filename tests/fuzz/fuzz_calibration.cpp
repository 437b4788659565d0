// pin.json, perm.json and traces: any bytes either parse or throw Error, and what parses is written
// back as something that parses to the same.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "io/check.h"
#include "io/error.h"
#include "stream/cache_replay.h"
#include "stream/calibration_files.h"
#include "stream/trace.h"
#include "stream/trace_statistics.h"

namespace {

using sluice::Error;

const sluice::ExpertGrid kGrid{.layers = {0, 1, 3}, .experts = 4};

void try_pins(std::string_view text) {
  const auto pins = sluice::parse_pins(text, kGrid, "pin.json");
  SLUICE_CHECK(pins.size() <= kGrid.keys());
  SLUICE_CHECK(sluice::parse_pins(sluice::pins_text(pins), kGrid, "pin.json") == pins);
}

void try_permutation(std::string_view text) {
  const sluice::Permutation permutation = sluice::parse_permutation(text, kGrid, "perm.json");
  SLUICE_CHECK(permutation.size() == kGrid.layers.size());
  SLUICE_CHECK(sluice::parse_permutation(sluice::permutation_text(permutation), kGrid, "again") ==
               permutation);
}

void try_trace(std::string_view text) {
  const sluice::Trace trace = sluice::parse_trace(text, "trace.jsonl");
  const std::string written = sluice::trace_text(trace);
  SLUICE_CHECK(sluice::trace_text(sluice::parse_trace(written, "again")) == written);
  const sluice::DemandSequence sequence = sluice::demand_sequence(trace, kGrid);
  if (sequence.longest == 0) return;
  sluice::working_sets(sequence);
  sluice::token_overlap(sequence);
  const auto replayed = sluice::replay(sequence, {.slots = sequence.longest, .policy = "lfru"});
  SLUICE_CHECK(replayed.hits <= sluice::optimal_hits(sequence, sequence.longest));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  const std::string_view text(reinterpret_cast<const char*>(data), size_bytes);
  for (const auto try_one : {try_pins, try_permutation, try_trace}) {
    try {
      try_one(text);
    } catch (const Error&) {
    }
  }
  return 0;
}
