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

bool LookAheadTrial::on() const {
  if (!trying()) return pays_;
  const uint32_t block = trial_token_ / kBlock % 4;
  return block == 1 || block == 2;
}

void LookAheadTrial::token(double seconds, uint64_t bytes_read) {
  if (trying()) {
    // The first block is without: it tells whether anything is missed at all.
    if (trial_token_ < kBlock && bytes_read == 0) return;
    (on() ? with_ : without_).push_back(seconds);
    if (++trial_token_ == kBlock * kBlocks) decide();
  } else if (++kept_ == kKeptTokens) {
    kept_ = trial_token_ = 0;
  }
}

void LookAheadTrial::decide() {
  pays_ = typical(with_) < (1 - kWorthwhile) * typical(without_);
  with_.clear();
  without_.clear();
}

}  // namespace sluice
