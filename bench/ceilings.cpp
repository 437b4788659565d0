// ceilings: what this machine gives at most: memory to 1 to N threads that only read, and a disk to
// direct reads of blocks at random places, by size and depth.
//
//   ceilings [--file FILE | --dir DIR --file-mb N] [--block-kb N,N,...] [--depth N,N,...]
//            [--threads N] [--memory-mb N] [--rounds N] [--ramp-ms N] [--round-ms N] [--json]
//            [--quick]
//
// GB are 10^9 bytes, times are the clock's: what is shown is what is left of the machine. The
// figures are medians of the rounds (bench/ceiling.h says how each is taken); in a round every cell
// has its turn, so that a slow minute slows all. FILE is only read. Without it a file of
// pseudo-random bytes is written into DIR and removed at the end; a host that has just taken it in
// may have it in memory, and a file much larger than that memory is the better measure.
#include <stdlib.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "bench/bench_file.h"
#include "bench/bench_main.h"
#include "bench/ceiling.h"
#include "cache/slab.h"
#include "io/direct_file.h"
#include "io/error.h"
#include "io/json_text.h"

namespace sluice::bench {
namespace {

struct Settings {
  std::string file;
  std::string directory = std::filesystem::temp_directory_path().string();
  uint64_t file_mb = 4096;
  std::vector<uint64_t> block_kb = {64, 256, 1024, 4096};
  std::vector<uint32_t> depths = {1, 2, 4, 8, 16};
  uint32_t threads = std::max(1u, std::thread::hardware_concurrency());
  uint64_t memory_mb = 0;  // 0: beyond four times the last cache
  uint32_t rounds = 5;
  uint32_t ramp_ms = 300;
  uint32_t round_ms = 700;
  bool json = false;
  bool quick = false;
};

double load_average() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : -1;
}

nlohmann::json measure_memory(const Settings& settings) {
  const uint64_t bytes = settings.memory_mb > 0 ? settings.memory_mb << 20
                                                : last_cache_bytes() * 4 + last_cache_bytes() / 4;
  const Slab memory(bytes);
  std::fill(memory.bytes().begin(), memory.bytes().end(), std::byte{1});
  if (!settings.json) {
    std::printf("memory, %.0f MiB, last cache %.0f MiB\nthreads    GB/s\n",
                static_cast<double>(bytes) / (1 << 20),
                static_cast<double>(last_cache_bytes()) / (1 << 20));
  }
  nlohmann::json rows = nlohmann::json::array();
  for (uint32_t threads = 1; threads <= settings.threads; ++threads) {
    const double rate = memory_read_rate(memory.bytes(), threads, settings.rounds);
    rows.push_back({{"threads", threads}, {"gb_per_second", rate}});
    if (!settings.json) std::printf("%7u %7.1f\n", threads, rate);
  }
  return {{"bytes", bytes}, {"last_cache_bytes", last_cache_bytes()}, {"rates", rows}};
}

nlohmann::json measure_disk(const Settings& settings, const std::string& path) {
  const DirectFile file(path);
  const size_t cells = settings.block_kb.size() * settings.depths.size();
  std::vector<std::vector<double>> rates(cells);
  for (uint32_t round = 0; round < settings.rounds; ++round) {
    for (size_t cell = 0; cell < cells; ++cell) {
      rates[cell].push_back(
          disk_read_rate({.path = path,
                          .block_bytes = settings.block_kb[cell / settings.depths.size()] << 10,
                          .depth = settings.depths[cell % settings.depths.size()],
                          .ramp_seconds = settings.ramp_ms / 1e3,
                          .seconds = settings.round_ms / 1e3}));
    }
  }
  if (!settings.json) {
    std::printf("\ndisk, %.0f MiB, %s: GB/s with so many reads at once\n    block",
                static_cast<double>(file.size_bytes()) / (1 << 20),
                file.direct()
                    ? "direct"
                    : ("buffered, no figure of a disk: " + file.buffered_reason()).c_str());
    for (const uint32_t depth : settings.depths) std::printf(" %7u", depth);
    std::printf("\n");
  }
  nlohmann::json rows = nlohmann::json::array();
  for (size_t cell = 0; cell < cells; ++cell) {
    const uint64_t block_kb = settings.block_kb[cell / settings.depths.size()];
    const size_t column = cell % settings.depths.size();
    const double rate = median(rates[cell]);
    rows.push_back({{"block_bytes", block_kb << 10},
                    {"depth", settings.depths[column]},
                    {"gb_per_second", rate}});
    if (settings.json) continue;
    if (column == 0) std::printf("%5llu KiB", static_cast<unsigned long long>(block_kb));
    std::printf(" %7.3f", rate);
    if (column + 1 == settings.depths.size()) std::printf("\n");
  }
  return {{"file_bytes", file.size_bytes()},
          {"direct", file.direct()},
          {"alignment", file.alignment()},
          {"rates", rows}};
}

void run(Settings settings) {
  if (settings.quick) {
    settings.file_mb = 16;
    settings.memory_mb = 16;
    settings.rounds = 1;
    settings.ramp_ms = 2;
    settings.round_ms = 20;
  }
  for (const uint64_t kb : settings.block_kb) {
    if (kb == 0 || kb % 4 != 0 || kb > 1 << 16) {
      throw Error("--block-kb ", kb, ": expected a multiple of 4, at most 65536");
    }
  }
  const double load = load_average();
  if (!settings.json) {
    std::printf("medians of %u rounds; load average %.2f before%s\n", settings.rounds, load,
                load > 0.5 ? ": others are at work here, and take their share" : "");
  }
  nlohmann::json result = {
      {"bench", "ceilings"}, {"rounds", settings.rounds}, {"load_average", load}};
  result["memory"] = measure_memory(settings);
  if (settings.file.empty()) {
    const BenchFile file(settings.directory, "blocks", settings.file_mb << 20);
    result["disk"] = measure_disk(settings, file.path());
  } else {
    result["disk"] = measure_disk(settings, settings.file);
  }
  if (settings.json) std::cout << json_text(result, 2) << "\n";
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Settings settings;
  CLI::App app("What this machine gives at most: memory by threads, disk by block and depth.");
  auto* file = app.add_option("--file", settings.file, "A large file to read from");
  app.add_option("--dir", settings.directory, "Where to write one otherwise")
      ->excludes(file)
      ->capture_default_str();
  app.add_option("--file-mb", settings.file_mb, "Its size in MiB")
      ->excludes(file)
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--block-kb", settings.block_kb, "Sizes of reads in KiB")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--depth", settings.depths, "Reads at once")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--threads", settings.threads, "Memory is read by 1 to so many")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--memory-mb", settings.memory_mb,
                 "Memory to read; 0: beyond four times the last cache")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--rounds", settings.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--ramp-ms", settings.ramp_ms, "The disk is read so long before the time counts")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  app.add_option("--round-ms", settings.round_ms, "A cell's time in a round")
      ->check(CLI::Range(10, 100000))
      ->capture_default_str();
  app.add_flag("--json", settings.json);
  app.add_flag("--quick", settings.quick, "A moment's run, to see that it works");
  return sluice::bench::bench_main(app, argc, argv, [&] { sluice::bench::run(settings); });
}
