// stream-repack: rewrites a model's experts as records, one aligned read each, losslessly.
//
//   stream-repack --model DIR --out DIR [--perm FILE] [--verify] [--threads N] [--memory-gb N]
//
// Everything it says goes to standard error. A run that fails or is interrupted leaves nothing.
#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "io/error.h"
#include "model/machine.h"
#include "model/plan.h"
#include "model/repack.h"
#include "tools/interrupt.h"
#include "tools/progress_bar.h"
#include "tools/repack_options.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

struct Interrupted {};

// One bar for each step, as it begins.
class Bars {
 public:
  void update(const char* step, uint64_t done, uint64_t total) {
    if (interrupted()) throw Interrupted();
    if (step_ != step) {
      bar_.reset();
      bar_.reset(new ProgressBar(stderr_progress(step, ProgressBar::Unit::bytes)));
      step_ = step;
    }
    bar_->update(done, total);
  }

 private:
  std::string step_;
  std::unique_ptr<ProgressBar> bar_;
};

std::string summary(const RepackOptions& options, const RepackReport& report, double seconds) {
  const uint64_t records = uint64_t{report.layers} * report.experts;
  const uint64_t written = report.record_bytes + report.copied_bytes;
  const auto rate = static_cast<uint64_t>(static_cast<double>(written) / seconds);
  char time[32];
  std::snprintf(time, sizeof(time), "%.1f s", seconds);
  std::string text = options.out.string() + ": " + std::to_string(records) + " records of " +
                     bytes_text(report.largest_record_bytes) + ", " +
                     bytes_text(report.record_bytes) + " for " +
                     bytes_text(report.source_expert_bytes) + " of experts";
  if (report.permuted) text += ", in the order of " + *options.permutation;
  text += "; " + bytes_text(report.copied_bytes) + " copied\n" + bytes_text(written) +
          " written in " + time + ", " + bytes_text(rate) + "/s, peak resident " +
          bytes_text(peak_resident_bytes()) + "\n";
  if (options.verify) {
    text += std::to_string(report.verified_records) +
            " records and everything else read back and equal to the source\n";
  }
  return text;
}

int run(const RepackOptions& options) {
  catch_interrupts();
  const Clock::time_point start = Clock::now();
  RepackReport report;
  {
    Bars bars;
    report = repack(options, [&](const char* step, uint64_t done, uint64_t total) {
      bars.update(step, done, total);
    });
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  std::fputs(summary(options, report, seconds).c_str(), stderr);
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  try {
    const sluice::ParsedRepack parsed =
        sluice::parse_repack_options(std::vector<std::string>(argv + 1, argv + argc));
    if (!parsed.options) {
      std::fputs(parsed.end.text.c_str(), parsed.end.exit_status == 0 ? stdout : stderr);
      return parsed.end.exit_status;
    }
    return sluice::run(*parsed.options);
  } catch (const sluice::Interrupted&) {
    std::fputs("stream-repack: interrupted; nothing was left behind\n", stderr);
    return sluice::kInterruptedExit;
  } catch (const std::bad_alloc&) {
    std::fputs("stream-repack: out of memory; lower --memory-gb or --threads\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stream-repack: %s\n", error.what());
  }
  return 1;
}
