#include "stream/look_ahead_trial.h"

#include <algorithm>
#include <numeric>
#include <span>

namespace sluice {
namespace {

// The mean of the middle half: some tokens are slow for reasons of their own.
double typical(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const std::span<const double> middle =
      std::span(values).subspan(values.size() / 4, values.size() - values.size() / 4 * 2);
  return std::accumulate(middle.begin(), middle.end(), 0.0) / static_cast<double>(middle.size());
}

}  // namespace

uint32_t LookAheadTrial::way() const {
  if (!trying()) return best_;
  const uint32_t block = trial_token_ / kBlock % (2 * kWays);
  return std::min(block, 2 * kWays - 1 - block);
}

void LookAheadTrial::token(double seconds, uint64_t bytes_read) {
  if (trying()) {
    // The first block is without: it tells whether anything is missed at all.
    if (trial_token_ < kBlock && bytes_read == 0) return;
    seconds_[way()].push_back(seconds);
    if (++trial_token_ == kBlock * kBlocks) decide();
  } else if (++kept_ == kKeptTokens) {
    kept_ = trial_token_ = 0;
  }
}

void LookAheadTrial::decide() {
  best_ = 0;
  double least = typical(seconds_[0]);
  for (uint32_t way = 1; way < kWays; ++way) {
    const double time = typical(seconds_[way]);
    if (time >= (1 - kWorthwhile) * least) continue;
    best_ = way;
    least = time;
  }
  for (std::vector<double>& of_way : seconds_) of_way.clear();
}

}  // namespace sluice
