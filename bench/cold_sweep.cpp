// cold_sweep: how fast a chunk of a prompt sweeps through experts that are on the disk, beside what
// the disk gives.
//
//   cold_sweep [--model DIR] [--share X] [--products N ...] [--rounds N] [--threads N] [--depth N]
//              [--io-bounce auto|on|off] [--json] [--quick]
//
// Of every layer all experts are fetched in sweep mode, those of the next are looked ahead for, as
// in a prompt whose tokens choose nearly all of them, and each is multiplied with a vector
// --products times, which stands for as many tokens: 0 is the reads alone. The cache holds --share
// of the experts and keeps little of a sweep, so that every sweep reads nearly everything.
//
// Each row has its own cache; in each round every row makes one sweep through the model, with the
// disk's ceiling taken before and behind it, and the memory's once. What a sweep read / the disk's
// ceiling is its I/O floor, the bytes that it multiplied / the memory's ceiling its memory floor;
// reported are medians over the rounds.
//
// Without --model, experts of the qwen3-30b preset's shape are written to --dir as records of 3
// bits.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "bench/bench_file.h"
#include "bench/bench_main.h"
#include "bench/ceiling.h"
#include "bench/expert_layers.h"
#include "bench/routing_generator.h"
#include "bench/synthetic_records.h"
#include "io/json_text.h"
#include "model/workers.h"
#include "tools/engine_options.h"

namespace sluice::bench {
namespace {

struct Settings {
  std::string model;
  std::string directory = std::filesystem::temp_directory_path().string();
  uint32_t layers = 8;  // to write
  double share = 0.25;
  std::vector<uint32_t> products = {0, 1, 4};
  uint32_t rounds = 5;
  uint32_t threads = available_threads();
  uint32_t depth = 16;
  Bounce bounce = Bounce::automatic;
  double ramp_seconds = 0.2;  // of the disk's ceiling
  double ceiling_seconds = 0.5;
  uint64_t memory_bytes = uint64_t{512} << 20;  // that the memory's ceiling is measured with
  bool json = false;
  bool quick = false;
};

constexpr uint32_t kCeilingRounds = 3;

// One way through the model, again and again.
class Sweeper {
 public:
  Sweeper(ExpertLayers& layers, const Settings& settings, uint32_t products)
      : layers_(layers),
        products_(products),
        queue_(make_read_queue(ReadBackend::automatic, settings.depth)),
        stream_(layers.source(), layers.files(), *queue_,
                {.budget_bytes = budget(layers, settings.share),
                 .experts_per_token = layers.experts_per_token(),
                 .bounce = settings.bounce}),
        experts_(layers.source().experts()) {
    std::iota(experts_.begin(), experts_.end(), 0u);
  }

