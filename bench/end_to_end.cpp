// end_to_end: tokens per second of a checkpoint over budgets, threads and queue depths, beside what
// its disk and memory allow.
//
//   end_to_end --model DIR [--budgets 0.125,0.25,0.5,1 | --budgets-gb N,...] [--threads 1,2]
//              [--depths 16] [--lookahead auto,off] [--prompt-tokens 512] [--warm-tokens 64]
//              [--decode-tokens 64]
//              [--tokens FILE | --token-skew S --seed N] [--rounds 5] [--neighbour]
//              [--json FILE] [--svg FILE] [--quick]
//
// For each combination, in every round: the model is opened anew, a prompt is prefilled into an
// empty cache, some tokens are decoded to warm it up, and the decoding of the next ones counts.
// Reported are medians over the rounds. Rounds go over all combinations and begin with the
// ceilings, for disks and shared processors change from minute to minute, and a ratio is worth
// something only where both of its sides are of the same round.
//
// The tokens fed are not the model's own choices: see bench/token_sequence.h.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "bench/bench_file.h"
#include "bench/bench_main.h"
#include "bench/end_to_end_report.h"
#include "bench/end_to_end_run.h"
#include "bench/token_sequence.h"
#include "io/atomic_file.h"
#include "io/error.h"
#include "tools/engine_options.h"
#include "tools/plan_report.h"
#include "tools/progress_bar.h"

