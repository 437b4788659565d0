// read_gap: how many unwanted bytes are worth reading to save a request. The answer is
// kMergeGapBytes of io/coalesce.h.
//
//   read_gap [--dir DIR] [--file-mb N] [--slice-kb N] [--depth N] [--rounds N] [--quick]
//
// For gaps from 4 KiB on: many pairs of slices, the gap between them, at random places of a big
// file, read as two requests each and as one request across the gap; round by round in turn, at the
// depth that the stream uses. The two break even where the ratio of the times crosses 1.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <random>

#include "bench/bench_file.h"
#include "bench/bench_main.h"
#include "cache/slab.h"
#include "io/error.h"
#include "io/read_queue.h"

namespace sluice::bench {
namespace {

struct Settings {
  std::string directory = std::filesystem::temp_directory_path().string();
  uint64_t file_mb = 2048;
  uint64_t slice_kb = 48;  // scales of a 768 × 2048 matrix: the small slices that merging is for
  uint32_t depth = 16;
  uint32_t rounds = 9;
  uint32_t pairs = 1500;
  bool quick = false;
};

// Reads the pairs; merged: each as one request. Returns seconds. buffer: [depth, 2 slices + gap],
// whose parts are reused in turn: nobody looks at the bytes.
double read_pairs(ReadQueue& queue, const DirectFile& file, std::span<std::byte> buffer,
                  std::span<const uint64_t> offsets, uint64_t slice_bytes, uint64_t gap_bytes,
                  bool merged) {
  const uint64_t pair_bytes = 2 * slice_bytes + gap_bytes;
  const uint64_t places = buffer.size() / pair_bytes;
  std::vector<ReadRequest> requests;
  for (size_t i = 0; i < offsets.size(); ++i) {
    std::byte* destination = buffer.data() + i % places * pair_bytes;
    const auto add = [&](uint64_t skip, uint64_t size_bytes) {
      requests.push_back({.file = &file,
                          .offset = offsets[i] + skip,
                          .size_bytes = size_bytes,
                          .needed_bytes = size_bytes,
                          .destination = destination + skip,
                          .tag = requests.size(),
                          .deadline = Deadline::demand});
    };
    if (merged) {
      add(0, pair_bytes);
    } else {
      add(0, slice_bytes);
      add(slice_bytes + gap_bytes, slice_bytes);
    }
  }
  const auto start = std::chrono::steady_clock::now();
  read_all(queue, requests);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void run_backend(ReadBackend backend, const DirectFile& file, const Settings& settings) {
  std::unique_ptr<ReadQueue> queue;
  try {
    queue = make_read_queue(backend, settings.depth);
  } catch (const Error& error) {
    std::printf("skipped: %s\n", error.what());
    return;
  }
  const uint64_t slice_bytes = settings.slice_kb << 10;
  constexpr uint64_t kLargestGap = 256 << 10;
  // Every request in flight has a place of its own, and some are waiting.
  const Slab buffer(4 * settings.depth * (2 * slice_bytes + kLargestGap));
  std::printf("%s: two slices of %llu KiB, depth %u\n", queue->description().c_str(),
              static_cast<unsigned long long>(settings.slice_kb), settings.depth);
  std::printf("%10s  %12s  %12s  %14s\n", "gap KiB", "two, µs", "merged, µs", "merged/two");
  std::mt19937_64 random(1);
  double last_ratio = 0;
  uint64_t last_gap = 0;
  double break_even = 0;
  for (uint64_t gap = 4 << 10; gap <= kLargestGap; gap *= 2) {
    const uint64_t blocks = (file.size_bytes() - 2 * slice_bytes - gap) / kPageBytes;
    std::vector<double> two, merged, ratio;
    for (uint32_t round = 0; round < settings.rounds; ++round) {
      std::vector<uint64_t> offsets(settings.pairs);
      for (uint64_t& offset : offsets) offset = random() % blocks * kPageBytes;
      const auto measure = [&](bool as_one) {
        return read_pairs(*queue, file, buffer.bytes(), offsets, slice_bytes, gap, as_one) * 1e6 /
               settings.pairs;
      };
      const bool first = round % 2 == 0;  // who goes first alternates
      const double a = measure(first);
      const double b = measure(!first);
      merged.push_back(first ? a : b);
      two.push_back(first ? b : a);
      ratio.push_back(merged.back() / two.back());
    }
    const double middle = median(ratio);
    std::printf("%10llu  %12.1f  %12.1f  %14.2f\n", static_cast<unsigned long long>(gap >> 10),
                median(two), median(merged), middle);
    if (break_even == 0 && middle >= 1) {
      const double share = last_gap == 0 ? 0 : (1 - last_ratio) / (middle - last_ratio);
      break_even = static_cast<double>(last_gap) + share * static_cast<double>(gap - last_gap);
    }
    last_ratio = middle;
    last_gap = gap;
  }
  if (last_gap > 0 && break_even == 0) {
    std::printf("one request is cheaper than two up to the largest gap\n");
  } else {
    std::printf("break-even near %.0f KiB\n", break_even / 1024);
  }
}

void run(Settings settings) {
  if (settings.quick) {
    settings.file_mb = 64;
    settings.rounds = 1;
    settings.pairs = 50;
  }
  if (settings.file_mb < 16) throw Error("--file-mb must be at least 16");
  const BenchFile bench_file(settings.directory, "gap.bin", settings.file_mb << 20);
  const DirectFile file(bench_file.path());
  if (!file.direct()) std::printf("buffered, not direct: nothing here is worth quoting\n");
  run_backend(ReadBackend::io_uring, file, settings);
  run_backend(ReadBackend::pread, file, settings);
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Settings settings;
  CLI::App app("The gap at which one merged read costs as much as two.");
  app.add_option("--dir", settings.directory, "Where to put the file")->capture_default_str();
  app.add_option("--file-mb", settings.file_mb, "Size of the file in MiB")->capture_default_str();
  app.add_option("--slice-kb", settings.slice_kb, "Size of a slice in KiB, a multiple of 4")
      ->check(CLI::Range(4, 1024))
      ->capture_default_str();
  app.add_option("--depth", settings.depth)->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--rounds", settings.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--pairs", settings.pairs)->check(CLI::Range(1, 100000))->capture_default_str();
  app.add_flag("--quick", settings.quick, "A moment's run, to see that it works");
  return sluice::bench::bench_main(app, argc, argv, [&] { sluice::bench::run(settings); });
}
