// decode_replay: how fast decoding could be with what stream/ and kernels/ do, beside what the disk
// and the memory allow: a routing trace, real reads and real mat-vecs, without the rest of the
// model.
//
//   decode_replay [--preset 35b] [--layers N] [--file-gb X] [--dir DIR] [--keep] [--model DIR]
//     [--trace FILE] [--skew X] [--reuse X] [--memory X] [--recall X] [--seed N] [--share X ...]
//     [--lookahead N|auto|off] [--trunk-mb N] [--threads N] [--backend B] [--depth N] [--io-bounce
//     auto|on|off]
//     [--rounds N] [--tokens N] [--ramp-ms N] [--ceiling-ms N] [--json] [--quick]
//
// Without --model, experts of the preset's shape are written as records of 3 bits, as many layers
// as --file-gb holds. The last layer of a token has nothing to look ahead to, so look-ahead gains a
// little less with fewer layers than the model has. --trunk-mb stands in for what else a layer
// multiplies (attention, shared expert), which gives look-ahead time to read in.
//
// Each share of the experts has two caches of that size, one for an arm without look-ahead and one
// for an arm with it, which replay the same tokens in turns, the other one first in every round.
// Before and behind every round the ceilings are measured: blocks of an expert's size at the
// queue's depth, and plain loads on as many threads. What is made of them: bench/replay_figures.h.
// Reported are medians over the rounds, and of the rounds' ratios.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/bench_file.h"
#include "bench/bench_main.h"
#include "bench/ceiling.h"
#include "bench/replay_arm.h"
#include "bench/replay_figures.h"
#include "bench/routing_generator.h"
#include "bench/synthetic_records.h"
#include "io/error.h"
#include "io/json_text.h"
#include "tools/command_line.h"
#include "tools/engine_options.h"

namespace sluice::bench {
namespace {

struct Settings {
  std::string preset = "35b";
  uint32_t layers = 0;
  double file_gb = 4;
  std::string directory = std::filesystem::temp_directory_path().string();
  bool keep = false;
  std::string model;
  std::string trace;
  std::optional<double> skew, reuse, memory;
  double recall = 0.85;
  uint64_t seed = 1;
  std::vector<double> shares = {0.125, 0.5, 1};
  uint32_t look_ahead = 4;        // experts; 0: none
  bool look_ahead_trial = false;  // as many of a token's as pay
  uint64_t trunk_mb = 0;
  uint32_t threads = available_threads();
  ReadBackend backend = ReadBackend::automatic;
  uint32_t depth = 16;
  Bounce bounce = Bounce::automatic;
  uint32_t rounds = 5;
  uint32_t tokens = 32;
  uint32_t ramp_ms = 500;
  uint32_t ceiling_ms = 1000;
  uint64_t memory_mb = 1024;  // that the memory's ceiling is measured with
  bool json = false;
  bool quick = false;
};

constexpr uint32_t kWarmUpTokens = 600;  // of a generated trace, for filling the cache
constexpr uint32_t kFirstTokens = 4;     // computed before the first round, uncounted
constexpr uint32_t kTrialTokens = LookAheadTrial::kBlock * LookAheadTrial::kBlocks;  // then instead
constexpr uint32_t kCeilingRounds = 3;

class Machine {
 public:
  Machine(const Settings& settings, const ExpertLayers& layers)
      : settings_(settings), layers_(layers), slab_(settings.memory_mb << 20) {
    std::memset(slab_.data(), 1, slab_.bytes().size());
  }
  Ceilings measure(bool disk) const {
    Ceilings ceilings;
    ceilings.memory = memory_read_rate(slab_.bytes(), layers_.threads(), kCeilingRounds);
    if (!disk) return ceilings;
    ceilings.disk = disk_read_rate({.path = layers_.largest_file().path(),
                                    .block_bytes = layers_.source().slot_bytes(),
                                    .depth = settings_.depth,
                                    .ramp_seconds = settings_.ramp_ms / 1e3,
                                    .seconds = settings_.ceiling_ms / 1e3});
    return ceilings;
  }

 private:
  const Settings& settings_;
  const ExpertLayers& layers_;
  Slab slab_;
};

nlohmann::json medians(const Series& series) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, values] : series) json[name] = median(values);
  return json;
}

