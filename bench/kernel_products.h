// The benchmarks of products: one for each format, shape, instruction set and number of threads,
// under the names
//
//   memory/FORMAT/SHAPE/ISA/threads:N            one vector, weights far beyond the last cache
//   cache/FORMAT/SHAPE/ISA                       one vector, one thread, weights in the cache
//   tokens/FORMAT/SHAPE/ISA/threads:N/tokens:N   many vectors, weights from memory
//
// An iteration is a round, timed by hand: the product, and a loop that reads as many bytes before
// and behind it, each thread its own contiguous part of the matrices in tasks of a few rows.
// Counters, medians of the rounds:
//
//   GB/s          stored bytes (codes, scales, biases) by processor time (Seconds::own)
//   ceiling       GB/s of the plain loop, by processor time
//   of_ceiling    median of the rounds' ratios to the plain loops around the product
//   of_ceil_wall  the same by wall-clock time
//   ran           processor time over wall-clock time: below about 0.95 others had the processors,
//                 and for several threads of_ceiling flatters (bench/ceiling.h)
//   cycles/weight of the cache section, as cycles.h has them
//   ns/token, of_1_token, GMAC/s
//                 of the tokens section: time of one matrix per token, the same over that of one
//                 token in the same round, and products per second
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/cycles.h"
#include "bench/kernel_weights.h"
#include "cache/slab.h"

namespace benchmark {
class State;
}

namespace sluice::bench {

struct ProductSettings {
  uint64_t memory_bytes = 0;  // of the weights in memory
  uint64_t cache_bytes = 0;   // of those in the cache
  uint32_t group = 64;
  uint32_t rounds = 7;
  std::vector<uint32_t> threads;
  std::vector<uint32_t> tokens;
  std::vector<Shape> shapes;
  std::vector<kernels::Isa> isas;         // in the cache
  std::vector<kernels::Isa> memory_isas;  // in memory
  uint64_t round_products = 0;            // of weights and tokens in a round of the tokens section
  double cache_seconds = 0;               // about what a round in the cache takes
};

class ProductBench {
 public:
  explicit ProductBench(const ProductSettings& settings);
  // With Google Benchmark; the object must outlive its run, which throws Error where --mb is less
  // than one matrix.
  void register_all();
  const CycleCounter& cycles() const { return cycles_; }

 private:
  struct Case {
    const StoredFormat* format;
    Shape shape;
    kernels::Isa isa;
    uint32_t threads = 1;
    uint32_t tokens = 1;
  };
  void run_memory(benchmark::State& state, const Case& c);
  void run_cache(benchmark::State& state, const Case& c);
  void run_tokens(benchmark::State& state, const Case& c);
  std::string name_of(const char* section, const Case& c) const;
  // Those of the last call are kept, since neighbouring benchmarks ask for the same.
  const WeightSet& weights_in_memory(const Case& c);

  ProductSettings settings_;
  std::vector<StoredFormat> formats_;
  std::unique_ptr<Slab> memory_;  // made when it is first asked for
  std::unique_ptr<WeightSet> in_memory_;
  const StoredFormat* in_memory_format_ = nullptr;
  CycleCounter cycles_;
};

}  // namespace sluice::bench