namespace sluice::bench {
namespace {

struct Settings {
  std::string model;
  std::vector<double> shares = {0.125, 0.25, 0.5, 1};
  std::vector<double> budgets_gb;  // instead of the shares
  std::vector<uint32_t> threads = {1, 2};
  std::vector<uint32_t> depths = {16};
  std::vector<std::string> look_aheads = {"auto"};
  Bounce bounce = Bounce::automatic;
  uint32_t prompt_tokens = 512;
  uint32_t warm_tokens = 64;
  uint32_t decode_tokens = 64;
  std::string token_file;
  double token_skew = 0;
  uint64_t seed = 1;
  uint32_t rounds = 5;
  bool neighbour = false;
  std::string json;
  std::string svg;
  bool quick = false;
  double ramp_seconds = 1;
  double ceiling_seconds = 1.5;
  uint64_t memory_bytes = 256 << 20;
};

void make_quick(Settings& settings) {
  if (settings.model.empty()) settings.model = SLUICE_DEMO_MODEL;
  settings.shares = {0.25, 1};
  settings.prompt_tokens = 16;
  settings.warm_tokens = settings.decode_tokens = 8;
  settings.rounds = 2;
  settings.ramp_seconds = 0.01;
  settings.ceiling_seconds = 0.05;
  settings.memory_bytes = 16 << 20;
}

std::vector<Combination> combinations_of(const Settings& settings, const Subject& subject) {
  const auto all = static_cast<double>(subject.all_slots_bytes);
  std::vector<double> shares =
      settings.budgets_gb.empty() ? settings.shares : std::vector<double>();
  for (const double gigabytes : settings.budgets_gb) {
    shares.push_back(std::min(1.0, gigabytes * 1e9 / all));
  }
  std::vector<Combination> combinations;
  for (const uint32_t depth : settings.depths) {
    for (const uint32_t threads : settings.threads) {
      for (const double share : shares) {
        for (const std::string& look_ahead : settings.look_aheads) {
          combinations.push_back({.budget_bytes = static_cast<uint64_t>(share * all),
                                  .share = share,
                                  .threads = threads,
                                  .depth = depth,
                                  .look_ahead = look_ahead});
        }
      }
    }
  }
  return combinations;
}

// Before anything takes time. Throws Error: a combination that cannot run.
void check_plans(const Subject& subject, const std::vector<Combination>& combinations,
                 uint64_t context) {
  for (const Combination& combination : combinations) {
    PlanOptions options;
    options.model = subject.directory;
    options.model_options.budget = {.kind = BudgetRequest::Kind::fixed,
                                    .bytes = combination.budget_bytes};
    options.model_options.context = context;
    options.model_options.threads = combination.threads;
    options.model_options.look_ahead = parse_look_ahead(combination.look_ahead);
    const PlanReport plan = make_plan_report(options);
    if (plan.verdict == Verdict::does_not_fit) throw Error(plan.reason);
  }
}

std::string token_text(const Settings& settings) {
  if (!settings.token_file.empty()) return settings.token_file;
  char text[64];
  std::snprintf(text, sizeof text, "by chance, skew %.2g, seed %llu", settings.token_skew,
                static_cast<unsigned long long>(settings.seed));
  return text;
}

Ceilings median_of(const std::vector<Ceilings>& rounds) {
  std::vector<double> disk;
  std::map<uint32_t, std::vector<double>> memory;
  for (const Ceilings& ceilings : rounds) {
    disk.push_back(ceilings.disk);
    for (const auto& [threads, rate] : ceilings.memory) memory[threads].push_back(rate);
  }
  Ceilings result;
  result.disk = median(disk);
  for (const auto& [threads, rates] : memory) result.memory[threads] = median(rates);
  return result;
}

EndToEndReport measure(const Settings& settings) {
  EndToEndReport report;
  report.subject = read_subject(settings.model);
  const uint64_t count = uint64_t{settings.prompt_tokens} + settings.warm_tokens +
                         uint64_t{settings.decode_tokens} * (settings.neighbour ? 2 : 1);
  const uint32_t vocabulary = report.subject.vocabulary;
  const std::vector<uint32_t> ids =
      settings.token_file.empty()
          ? draw_tokens(vocabulary, count, settings.token_skew, settings.seed)
          : read_tokens(settings.token_file, settings.model, vocabulary, count);
  const std::span<const uint32_t> rest = std::span(ids).subspan(settings.prompt_tokens);
  const Feed feed = {.prompt = std::span(ids).first(settings.prompt_tokens),
                     .warm = rest.first(settings.warm_tokens),
                     .decoded = rest.subspan(settings.warm_tokens, settings.decode_tokens),
                     .disturbed = rest.subspan(settings.warm_tokens + settings.decode_tokens)};
  const std::vector<Combination> combinations = combinations_of(settings, report.subject);
  check_plans(report.subject, combinations, count);
  for (const Combination& combination : combinations) report.rows.push_back({combination, {}, {}});

  ProgressBar progress = stderr_progress("measuring", ProgressBar::Unit::tokens);
  const uint64_t runs = settings.rounds * combinations.size();
  uint64_t done = 0;
  std::vector<Ceilings> ceilings;
  for (uint32_t round = 0; round < settings.rounds; ++round) {
    ceilings.push_back(measure_ceilings(report.subject, {.depths = settings.depths,
                                                         .threads = settings.threads,
                                                         .ramp_seconds = settings.ramp_seconds,
                                                         .seconds = settings.ceiling_seconds,
                                                         .memory_bytes = settings.memory_bytes}));
    for (EndToEndReport::Row& row : report.rows) {
      const Run run =
          run_once(report.subject, row.combination, settings.bounce, feed, ceilings.back());
      row.rounds.push_back(run.figures);
      report.io = run.io;
      if (done == 0) report.routing = routing_facts(run.routing, report.subject);
      progress.update(++done * count, runs * count);
    }
  }
  progress.finish();
  for (EndToEndReport::Row& row : report.rows) row.medians = medians(row.rounds);
  report.ceilings = median_of(ceilings);
  report.tokens = token_text(settings);
  report.prompt_tokens = settings.prompt_tokens;
  report.warm_tokens = settings.warm_tokens;
  report.decode_tokens = settings.decode_tokens;
  report.rounds = settings.rounds;
  return report;
}

void run(Settings settings) {
  if (settings.quick) make_quick(settings);
  if (settings.model.empty()) throw Error("--model is required");
  const EndToEndReport report = measure(settings);
  std::fputs(end_to_end_text(report).c_str(), stdout);
  if (!settings.json.empty()) write_text_file(settings.json, end_to_end_json(report));
  if (!settings.svg.empty()) write_text_file(settings.svg, end_to_end_svg(report));
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Settings settings;
  CLI::App app("Tokens per second of a checkpoint, beside what its disk and memory allow.");
  app.add_option("--model", settings.model, "Model directory");
  auto* shares = app.add_option("--budgets", settings.shares,
                                "Expert caches, as shares of one that holds every expert");
  shares->delimiter(',')->check(CLI::Range(1e-6, 1.0))->capture_default_str();
  app.add_option("--budgets-gb", settings.budgets_gb, "The same in GB (10^9 bytes)")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->excludes(shares);
  app.add_option("--threads", settings.threads, "Numbers of worker threads")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--depths", settings.depths, "Reads at the device at once")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--lookahead", settings.look_aheads,
                 "Experts of a layer to read ahead: auto, off or numbers")
      ->delimiter(',')
      ->capture_default_str();
  add_bounce_option(app, settings.bounce);
  app.add_option("--prompt-tokens", settings.prompt_tokens)
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  app.add_option("--warm-tokens", settings.warm_tokens, "Decoded before anything counts")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  app.add_option("--decode-tokens", settings.decode_tokens)
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  auto* file = app.add_option("--tokens", settings.token_file,
                              "File with what to feed: token ids, or a text");
  app.add_option(
         "--token-skew", settings.token_skew,
         "Else: id i is drawn with a chance of 1 / (i + 1)^SKEW; 1 is about what words of a "
         "text have")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str()
      ->excludes(file);
  app.add_option("--seed", settings.seed, "Of the tokens drawn")->capture_default_str();
  app.add_option("--rounds", settings.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--neighbour", settings.neighbour,
               "Decode as many tokens again beside a process that computes without pause");
  app.add_option("--json", settings.json, "File to write all figures to");
  app.add_option("--svg", settings.svg, "File to write a picture to");
  app.add_flag("--quick", settings.quick, "A moment's run with few tokens, to see that it works");
  return sluice::bench::bench_main(app, argc, argv, [&] { sluice::bench::run(settings); });
}
