// cold_read: how fast cold experts come through stream/, beside what the device gives to fio.
//
//   cold_read [--dir DIR] [--file-mb N] [--rounds N] [--depth N] [--expert-mb X ...] [--ramp-ms N]
//   [--round-ms N] [--json] [--quick]
//
// Writes one big file, lays experts of several sizes over it by rewriting its header, and fetches
// them in layer batches of 8 through a cache that holds just these 8, so that everything misses. In
// the same run, round by round, since disks fluctuate: both back ends, fio with blocks of the
// experts' size at a depth of 8, and a bare loop of 8 pread threads. Reported are medians over the
// rounds; ratios are medians of the rounds' ratios. MB are 10^6 of the experts' own bytes; padding
// of alignment counts for nothing.
//
// Every reader reads for --ramp-ms before its time is taken (Window of bench/ceiling.h says why):
// the same fio command was twice as fast in its first 300 MB as afterwards.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <random>
#include <thread>

#include "bench/bench_file.h"
#include "bench/bench_main.h"
#include "bench/ceiling.h"
#include "cache/slab.h"
#include "io/error.h"
#include "io/json_text.h"
#include "io/read_queue.h"
#include "stream/expert_stream.h"

namespace sluice::bench {
namespace {

constexpr uint32_t kBatch = 8;              // experts per token of common models
constexpr uint64_t kHeaderBytes = 4 << 20;  // room for the names of 10,000 experts
constexpr uint64_t kHashed = 16 * kBatch;   // experts whose bytes the back ends are compared by
constexpr const char* kLayer = "model.layers.0.mlp.";

struct Settings {
  std::string directory = std::filesystem::temp_directory_path().string();
  uint64_t file_mb = 2048;
  uint32_t rounds = 7;
  uint32_t depth = 16;
  uint32_t ramp_ms = 1000;   // each reader reads so long before its time is taken,
  uint32_t round_ms = 1500;  // then so long
  std::vector<double> expert_mb = {0.3, 1, 2.5};
  bool json = false;
  bool quick = false;
};

// One way to lay experts over the file, and the blocks that a plain reader would use for them.
struct Case {
  std::string name;
  ExpertNames names;
  std::string header;        // of the safetensors file
  std::string fio_blocks;    // fio's option
  uint64_t block_bytes = 0;  // of the bare loop: the longest read of an expert
};

Window window_of(const Settings& settings) {
  return {settings.ramp_ms / 1e3, settings.round_ms / 1e3};
}

uint64_t in_pages(uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

// Collects tensors one behind the other; the file's rest becomes a last tensor, as none may be left
// over.
class HeaderWriter {
 public:
  void add(const std::string& name, DType dtype, std::vector<uint64_t> shape) {
    uint64_t size = dtype_bytes(dtype);
    for (const uint64_t dimension : shape) size *= dimension;
    json_[name] = {{"dtype", dtype_name(dtype)},
                   {"shape", std::move(shape)},
                   {"data_offsets", {end_, end_ + size}}};
    end_ += size;
  }
  std::string finish(uint64_t file_bytes) {
    add("rest", DType::u8, {file_bytes - kHeaderBytes - end_});
    std::string text = json_text(json_);
    const uint64_t header_bytes = kHeaderBytes - sizeof(uint64_t);
    if (text.size() > header_bytes) throw Error("too many experts: lower --file-mb");
    text.resize(header_bytes, ' ');
    return std::string(reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes) + text;
  }

 private:
  nlohmann::json json_ = nlohmann::json::object();
  uint64_t end_ = 0;
};

ExpertNames names_of(uint32_t experts, uint32_t hidden, uint32_t intermediate) {
  return {.layer = 0,
          .experts = experts,
          .per_expert_prefix = std::string(kLayer) + "experts",
          .stacked_prefixes = {std::string(kLayer) + "switch_mlp"},
          .projections = {{"gate_proj", intermediate, hidden},
                          {"up_proj", intermediate, hidden},
                          {"down_proj", hidden, intermediate}}};
}

// BF16 experts, each in one run: gate, up, down.
Case plain_case(double expert_mb, uint64_t file_bytes) {
  constexpr uint32_t kHidden = 1024;
  const auto rows = static_cast<uint32_t>(expert_mb * 1e6 / (3 * 2 * kHidden));
  const uint64_t expert_bytes = uint64_t{3} * 2 * kHidden * rows;
  const auto experts = static_cast<uint32_t>((file_bytes - kHeaderBytes) / expert_bytes);
  Case result;
  char name[64];
  std::snprintf(name, sizeof name, "%.1f MB, 1 read", static_cast<double>(expert_bytes) / 1e6);
  result.name = name;
  result.names = names_of(experts, kHidden, rows);
  HeaderWriter header;
  for (uint32_t expert = 0; expert < experts; ++expert) {
    for (const auto& projection : result.names.projections) {
      header.add(result.names.per_expert_prefix + "." + std::to_string(expert) + "." +
                     projection.name + ".weight",
                 DType::bf16, {projection.rows, projection.cols});
    }
  }
  result.header = header.finish(file_bytes);
  result.block_bytes = in_pages(expert_bytes);
  result.fio_blocks = "--bs=" + std::to_string(result.block_bytes);
  return result;
}

// Stacked TurboQuant at 3 bits, of the shapes of Qwen3-30B-A3B: three slices of 630 KB, three of 49
// KB.
Case stacked_case(uint64_t file_bytes) {
  constexpr uint32_t kHidden = 2048, kIntermediate = 768, kGroup = 64, kPerWord = 10;
  constexpr uint64_t kExpertBytes = 2'037'760;  // its six slices
  const auto experts =
      static_cast<uint32_t>((file_bytes - kHeaderBytes - (uint64_t{64} << 10)) / kExpertBytes);
  Case result;
  result.name = "2.0 MB, 6 reads";
  result.names = names_of(experts, kHidden, kIntermediate);
  HeaderWriter header;
  for (const auto& projection : result.names.projections) {
    const std::string prefix = result.names.stacked_prefixes[0] + "." + projection.name;
    const uint64_t words = (projection.cols + kPerWord - 1) / kPerWord;
    header.add(prefix + ".codebook", DType::f16, {8});
    header.add(prefix + ".signs", DType::f16, {projection.cols});
    header.add(prefix + ".weight", DType::u32, {experts, projection.rows, words});
    header.add(prefix + ".scales", DType::f16,
               {experts, projection.rows, projection.cols / kGroup});
  }
  result.header = header.finish(file_bytes);
  result.block_bytes = in_pages(uint64_t{kIntermediate} * 205 * sizeof(uint32_t));
  result.fio_blocks = "--bssplit=" + std::to_string(result.block_bytes) + "/50:53248/50";
  return result;
}

struct Measured {
  double mb_per_second = 0;
  uint64_t hash = 0;  // of the first experts' first words, in any order
};

// Experts in batches, each expert once in a while: order is a permutation that goes round.
Measured read_through_stream(ReadBackend backend, const ExpertSource& source,
                             const DirectFile& file, const Settings& settings,
                             std::span<const uint32_t> order) {
  const std::unique_ptr<ReadQueue> queue = make_read_queue(backend, settings.depth);
  const DirectFile* const files[] = {&file};
  ExpertStream stream(
      source, files, *queue,
      {.budget_bytes = kBatch * source.slot_bytes(), .policy = "lru", .experts_per_token = kBatch});
  Measured result;
  const auto visit = [&](uint64_t first) {
    uint32_t batch[kBatch];
    for (uint32_t i = 0; i < kBatch; ++i) batch[i] = order[(first + i) % order.size()];
    ExpertStream::Fetch fetch = stream.fetch(0, batch, FetchMode::decode);
    while (const auto i = fetch.next()) {
      for (const ProjectionView& projection : fetch.view(*i)) {
        uint64_t word;
        std::memcpy(&word, projection.data, sizeof word);
        if (first < kHashed) result.hash += word;
      }
      fetch.release(*i);
    }
  };
  visit(order.size() / 2);  // touches the slots' memory for the first time
  result.hash = 0;
  Window window = window_of(settings);
  uint64_t first = 0;
  bool more = true;
  while (more || first < kHashed) {
    visit(first);
    more = window.add(kBatch * source.expert_bytes());
    first += kBatch;
  }
  result.mb_per_second = window.bytes_per_second() / 1e6;
  return result;
}

// The same blocks by threads that do nothing else.
double read_bare(const DirectFile& file, uint64_t block_bytes, const Settings& settings) {
  const uint64_t blocks = file.size_bytes() / block_bytes;
  Window window = window_of(settings);
  std::mutex mutex;
  bool more = true;
  std::atomic<int> error = 0;
  std::vector<std::thread> threads;
  for (uint32_t thread = 0; thread < kBatch; ++thread) {
    threads.emplace_back([&] {
      const Slab buffer(block_bytes);
      std::mt19937_64 random(std::random_device{}());
      for (bool go_on = true; go_on;) {
        const auto offset = static_cast<off_t>(random() % blocks * block_bytes);
        if (pread(file.fd(), buffer.data(), block_bytes, offset) < 0) error = errno;
        const std::lock_guard lock(mutex);
        more = more && window.add(block_bytes);
        go_on = more && error == 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (error != 0) throw Error(file.path(), ": cannot read: ", errno_text(error));
  return window.bytes_per_second() / 1e6;
}

bool have_fio() { return std::system("command -v fio >/dev/null 2>&1") == 0; }

// Empty if fio did not run (a sandbox without io_uring, say).
std::optional<double> read_with_fio(const std::string& path, const std::string& blocks,
                                    const Settings& settings) {
  for (const char* engine : {"io_uring", "libaio"}) {
    const std::string command =
        "fio --name=cold_read --readonly --direct=1 --rw=randread --randrepeat=0 --norandommap" +
        std::string(" --ioengine=") + engine + " --iodepth=" + std::to_string(kBatch) + " " +
        blocks + " --time_based --ramp_time=" + std::to_string(settings.ramp_ms) +
        "ms --runtime=" + std::to_string(settings.round_ms) + "ms --filename='" + path +
        "' --output-format=json 2>/dev/null";
    FILE* pipe = popen(command.c_str(), "r");
    if (pipe == nullptr) return std::nullopt;
    std::string output;
    char buffer[4096];
    for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, n);
    if (pclose(pipe) != 0) continue;
    const auto json = json_from(output, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) continue;
    const double bytes_per_second = json["jobs"][0]["read"]["bw_bytes"].get<double>();
    if (bytes_per_second > 0) return bytes_per_second / 1e6;
  }
  return std::nullopt;
}

struct Reader {
  std::string name;
  std::vector<double> mb_per_second;
  std::vector<double> ratio;  // to fio in the same round; to the bare loop where there is no fio
};

nlohmann::json report(const Case& experts, const std::vector<Reader>& readers, bool print) {
  nlohmann::json row = {{"case", experts.name}};
  if (print) std::printf("%-16s", experts.name.c_str());
  for (const Reader& reader : readers) {
    if (reader.mb_per_second.empty()) continue;
    const double speed = median(reader.mb_per_second);
    const double ratio = median(reader.ratio);
    row[reader.name] = {{"mb_per_second", speed}, {"ratio", ratio}};
    if (print) std::printf("  %8.0f %5.1f%%", speed, 100 * ratio);
  }
  if (print) std::printf("\n");
  return row;
}

nlohmann::json run_case(const Case& experts, BenchFile& bench_file, const Settings& settings) {
  bench_file.overwrite_start(experts.header);
  const Checkpoint checkpoint = Checkpoint::open(bench_file.directory());
  const ExpertSource source(checkpoint, std::span(&experts.names, 1));
  const DirectFile file(bench_file.path());
  std::vector<uint32_t> order(experts.names.experts);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  const bool fio = have_fio();

  std::vector<Reader> readers = {
      {"io_uring", {}, {}}, {"pread", {}, {}}, {"bare", {}, {}}, {"fio", {}, {}}};
  bool use_uring = true;
  for (uint32_t round = 0; round < settings.rounds; ++round) {
    std::array<std::optional<double>, 4> speed;
    std::optional<uint64_t> hash;
    for (uint32_t turn = 0; turn < readers.size();
         ++turn) {  // another one goes first in each round
      const auto which = static_cast<uint32_t>((round + turn) % readers.size());
      if (which == 2) speed[2] = read_bare(file, experts.block_bytes, settings);
      if (which == 3 && fio) {
        speed[3] = read_with_fio(bench_file.path(), experts.fio_blocks, settings);
      }
      if (which > 1 || (which == 0 && !use_uring)) continue;
      const ReadBackend backend = which == 0 ? ReadBackend::io_uring : ReadBackend::pread;
      try {
        const Measured measured = read_through_stream(backend, source, file, settings, order);
        speed[which] = measured.mb_per_second;
        if (hash && *hash != measured.hash) throw Error("the back ends read different bytes");
        hash = measured.hash;
      } catch (const Error& error) {
        if (which == 1 || round > 0) throw;
        std::fprintf(stderr, "without io_uring: %s\n", error.what());
        use_uring = false;
      }
    }
    const double ceiling = speed[3] ? *speed[3] : *speed[2];
    for (size_t i = 0; i < readers.size(); ++i) {
      if (!speed[i]) continue;
      readers[i].mb_per_second.push_back(*speed[i]);
      readers[i].ratio.push_back(*speed[i] / ceiling);
    }
    std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(order.size() / 3),
                order.end());
  }
  return report(experts, readers, !settings.json);
}

void run(Settings settings) {
  if (settings.quick) {
    settings.file_mb = 64;
    settings.ramp_ms = 10;
    settings.round_ms = 100;
    settings.rounds = 2;
  }
  if (settings.file_mb < 64) throw Error("--file-mb must be at least 64");
  const uint64_t file_bytes = settings.file_mb << 20;
  BenchFile bench_file(settings.directory, "model.safetensors", file_bytes);
  const DirectFile file(bench_file.path());
  if (!settings.json) {
    std::printf("%llu MiB in %s, %s; batches of %u experts, depth %u; medians of %u rounds\n",
                static_cast<unsigned long long>(settings.file_mb), settings.directory.c_str(),
                file.direct() ? "direct" : "buffered (not cold: nothing here is worth quoting)",
                kBatch, settings.depth, settings.rounds);
    std::printf("%-16s  %15s  %15s  %15s  %15s\n", "MB/s, of fio", "io_uring", "pread",
                "bare pread loop", have_fio() ? "fio" : "(no fio: % of the loop)");
  }
  nlohmann::json rows = nlohmann::json::array();
  for (const double expert_mb : settings.expert_mb) {
    if (expert_mb < 0.05 || expert_mb > 7) throw Error("--expert-mb must be between 0.05 and 7");
    rows.push_back(run_case(plain_case(expert_mb, file_bytes), bench_file, settings));
  }
  rows.push_back(run_case(stacked_case(file_bytes), bench_file, settings));
  if (settings.json) {
    std::cout << json_text(nlohmann::json{{"bench", "cold_read"},
                                          {"direct", file.direct()},
                                          {"depth", settings.depth},
                                          {"rounds", settings.rounds},
                                          {"cases", rows}},
                           2)
              << "\n";
  }
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Settings settings;
  CLI::App app("Speed of cold expert reads through stream/, beside what fio reaches.");
  app.add_option("--dir", settings.directory, "Where to put the file")->capture_default_str();
  app.add_option("--file-mb", settings.file_mb, "Size of the file in MiB")->capture_default_str();
  app.add_option("--rounds", settings.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--ramp-ms", settings.ramp_ms, "Each reader reads so long before its time counts")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  app.add_option("--round-ms", settings.round_ms, "Each reader's time in a round")
      ->check(CLI::Range(10, 100000))
      ->capture_default_str();
  app.add_option("--depth", settings.depth, "Pieces at the device at once")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--expert-mb", settings.expert_mb, "Sizes of the experts")->capture_default_str();
  app.add_flag("--json", settings.json);
  app.add_flag("--quick", settings.quick, "A moment's run, to see that it works");
  return sluice::bench::bench_main(app, argc, argv, [&] { sluice::bench::run(settings); });
}