  struct Sweep {
    double seconds = 0;
    double bytes_read = 0;
    double waiting_seconds = 0;
  };
  Sweep run() {
    stream_.reset_statistics();
    const auto start = std::chrono::steady_clock::now();
    const uint32_t layer_count = layers_.source().layers();
    for (uint32_t layer = 0; layer < layer_count; ++layer) {
      ExpertStream::Fetch fetch = stream_.fetch(layer, experts_, FetchMode::sweep);
      if (layer + 1 < layer_count) stream_.look_ahead(layer + 1, experts_, FetchMode::sweep);
      layers_.sweep(layer, products_, fetch, stream_);
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    const StreamStatistics statistics = stream_.statistics();
    return {
        .seconds = took.count(),
        .bytes_read = static_cast<double>(statistics.reads.bytes_demanded +
                                          statistics.reads.bytes_speculated),
        .waiting_seconds = static_cast<double>(statistics.wait_us) * 1e-6,
    };
  }

  static uint64_t budget(const ExpertLayers& layers, double share) {
    const ExpertSource& source = layers.source();
    const double slots = share * source.layers() * source.experts();
    return std::max(static_cast<uint64_t>(std::llround(slots)),
                    uint64_t{layers.experts_per_token()}) *
           source.slot_bytes();
  }

  uint32_t products() const { return products_; }
  std::string io() const {
    return queue_->description() + (stream_.bounces() ? " through bounce buffers" : "");
  }

 private:
  ExpertLayers& layers_;
  uint32_t products_;
  std::unique_ptr<ReadQueue> queue_;
  ExpertStream stream_;
  std::vector<uint32_t> experts_;
};

struct Figures {
  std::vector<double> disk_rate, of_disk, of_memory, waiting;
};

void run(Settings settings) {
  if (settings.quick) {
    settings.layers = 2;
    settings.rounds = 1;
    settings.ramp_seconds = 0.01;
    settings.ceiling_seconds = 0.02;
    settings.memory_bytes = 16 << 20;
  }
  std::optional<BenchDirectory> written;
  std::filesystem::path directory = settings.model;
  if (settings.model.empty()) {
    const RoutingPreset& preset = routing_preset(settings.quick ? "tiny" : "qwen3-30b");
    directory = written.emplace(settings.directory).path();
    write_synthetic_records(directory, {.layers = settings.layers,
                                        .experts = preset.experts,
                                        .experts_per_token = preset.experts_per_token,
                                        .hidden = preset.hidden,
                                        .intermediate = preset.intermediate});
  }
  ExpertLayers layers(directory, {.threads = settings.threads});
  const ExpertSource& source = layers.source();
  require_cache_memory(Sweeper::budget(layers, settings.share) * settings.products.size());
  std::vector<std::unique_ptr<Sweeper>> sweepers;
  for (const uint32_t products : settings.products) {
    sweepers.push_back(std::make_unique<Sweeper>(layers, settings, products));
    sweepers.back()->run();  // fills the cache, and is not counted
  }
  const Slab memory(settings.memory_bytes);
  std::memset(memory.data(), 1, settings.memory_bytes);
  const auto disk_ceiling = [&] {
    return disk_read_rate({.path = layers.largest_file().path(),
                           .block_bytes = std::min(source.slot_bytes(), kPieceBytes),
                           .depth = settings.depth,
                           .ramp_seconds = settings.ramp_seconds,
                           .seconds = settings.ceiling_seconds});
  };

  std::vector<Figures> rows(sweepers.size());
  std::vector<double> disk, from_memory;
  for (uint32_t round = 0; round < settings.rounds; ++round) {
    from_memory.push_back(memory_read_rate(memory.bytes(), layers.threads(), kCeilingRounds));
    double before = disk_ceiling();
    for (size_t i = 0; i < sweepers.size(); ++i) {
      const Sweeper::Sweep sweep = sweepers[i]->run();
      const double behind = disk_ceiling();
      const double ceiling = (before + behind) / 2 * 1e9;
      const double multiplied = static_cast<double>(source.expert_bytes()) * source.experts() *
                                source.layers() * sweepers[i]->products();
      rows[i].disk_rate.push_back(sweep.bytes_read / 1e9 / sweep.seconds);
      rows[i].of_disk.push_back(sweep.bytes_read / ceiling / sweep.seconds);
      rows[i].of_memory.push_back(multiplied / (from_memory.back() * 1e9) / sweep.seconds);
      rows[i].waiting.push_back(sweep.waiting_seconds / sweep.seconds);
      disk.push_back(ceiling / 1e9);
      before = behind;
    }
  }

  nlohmann::json json = {{"bench", "cold_sweep"},
                         {"layers", source.layers()},
                         {"experts", source.experts()},
                         {"expert_bytes", source.expert_bytes()},
                         {"threads", layers.threads()},
                         {"depth", settings.depth},
                         {"io", sweepers.empty() ? "" : sweepers[0]->io()},
                         {"direct", layers.largest_file().direct()},
                         {"rounds", settings.rounds},
                         {"disk_gb_per_second", median(disk)},
                         {"memory_gb_per_second", median(from_memory)},
                         {"rows", nlohmann::json::array()}};
  if (!settings.json) {
    std::printf("%u layers of %u experts of %.2f MB, %s, %u threads; %s, %s\n", source.layers(),
                source.experts(), static_cast<double>(source.expert_bytes()) / 1e6, layers.isa(),
                layers.threads(), json["io"].get<std::string>().c_str(),
                layers.largest_file().direct() ? "direct reads"
                                               : "buffered reads (nothing here is worth quoting)");
    std::printf("ceilings: disk %.2f GB/s, memory %.1f GB/s; medians of %u rounds\n", median(disk),
                median(from_memory), settings.rounds);
    std::printf("  products  disk GB/s  of disk  of memory  waiting\n");
  }
  for (size_t i = 0; i < sweepers.size(); ++i) {
    const Figures& row = rows[i];
    json["rows"].push_back({{"products", sweepers[i]->products()},
                            {"disk_gb_per_second", median(row.disk_rate)},
                            {"of_disk_floor", median(row.of_disk)},
                            {"of_memory_floor", median(row.of_memory)},
                            {"waiting", median(row.waiting)}});
    if (settings.json) continue;
    std::printf("  %8u %10.2f %7.0f%% %9.0f%% %7.0f%%\n", sweepers[i]->products(),
                median(row.disk_rate), 100 * median(row.of_disk), 100 * median(row.of_memory),
                100 * median(row.waiting));
  }
  if (settings.json) std::cout << json_text(json, 2) << "\n";
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Settings settings;
  CLI::App app("Sweeping through cold experts as a prompt does, beside what the disk gives.");
  const CLI::Range many(1, 1000);
  app.add_option("--model", settings.model,
                 "Experts of this model directory; else they are written");
  app.add_option("--dir", settings.directory, "Where to write")->capture_default_str();
  app.add_option("--layers", settings.layers, "Layers to write")
      ->check(CLI::Range(2, 1000))
      ->capture_default_str();
  app.add_option("--share", settings.share, "Experts that the cache holds, of all")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  app.add_option("--products", settings.products, "Times that each expert is multiplied")
      ->capture_default_str();
  app.add_option("--rounds", settings.rounds)->check(many)->capture_default_str();
  app.add_option("--threads", settings.threads)->check(CLI::Range(1, 256))->capture_default_str();
  app.add_option("--depth", settings.depth, "Pieces at the device at once")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  add_bounce_option(app, settings.bounce);
  app.add_flag("--json", settings.json);
  app.add_flag("--quick", settings.quick, "A moment's run, to see that it works");
  return sluice::bench::bench_main(app, argc, argv, [&] { sluice::bench::run(settings); });
}
