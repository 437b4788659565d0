// ProgressBar: how far a long step is, on standard error.
//
// On a terminal: one line with a bar, the rate and the time left, redrawn at most ten times a
// second and erased at the end. Into a file or pipe: at most one line per 10 %. Steps that take
// less than a second show nothing. Threads: one.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace sluice {

class ProgressBar {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Unit : uint8_t { bytes, tokens };
  struct Options {
    std::string label;  // "loading"
    Unit unit = Unit::bytes;
    bool terminal = false;
    Clock::time_point start = Clock::now();
  };

  // write: takes what is to be shown.
  ProgressBar(Options options, std::function<void(std::string_view)> write);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(uint64_t done, uint64_t total, Clock::time_point now = Clock::now());
  // Erases the bar. Idempotent.
  void finish();

 private:
  Options options_;
  std::function<void(std::string_view)> write_;
  Clock::time_point last_drawn_;
  uint64_t last_tenth_ = 0;
  bool drawn_ = false;
};

// A bar on standard error, which decides whether it is a terminal's.
ProgressBar stderr_progress(std::string label, ProgressBar::Unit unit);

}  // namespace sluice
