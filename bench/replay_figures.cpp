#include "bench/replay_figures.h"

#include <algorithm>
#include <numeric>

namespace sluice::bench {
namespace {

double seconds_of(double bytes, double gb_per_second) {
  return bytes > 0 ? bytes / 1e9 / gb_per_second : 0;
}

// The least time of layers in their order, each of which takes layer_seconds of the memory and
// reads what it misses, miss_seconds each.
double pipeline_seconds(const std::vector<uint32_t>& misses, bool looks_ahead, double miss_seconds,
                        double layer_seconds) {
  double before = 0, begin = 0, disk = 0;  // when the layer before began, this one; the last read
  for (const uint32_t missed : misses) {
    double end = begin + layer_seconds;
    if (missed > 0) {
      disk = std::max(disk, looks_ahead ? before : begin) + missed * miss_seconds;
      end = std::max(end, disk);
    }
    before = begin;
    begin = end;
  }
  return begin;
}

}  // namespace

void add_figures(const Round& round, const Round& plain, const Ceilings& ceilings,
                 const Weights& weights, Series& series) {
  const ReadStatistics& reads = round.stream.reads;
  const CacheStatistics& cache = round.stream.cache;
  const auto demanded = static_cast<double>(reads.bytes_demanded);
  const auto speculated = static_cast<double>(reads.bytes_speculated);
  const auto experts = static_cast<double>(round.experts);
  const double touched =
      experts * weights.expert_bytes + static_cast<double>(round.steps) * weights.trunk_bytes;
  const double memory_floor = seconds_of(touched, ceilings.memory);
  const auto misses = std::accumulate(plain.misses.begin(), plain.misses.end(), 0.0);
  const double io_floor = seconds_of(misses * weights.miss_bytes, ceilings.disk);
  const double pipeline =
      pipeline_seconds(plain.misses, round.looks_ahead, misses > 0 ? io_floor / misses : 0,
                       memory_floor / static_cast<double>(round.steps));
  const double own_floor = seconds_of(demanded + speculated, ceilings.disk);
  const auto used = static_cast<double>(cache.speculative_used);
  const auto put = [&](const char* name, double value) { series[name].push_back(value); };
  put("tokens_per_second", static_cast<double>(round.tokens) / round.seconds);
  put("hit_rate", (static_cast<double>(cache.hits + cache.in_flight_hits) - used) / experts);
  put("ahead_rate", used / experts);
  put("ahead_used", used / std::max(1.0, static_cast<double>(cache.speculative_loads)));
  put("disk_gb_per_second", (demanded + speculated) / 1e9 / round.seconds);
  put("demanded_mb_per_token", demanded / 1e6 / static_cast<double>(round.tokens));
  put("speculated_mb_per_token", speculated / 1e6 / static_cast<double>(round.tokens));
  put("memory_gb_per_second", touched / 1e9 / round.seconds);
  put("waiting", static_cast<double>(round.stream.wait_us) / 1e6 / round.seconds);
  put("io_floor_ms_per_token", 1e3 * io_floor / static_cast<double>(round.tokens));
  put("memory_floor_ms_per_token", 1e3 * memory_floor / static_cast<double>(round.tokens));
  put("time_over_floors", round.seconds / std::max(io_floor, memory_floor));
  put("time_over_pipeline", round.seconds / pipeline);
  put("time_over_demanded",
      round.seconds / std::max(seconds_of(demanded, ceilings.disk), memory_floor));
  put("time_over_own_reads", round.seconds / std::max(own_floor, memory_floor));
  put("time_over_plain", round.seconds / plain.seconds);
}

}  // namespace sluice::bench
