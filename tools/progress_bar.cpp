#include "tools/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "model/plan.h"

namespace sluice {
namespace {

using namespace std::chrono_literals;

constexpr auto kQuiet = 1s;           // shorter steps need no bar
constexpr auto kRedrawEvery = 100ms;  // faster than the eye reads numbers
constexpr size_t kBarColumns = 24;    // with the numbers beside it, the line stays under 80 columns

std::string amount_text(double amount, ProgressBar::Unit unit) {
  const auto whole = static_cast<uint64_t>(amount);
  return unit == ProgressBar::Unit::bytes ? bytes_text(whole) : std::to_string(whole);
}

// "1.20 GB of 2.67 GB, 410 MB/s, 4 s left"
std::string numbers_text(uint64_t done, uint64_t total, double seconds, ProgressBar::Unit unit) {
  const double rate = static_cast<double>(done) / seconds;
  std::string text = amount_text(static_cast<double>(done), unit) + " of " +
                     amount_text(static_cast<double>(total), unit);
  text += unit == ProgressBar::Unit::bytes ? ", " : " tokens, ";
  text += amount_text(rate, unit) + "/s";
  if (done > 0 && done < total) {
    const double left = static_cast<double>(total - done) / rate;
    text += ", " + std::to_string(std::llround(left)) + " s left";
  }
  return text;
}

std::string bar_text(double share) {
  const auto filled = static_cast<size_t>(share * static_cast<double>(kBarColumns));
  std::string text(1 + kBarColumns + 1, ' ');
  text.front() = '[';
  text.back() = ']';
  std::fill_n(text.begin() + 1, filled, '=');
  return text;
}

}  // namespace

ProgressBar::ProgressBar(Options options, std::function<void(std::string_view)> write)
    : options_(std::move(options)), write_(std::move(write)) {}

ProgressBar::~ProgressBar() { finish(); }

void ProgressBar::update(uint64_t done, uint64_t total, Clock::time_point now) {
  const Clock::duration elapsed = now - options_.start;
  if (total == 0 || elapsed < kQuiet) return;
  done = std::min(done, total);
  const double share = static_cast<double>(done) / static_cast<double>(total);
  const double seconds = std::chrono::duration<double>(elapsed).count();
  const std::string numbers = numbers_text(done, total, seconds, options_.unit);
  if (options_.terminal) {
    if (drawn_ && now - last_drawn_ < kRedrawEvery && done < total) return;
    // \r and "erase to the end of the line": the next text overwrites the bar.
    write_("\r" + options_.label + " " + bar_text(share) + " " + numbers + "\x1b[K");
    last_drawn_ = now;
    drawn_ = true;
    return;
  }
  const auto tenth = static_cast<uint64_t>(share * 10);
  if (tenth <= last_tenth_) return;
  last_tenth_ = tenth;
  write_(options_.label + ": " + std::to_string(tenth * 10) + " %, " + numbers + "\n");
}

void ProgressBar::finish() {
  if (drawn_) write_("\r\x1b[K");
  drawn_ = false;
}

ProgressBar stderr_progress(std::string label, ProgressBar::Unit unit) {
  const auto write = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
  };
  return ProgressBar({.label = std::move(label), .unit = unit, .terminal = isatty(2) == 1}, write);
}

}  // namespace sluice
