// stream-convert: rewrites a published checkpoint as TurboQuant, in the layout that streams best.
//
//   stream-convert --model DIR --out DIR [--bits 3] [--layout records|mlx] ...
//
// Everything it says goes to standard error; the report, as JSON, to the file of --report.
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/atomic_file.h"
#include "io/error.h"
#include "io/json_text.h"
#include "model/convert_pipeline.h"
#include "model/converter.h"
#include "model/machine.h"
#include "model/plan.h"
#include "tools/convert_options.h"
#include "tools/interrupt.h"
#include "tools/progress_bar.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

void say(const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }

void write_report(const ConvertCommand& command, const ConvertResult& result) {
  nlohmann::ordered_json report = {{"program", command.options.program},
                                   {"settings", command.options.settings.text()}};
  report.update(report_json(result.matrices));
  write_text_file(*command.report, json_text(report, 2) + "\n");
}

int convert(const ConvertCommand& command) {
  const ConvertOptions& options = command.options;
  const auto start = Clock::now();
  // Hours later would be too late to find out that it cannot be written.
  if (command.report) {
    if (std::filesystem::is_directory(*command.report)) {
      throw Error(*command.report, ": is a directory; --report names a file");
    }
    AtomicFile probe(*command.report);
  }
  uint64_t read_bytes = 0;
  ConvertResult result;
  {
    std::unique_ptr<ProgressBar> bar;
    const auto show = [&bar](const char* step, uint64_t done, uint64_t total) {
      if (!bar) bar.reset(new ProgressBar(stderr_progress(step, ProgressBar::Unit::bytes)));
      bar->update(done, total);
      if (done == total) bar.reset();  // the next step has its own
    };
    ConvertEvents events;
    events.planned = [&](const ConvertPlan& plan, size_t finished) {
      say(options.out.string() + ": " + bytes_text(plan.output_bytes) + " in " +
          std::to_string(plan.shards.size()) + " files" +
          (finished == 0
               ? ""
               : ", " + std::to_string(finished) + " of them finished by an earlier run"));
    };
    events.progress = [&](uint64_t done, uint64_t total) {
      read_bytes = done;
      show("converting", done, total);
    };
    events.verifying = [&](uint64_t done, uint64_t total) {
      if (interrupted()) throw ConvertStopped{};
      show("verifying", done, total);
    };
    events.should_stop = [] { return interrupted(); };
    result = convert_model(options, events);
  }
  if (result.finished_before) {
    say(options.out.string() + ": was finished already" +
        (options.verify ? "; " + std::to_string(result.verified_records) + " records verified"
                        : ""));
    if (command.report) say(*command.report + ": not written; errors are measured while encoding");
    return 0;
  }
  for (const std::string& line : report_lines(result.matrices)) say(line);
  if (command.report) write_report(command, result);
  if (options.verify) say(std::to_string(result.verified_records) + " records verified");
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const auto rate = static_cast<uint64_t>(static_cast<double>(read_bytes) / seconds);
  char time[32];
  std::snprintf(time, sizeof(time), "%.1f s", seconds);
  say(options.out.string() + ": done; " + bytes_text(read_bytes) + " read in " + time + ", " +
      bytes_text(rate) + "/s, peak resident " + bytes_text(peak_resident_bytes()));
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  try {
    const sluice::ParsedConvert parsed =
        sluice::parse_convert_options(std::vector<std::string>(argv + 1, argv + argc));
    if (!parsed.command) {
      std::fputs(parsed.end.text.c_str(), parsed.end.exit_status == 0 ? stdout : stderr);
      return parsed.end.exit_status;
    }
    sluice::catch_interrupts();
    return sluice::convert(*parsed.command);
  } catch (const sluice::ConvertStopped&) {
    std::fputs("stream-convert: interrupted; the same command goes on from here\n", stderr);
    return sluice::kInterruptedExit;
  } catch (const std::bad_alloc&) {
    std::fputs("stream-convert: out of memory; lower --memory-gb or --threads\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stream-convert: %s\n", error.what());
  }
  return 1;
}
