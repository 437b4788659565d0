// LookAheadTrial: for how many experts looking ahead pays on this machine, for this model and
// budget, found out by trying.
//
// Tokens come in blocks. In a trial, blocks without look-ahead, with half of a token's experts and
// with all take turns (none, half, all, all, half, none, ...: what drifts slowly, as hits do while
// a cache fills, weighs on all alike); then the way whose tokens were fastest is kept for a long
// while, and there is another trial. As long as nothing is missed there is nothing to look ahead
// for, and no trial.
//
//   look ahead for trial.experts() ...;   trial.token(seconds, bytes_read);
//
// What it decides changes the time tokens take and nothing else. Threads: one.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace sluice {

class LookAheadTrial {
 public:
  static constexpr uint32_t kWays = 3;            // none, half, all
  static constexpr uint32_t kBlock = 8;           // tokens
  static constexpr uint32_t kBlocks = 4 * kWays;  // of a trial
  static constexpr uint32_t kKeptTokens = 1024;   // between trials
  // A way of doing more has to be faster by this share to be worth it.
  static constexpr double kWorthwhile = 0.005;

  explicit LookAheadTrial(uint32_t experts_per_token) : experts_per_token_(experts_per_token) {}

  // How many experts of the next layer to look ahead for, for the next token.
  uint32_t experts() const {
    static_assert(kWays == 3);
    return (experts_per_token_ * way() + 1) / 2;
  }
  // The token took that long, and so much was read for it.
  void token(double seconds, uint64_t bytes_read);

 private:
  bool trying() const { return trial_token_ < kBlock * kBlocks; }
  uint32_t way() const;
  void decide();

  uint32_t experts_per_token_;
  std::array<std::vector<double>, kWays> seconds_;  // of the trial's tokens
  uint32_t trial_token_ = 0;
  uint32_t kept_ = 0;  // tokens since the last trial
  uint32_t best_ = 0;  // way
};

}  // namespace sluice