void print(const char* name, const nlohmann::json& figures) {
  const auto get = [&](const char* key) { return figures.at(key).get<double>(); };
  std::printf("  %-10s %7.1f %6.1f%% %6.1f%% %9.2f %9.2f %7.0f%% %8.2f %8.2f %9.2f %9.3f\n", name,
              get("tokens_per_second"), 100 * get("hit_rate"), 100 * get("ahead_rate"),
              get("disk_gb_per_second"), get("memory_gb_per_second"), 100 * get("waiting"),
              get("time_over_floors"), get("time_over_pipeline"), get("time_over_own_reads"),
              get("time_over_plain"));
}

nlohmann::json replay_share(double share, const ReplayWork& work, ExpertLayers& layers,
                            const Machine& machine, const Settings& settings) {
  const ExpertSource& source = layers.source();
  const uint64_t keys = grid_of(source).keys();
  const uint64_t slots =
      std::clamp(static_cast<uint64_t>(std::llround(share * static_cast<double>(keys))),
                 uint64_t{layers.experts_per_token()}, keys);
  const ReplayArm::Options plain{.slots = slots,
                                 .backend = settings.backend,
                                 .depth = settings.depth,
                                 .bounce = settings.bounce};
  ReplayArm::Options ahead = plain;
  ahead.on_trial = settings.look_ahead_trial;
  ahead.look_ahead = ahead.on_trial ? layers.experts_per_token() : settings.look_ahead;
  const bool two_caches = ahead.look_ahead > 0 && slots < keys;
  require_cache_memory(slots * source.slot_bytes() * (two_caches ? 2 : 1));
  std::vector<ReplayArm> arms;
  arms.emplace_back(layers, work, plain);
  uint64_t token = arms[0].warm_up();
  if (two_caches) {
    // With look-ahead from the start, as what it reads in vain is part of the cache's state.
    arms.emplace_back(layers, work, ahead).run(0, token);
  } else if (ahead.look_ahead > 0) {
    arms.push_back(ReplayArm(arms[0], ahead));
  }
  const uint64_t first_tokens = ahead.on_trial ? kTrialTokens : kFirstTokens;
  for (ReplayArm& arm : arms) arm.run(token, first_tokens);
  const uint64_t warm_up_tokens = token += first_tokens;

  const Weights weights{.expert_bytes = static_cast<double>(source.expert_bytes()),
                        .miss_bytes = static_cast<double>(source.packed() ? source.staging_bytes()
                                                                          : source.slot_bytes()),
                        .trunk_bytes = static_cast<double>(layers.trunk_bytes())};
  std::vector<Series> series(arms.size());
  Series ceilings;
  Ceilings before = machine.measure(slots < keys);
  for (uint32_t round = 0; round < settings.rounds; ++round, token += settings.tokens) {
    std::vector<Round> rounds(arms.size());
    for (size_t turn = 0; turn < arms.size(); ++turn) {
      const size_t arm = (round + turn) % arms.size();
      rounds[arm] = arms[arm].run(token, settings.tokens);
    }
    const Ceilings behind = machine.measure(slots < keys);
    const Ceilings mean{.disk = (before.disk + behind.disk) / 2,
                        .memory = (before.memory + behind.memory) / 2};
    for (size_t arm = 0; arm < arms.size(); ++arm) {
      if (rounds[arm].checksum != rounds[0].checksum) {
        throw Error("with look-ahead the experts' sums are others than without");
      }
      add_figures(rounds[arm], rounds[0], mean, weights, series[arm]);
    }
    ceilings["disk"].push_back(mean.disk);
    ceilings["memory"].push_back(mean.memory);
    before = behind;
  }
  nlohmann::json row = {{"share", share},
                        {"slots", slots},
                        {"budget_bytes", slots * source.slot_bytes()},
                        {"warm_up_tokens", warm_up_tokens},
                        {"look_ahead", ahead.look_ahead},
                        {"look_ahead_trial", ahead.on_trial},
                        {"io", arms[0].queue_description()},
                        {"ceilings_gb_per_second", medians(ceilings)},
                        {"without", medians(series[0])}};
  if (arms.size() > 1) row["with"] = medians(series[1]);
  if (settings.json) return row;
  std::printf("%.3f of the experts (%llu of %llu, %.2f GB), warm after %llu tokens, %s; ", share,
              static_cast<unsigned long long>(slots), static_cast<unsigned long long>(keys),
              static_cast<double>(slots * source.slot_bytes()) / 1e9,
              static_cast<unsigned long long>(warm_up_tokens), arms[0].queue_description().c_str());
  if (slots < keys) std::printf("disk %.2f, ", median(ceilings["disk"]));
  std::printf("memory %.1f GB/s\n", median(ceilings["memory"]));
  std::printf(
      "  look-ahead   tok/s    hits   ahead disk GB/s  mem GB/s  waiting x floors  x least "
      "x own rds x without\n");
  print("off", row["without"]);
  if (arms.size() > 1)
    print(ahead.on_trial ? "auto" : std::to_string(ahead.look_ahead).c_str(), row["with"]);
  std::fflush(stdout);
  return row;
}

