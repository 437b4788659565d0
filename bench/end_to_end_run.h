// One run of a checkpoint as end_to_end measures it, and what the machine gives in the same minute.
//
// A run opens the model anew, so that its prompt finds an empty cache: prefill, the same prefill
// once more, warm-up, decode.
// Threads: one.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/session.h"
#include "stream/trace.h"

namespace sluice::bench {

// Facts of a checkpoint, from its headers.
struct Subject {
  std::string directory;
  ExpertGrid grid;
  uint32_t experts_per_token = 0;
  uint32_t vocabulary = 0;
  uint64_t expert_total_bytes = 0;
  uint64_t all_slots_bytes = 0;  // a budget that holds every expert
  uint64_t embedding_bytes = 0;  // of which a token needs one row alone; 0 where the head is tied
  uint64_t read_bytes = 0;       // a typical read of an expert, as the queue cuts it
  std::string largest_file;      // to measure the disk with
};
// Throws Error: anything wrong with the directory, a model without experts.
Subject read_subject(const std::string& directory);

// What is varied.
struct Combination {
  uint64_t budget_bytes = 0;
  double share = 0;  // of all_slots_bytes
  uint32_t threads = 0;
  uint32_t depth = 0;
  std::string look_ahead = "auto";  // as parse_look_ahead() takes it
};

// What is fed, one behind the other.
struct Feed {
  std::span<const uint32_t> prompt;
  std::span<const uint32_t> warm;  // decoded before anything counts; may be empty
  std::span<const uint32_t> decoded;
  std::span<const uint32_t> disturbed;  // decoded beside a busy process; empty: there is none
};

// Rates of plain loops: what no engine on this machine can beat.
struct Ceilings {
  double disk = 0;                    // GB/s, the best of all depths
  std::map<uint32_t, double> memory;  // GB/s, by threads
};
struct CeilingTask {
  std::vector<uint32_t> depths;
  std::vector<uint32_t> threads;
  double ramp_seconds = 0;
  double seconds = 0;
  uint64_t memory_bytes = 0;  // read over and over
};
Ceilings measure_ceilings(const Subject& subject, const CeilingTask& task);

// Figures of one run. Rates are tokens per second, GB are 10^9 bytes. A floor is the time that the
// ceilings alone would take; "of floor" is the floor's time over the time it took: 1 is perfect.
struct Figures {
  double load_seconds = 0;
  double prompt_rate = 0;
  double prompt_of_floor = 0;    // floor: reading what was not in the cache when it was wanted,
                                 // so that what is read again counts again
  double prompt_again_rate = 0;  // the same prompt once more, from what the first has left
  double decode_rate = 0;
  double decode_of_floor = 0;    // floor: the longer one of reading what was read from disk, and of
                                 // reading the weights that were used from memory
  double hit_rate = 0;           // of decode, by bytes: needed no read, neither then nor ahead
  double foreseen = 0;           // the share read ahead of what was not in the cache
  double read_per_token = 0;     // bytes from disk, in decode
  double touched_per_token = 0;  // bytes of weights, in decode
  double disk_rate = 0;          // GB/s in decode while something was being read; 0: nothing was
  double waiting_share = 0;      // of decode's time: nothing to do but wait for reads
  double peak_bytes = 0;         // resident; 0: the kernel does not let us ask
  double planned_bytes = 0;
  double disturbed_rate = 0;  // decode beside a busy process; 0: not asked for
};
struct FigureField {
  const char* name;
  double Figures::*value;
};
std::span<const FigureField> figure_fields();
// Each figure's median. Requires: not empty.
Figures medians(std::span<const Figures> rounds);

struct Run {
  Figures figures;
  Trace routing;   // of the tokens behind the prompt
  std::string io;  // "io_uring, direct reads"
};
// Throws Error: as Model::load().
Run run_once(const Subject& subject, const Combination& combination, Bounce bounce,
             const Feed& feed, const Ceilings& ceilings);

}  // namespace sluice::bench
