// What is said of a timed round: rates, and its time as a multiple of what the disk and the memory
// allow.
//
//   I/O floor     bytes of the misses without look-ahead / the disk's ceiling
//   memory floor  bytes of all experts multiplied, and of the dense stand-ins / the memory's
//                 ceiling
//
//   time_over_floors     time / the larger of both, of the whole round
//   time_over_pipeline   time / the least that layers in their order allow: what a layer misses is
//                        known when its turn comes, or, looking ahead, when that of the layer
//                        before does, here without a mistake; then it is read at the disk's
//                        ceiling, and the layer ends when its experts are there and multiplied
//   time_over_own_reads  as over_floors, with all bytes that the arm itself read for the I/O floor,
//                        demanded and speculated
//   time_over_demanded   the same with those it read on demand alone
//   time_over_plain      time / the time of the arm without look-ahead over the same tokens
//   hit_rate             demands that found their expert without any read for them
//   ahead_rate           demands that look-ahead served: there, or on its way
//   ahead_used           experts read ahead that were then wanted, of all read ahead
//   waiting              share of the time spent blocked on reads
//
// Threads: any.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bench/replay_arm.h"

namespace sluice::bench {

struct Ceilings {
  double disk = 0, memory = 0;  // GB/s; disk > 0 if there are misses
};

// What one expert in memory, one miss and one layer's stand-in weigh.
struct Weights {
  double expert_bytes = 0, miss_bytes = 0, trunk_bytes = 0;
};

// By name, one value a round.
using Series = std::map<std::string, std::vector<double>>;

// plain: the round of the arm without look-ahead over the same tokens; may be the same one.
void add_figures(const Round& round, const Round& plain, const Ceilings& ceilings,
                 const Weights& weights, Series& series);

}  // namespace sluice::bench