// The experts of the preset's shape, as many layers as there is room for.
RecordsShape shape_of(const RoutingPreset& preset, const Settings& settings) {
  RecordsShape shape{.layers = 1,
                     .experts = preset.experts,
                     .experts_per_token = preset.experts_per_token,
                     .hidden = preset.hidden,
                     .intermediate = preset.intermediate};
  const auto layer_bytes =
      static_cast<double>(synthetic_record_bytes(shape)) * static_cast<double>(preset.experts);
  const auto fit = static_cast<uint32_t>(settings.file_gb * 1e9 / layer_bytes);
  shape.layers = settings.layers > 0 ? settings.layers : std::min(preset.layers, fit);
  if (shape.layers < 2) {
    throw Error("a layer of ", preset.name, " has ", layer_bytes / 1e9,
                " GB, and it takes two: raise --file-gb");
  }
  return shape;
}

Trace make_trace(const ExpertLayers& layers, const RoutingPreset& preset,
                 const Settings& settings) {
  if (!settings.trace.empty()) return read_trace(settings.trace);
  const ExpertGrid grid = grid_of(layers.source());
  const Routing routing{.skew = settings.skew.value_or(preset.routing.skew),
                        .reuse = settings.reuse.value_or(preset.routing.reuse),
                        .memory = settings.memory.value_or(preset.routing.memory)};
  const Trace generated = generate_routing(
      {layers.source().layers(), grid.experts, layers.experts_per_token()}, routing,
      kWarmUpTokens + kTrialTokens + settings.rounds * settings.tokens, settings.seed);
  Trace trace;  // by the model's layers
  for (size_t i = 0; i < generated.size(); ++i) {
    trace.add(grid.layers[generated[i].layer], generated[i].experts);
  }
  return trace;
}

