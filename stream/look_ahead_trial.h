// LookAheadTrial: whether looking ahead pays on this machine, for this model and budget, found out
// by trying.
//
// Tokens come in blocks. In a trial, blocks with and without look-ahead take turns (without, with,
// with, without, ...: what drifts slowly, as hits do while a cache fills, weighs on both alike);
// then the way whose tokens were faster is kept for a long while, and there is another trial. As
// long as nothing is missed there is nothing to look ahead for, and no trial.
//
//   if (trial.on()) look ahead ...;   trial.token(seconds, bytes_read);
//
// What it decides changes the time tokens take and nothing else. Threads: one.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice {

class LookAheadTrial {
 public:
  static constexpr uint32_t kBlock = 8;          // tokens
  static constexpr uint32_t kBlocks = 8;         // of a trial, half of them with look-ahead
  static constexpr uint32_t kKeptTokens = 1024;  // between trials
  // A way of doing more has to be faster by this share to be worth it.
  static constexpr double kWorthwhile = 0.005;

  // For the next token.
  bool on() const;
  // The token took that long, and so much was read for it.
  void token(double seconds, uint64_t bytes_read);

 private:
  bool trying() const { return trial_token_ < kBlock * kBlocks; }
  void decide();

  std::vector<double> with_, without_;  // seconds of the trial's tokens
  uint32_t trial_token_ = 0;
  uint32_t kept_ = 0;  // tokens since the last trial
  bool pays_ = false;
};

}  // namespace sluice
