// TraceSet: the traces a calibration works on, joined, and the model they are of.
// Threads: one.
#pragma once

#include <span>
#include <string>

#include "stream/cache_replay.h"
#include "stream/trace.h"

namespace sluice {

struct TraceSet {
  TraceFacts facts;
  DemandSequence sequence;  // of all files, one behind the other
  uint64_t tokens = 0;

  // Of that many experts in the cache, and of what they take on disk.
  uint64_t slot_bytes(uint64_t experts) const { return experts * facts.slot_bytes; }
  uint64_t working_set_slots() const {
    return facts.grid.layers.size() * uint64_t{facts.experts_per_token};
  }
  double demands_per_token() const {
    return static_cast<double>(sequence.demands.size()) / static_cast<double>(tokens);
  }
};

// model: a directory, for traces that do not say what they are of; may be empty. Throws Error:
// unreadable, damaged, empty, of different models, or of an unknown one.
TraceSet read_trace_set(std::span<const std::string> files, const std::string& model);

// Writes the records of all files as one trace, beginning with their facts; whole or not at all.
// Returns how many records. Throws Error as above.
uint64_t merge_traces(std::span<const std::string> files, const std::string& out);

}  // namespace sluice