void run(Settings settings) {
  if (settings.quick) {
    settings.preset = "tiny";
    settings.shares = {0.3, 1};
    settings.rounds = 2;
    settings.tokens = 4;
    settings.ramp_ms = 5;
    settings.ceiling_ms = 20;
    settings.memory_mb = 16;
    settings.trunk_mb = 1;
  }
  const RoutingPreset& preset = routing_preset(settings.preset);
  std::optional<BenchDirectory> written;
  std::filesystem::path directory = settings.model;
  if (settings.model.empty()) {
    const RecordsShape shape = shape_of(preset, settings);
    if (settings.keep) {
      directory = std::filesystem::path(settings.directory) / ("decode_replay-" + preset.name);
      std::filesystem::create_directory(directory);
    } else {
      directory = written.emplace(settings.directory).path();
    }
    write_synthetic_records(directory, shape);
  }
  ExpertLayers layers(directory,
                      {.threads = settings.threads, .trunk_bytes = settings.trunk_mb << 20});
  Trace trace = make_trace(layers, preset, settings);
  Trace predicted =
      predict_routing(trace, layers.source().experts(), settings.recall, settings.seed + 1);
  const ReplayWork work(std::move(trace), std::move(predicted), layers);
  const Machine machine(settings, layers);
  const ExpertSource& source = layers.source();
  if (!settings.json) {
    std::printf(
        "%s: %u layers of %u experts of %.2f MB, %s, %u threads; %s, recall %.2f; %llu MiB of "
        "stand-in a layer; %s; medians of %u rounds of %u tokens\n",
        settings.model.empty() ? preset.name.c_str() : settings.model.c_str(), source.layers(),
        source.experts(), static_cast<double>(source.expert_bytes()) / 1e6, layers.isa(),
        layers.threads(), settings.trace.empty() ? "generated" : settings.trace.c_str(),
        settings.recall, static_cast<unsigned long long>(settings.trunk_mb),
        layers.largest_file().direct() ? "direct reads"
                                       : "buffered reads (nothing here is worth quoting)",
        settings.rounds, settings.tokens);
  }
  nlohmann::json rows = nlohmann::json::array();
  for (const double share : settings.shares) {
    rows.push_back(replay_share(share, work, layers, machine, settings));
  }
  if (settings.json) {
    std::cout << json_text(nlohmann::json{{"bench", "decode_replay"},
                                          {"preset", preset.name},
                                          {"layers", source.layers()},
                                          {"experts", source.experts()},
                                          {"expert_bytes", source.expert_bytes()},
                                          {"threads", layers.threads()},
                                          {"depth", settings.depth},
                                          {"direct", layers.largest_file().direct()},
                                          {"recall", settings.recall},
                                          {"trunk_mb", settings.trunk_mb},
                                          {"rounds", settings.rounds},
                                          {"tokens", settings.tokens},
                                          {"shares", rows}},
                           2)
              << "\n";
  }
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  using sluice::ReadBackend;
  sluice::bench::Settings settings;
  CLI::App app("Decoding with a routing trace, real reads and real mat-vecs alone.");
  std::vector<std::string> presets;
  for (const auto& preset : sluice::bench::routing_presets()) presets.push_back(preset.name);
  const CLI::Range share_range(1e-6, 1.0), many(1, 100000);
  app.add_option("--preset", settings.preset, "Shape and routing of a published model")
      ->check(CLI::IsMember(presets))
      ->capture_default_str();
  app.add_option("--layers", settings.layers, "Layers to write; else what --file-gb holds");
  app.add_option("--file-gb", settings.file_gb)->capture_default_str();
  app.add_option("--dir", settings.directory, "Where to write")->capture_default_str();
  app.add_flag("--keep", settings.keep, "Leave what was written there, for --model");
  app.add_option("--model", settings.model, "Experts of this model directory instead");
  app.add_option("--trace", settings.trace, "A recorded trace instead of a generated one");
  app.add_option("--skew", settings.skew, "Popularity of the r-th expert: r^-skew");
  app.add_option("--reuse", settings.reuse, "Share of choices from recent ones")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--memory", settings.memory, "Tokens that a recent choice counts for")
      ->check(CLI::Range(0.1, 1e6));
  app.add_option("--recall", settings.recall, "Share of the predictions that are right")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--seed", settings.seed)->capture_default_str();
  app.add_option("--share", settings.shares, "Experts that the cache holds, of all")
      ->check(share_range)
      ->capture_default_str();
  sluice::add_parsed(app, "--lookahead", "N|auto|off",
                     "Top ranks to look ahead for (default 4); auto: as many as pay",
                     [&](const std::string& text) {
                       const std::optional<uint32_t> ranks = sluice::parse_look_ahead(text);
                       settings.look_ahead_trial = !ranks;
                       settings.look_ahead = ranks.value_or(0);
                     });
  app.add_option("--trunk-mb", settings.trunk_mb, "MiB of bf16 that stand in for a layer's rest")
      ->capture_default_str();
  app.add_option("--threads", settings.threads)->check(CLI::Range(1, 256))->capture_default_str();
  app.add_option("--backend", settings.backend)
      ->transform(
          CLI::Transformer(std::map<std::string, ReadBackend>{{"auto", ReadBackend::automatic},
                                                              {"io_uring", ReadBackend::io_uring},
                                                              {"pread", ReadBackend::pread}}));
  app.add_option("--depth", settings.depth, "Pieces at the device at once")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  add_bounce_option(app, settings.bounce);
  app.add_option("--rounds", settings.rounds)->check(many)->capture_default_str();
  app.add_option("--tokens", settings.tokens, "Of a round")->check(many)->capture_default_str();
  app.add_option("--ramp-ms", settings.ramp_ms, "The disk's ceiling is read so long uncounted")
      ->capture_default_str();
  app.add_option("--ceiling-ms", settings.ceiling_ms, "Then so long")->check(many);
  app.add_flag("--json", settings.json);
  app.add_flag("--quick", settings.quick, "A moment's run, to see that it works");
  return sluice::bench::bench_main(app, argc, argv, [&] { sluice::bench::run(settings); });
}
