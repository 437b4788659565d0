// The benchmarks of TurboQuant's encoder: one thread, from bf16 in memory to bytes in memory, rows
// as wide as published models have, under the names
//
//   encode/OUTPUT/bits:B/cols:N/ISA   OUTPUT: rows, tiles, tiles.error (with what is lost),
//                                     tiles.searched (the same with searched scales)
//
// Counter: MB/s of bf16 by processor time, median of the rounds.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace sluice::bench {

// With Google Benchmark. weights: about so many in a round, at least 16 rows.
void register_encoder(std::span<const kernels::Isa> isas, uint32_t group, uint64_t weights,
                      uint32_t rounds);

}  // namespace sluice::bench
