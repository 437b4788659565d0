#include "bench/end_to_end_run.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "bench/bench_file.h"
#include "bench/busy_process.h"
#include "bench/ceiling.h"
#include "cache/slab.h"
#include "io/checkpoint.h"
#include "io/error.h"
#include "io/read_queue.h"
#include "model/machine.h"
#include "model/routing_observer.h"
#include "model/trace_facts.h"
#include "stream/cache_replay.h"
#include "stream/trace_statistics.h"
#include "tools/engine_options.h"
#include "tools/plan_report.h"

namespace sluice::bench {
namespace {

constexpr uint32_t kMemoryRounds = 5;

constexpr FigureField kFields[] = {
    {"load_seconds", &Figures::load_seconds},
    {"prompt_tokens_per_second", &Figures::prompt_rate},
    {"prompt_of_floor", &Figures::prompt_of_floor},
    {"prompt_again_tokens_per_second", &Figures::prompt_again_rate},
    {"decode_tokens_per_second", &Figures::decode_rate},
    {"decode_of_floor", &Figures::decode_of_floor},
    {"hit_rate", &Figures::hit_rate},
    {"foreseen_rate", &Figures::foreseen},
    {"bytes_read_per_token", &Figures::read_per_token},
    {"bytes_touched_per_token", &Figures::touched_per_token},
    {"disk_gb_per_second", &Figures::disk_rate},
    {"waiting_share", &Figures::waiting_share},
    {"peak_rss_bytes", &Figures::peak_bytes},
    {"planned_bytes", &Figures::planned_bytes},
    {"disturbed_tokens_per_second", &Figures::disturbed_rate},
};

class RoutingLog final : public RoutingObserver {
 public:
  void routed(uint32_t model_layer, std::span<const uint32_t> experts) override {
    trace_.add(model_layer, experts);
  }
  const Trace& trace() const { return trace_; }

 private:
  Trace trace_;
};

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Sets the process' peak of resident memory back to what is resident now. False where the kernel
// does not allow it.
bool reset_peak_resident_bytes() {
  const int fd = ::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool written = ::write(fd, "5", 1) == 1;
  ::close(fd);
  return written;
}

double decode_seconds(Session& session, std::span<const uint32_t> ids) {
  const Stopwatch watch;
  for (const uint32_t id : ids) session.decode(id);
  return watch.seconds();
}

double quotient(double part, double whole) { return whole > 0 ? part / whole : 0; }

void fill_decode_figures(const StreamStatistics& stream, double seconds, double tokens,
                         double trunk_touched, double memory_rate, double disk_ceiling,
                         Figures& figures) {
  const auto demanded = static_cast<double>(stream.cache.bytes_demanded);
  const auto kept = static_cast<double>(stream.cache.bytes_kept());
  const auto read =
      static_cast<double>(stream.reads.bytes_demanded + stream.reads.bytes_speculated);
  figures.decode_rate = tokens / seconds;
  figures.hit_rate = quotient(kept, demanded);
  figures.foreseen = quotient(static_cast<double>(stream.cache.bytes_foreseen), demanded - kept);
  figures.read_per_token = read / tokens;
  figures.touched_per_token = trunk_touched + demanded / tokens;
  // Bytes per microsecond are MB/s.
  figures.disk_rate = quotient(read, static_cast<double>(stream.reads.busy_us)) / 1e3;
  figures.waiting_share = static_cast<double>(stream.wait_us) * 1e-6 / seconds;
  const double floor = std::max(figures.read_per_token / (disk_ceiling * 1e9),
                                figures.touched_per_token / (memory_rate * 1e9));
  figures.decode_of_floor = floor / (seconds / tokens);
}

}  // namespace

std::span<const FigureField> figure_fields() { return kFields; }

Figures medians(std::span<const Figures> rounds) {
  Figures result;
  for (const FigureField& field : kFields) {
    std::vector<double> values;
    for (const Figures& figures : rounds) values.push_back(figures.*field.value);
    result.*field.value = median(values);
  }
  return result;
}

Subject read_subject(const std::string& directory) {
  PlanOptions options;
  options.model = directory;
  const PlanReport plan = make_plan_report(options);
  if (!plan.experts) throw Error(directory, ": has no experts, so there is no budget to vary");
  const TraceFacts facts = read_trace_facts(directory);
  const ModelConfig config = read_config(directory);
  const Checkpoint checkpoint = Checkpoint::open(directory);

  Subject subject;
  subject.directory = directory;
  subject.grid = facts.grid;
  subject.experts_per_token = facts.experts_per_token;
  subject.vocabulary = config.vocabulary;
  subject.expert_total_bytes = plan.plan.expert_total_bytes;
  subject.all_slots_bytes = plan.plan.all_slots_bytes;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const bool is_embedding = tensor.name.find("embed_tokens.") != std::string::npos ||
                              tensor.name.find("backbone.embeddings.") != std::string::npos;
    if (is_embedding && !config.tied_embeddings) subject.embedding_bytes += tensor.size_bytes;
  }
  const uint64_t one_read = plan.experts->read_bytes / plan.experts->reads;
  subject.read_bytes = std::clamp<uint64_t>((one_read + kPageBytes - 1) / kPageBytes * kPageBytes,
                                            kPageBytes, kPieceBytes);
  const std::vector<uint64_t>& sizes = checkpoint.file_bytes();
  const auto largest = std::ranges::max_element(sizes) - sizes.begin();
  subject.largest_file = checkpoint.files()[static_cast<size_t>(largest)];
  return subject;
}

Ceilings measure_ceilings(const Subject& subject, const CeilingTask& task) {
  Ceilings ceilings;
  for (const uint32_t depth : task.depths) {
    const double rate = disk_read_rate({.path = subject.largest_file,
                                        .block_bytes = subject.read_bytes,
                                        .depth = depth,
                                        .ramp_seconds = task.ramp_seconds,
                                        .seconds = task.seconds});
    ceilings.disk = std::max(ceilings.disk, rate);
  }
  const Slab memory(task.memory_bytes);
  std::memset(memory.data(), 1, task.memory_bytes);
  const std::span<const std::byte> bytes(memory.data(), task.memory_bytes);
  for (const uint32_t threads : task.threads) {
    ceilings.memory[threads] = memory_read_rate(bytes, threads, kMemoryRounds);
  }
  return ceilings;
}

Run run_once(const Subject& subject, const Combination& combination, Bounce bounce,
             const Feed& feed, const Ceilings& ceilings) {
  RoutingLog log;
  ModelOptions options;
  options.budget = {.kind = BudgetRequest::Kind::fixed, .bytes = combination.budget_bytes};
  options.context =
      feed.prompt.size() + feed.warm.size() + feed.decoded.size() + feed.disturbed.size();
  options.threads = combination.threads;
  options.io_depth = combination.depth;
  options.bounce = bounce;
  options.look_ahead = parse_look_ahead(combination.look_ahead);
  options.routing_observer = &log;

  Run run;
  Figures& figures = run.figures;
  const bool knows_peak = reset_peak_resident_bytes();
  const Stopwatch loading;
  Model model = Model::load(subject.directory, options);
  Session session(model);
  figures.load_seconds = loading.seconds();
  figures.planned_bytes = static_cast<double>(model.plan().total_bytes());
  run.io = model.io_description();

  const Stopwatch prefilling;
  session.prefill(feed.prompt);
  const double prompt_seconds = prefilling.seconds();
  figures.prompt_rate = static_cast<double>(feed.prompt.size()) / prompt_seconds;
  const CacheStatistics cache = model.stream_statistics().cache;
  figures.prompt_of_floor = static_cast<double>(cache.bytes_missed + cache.bytes_foreseen) /
                            (ceilings.disk * 1e9) / prompt_seconds;

  session.reset();
  const Stopwatch again;
  session.prefill(feed.prompt);
  figures.prompt_again_rate = static_cast<double>(feed.prompt.size()) / again.seconds();

  decode_seconds(session, feed.warm);
  model.reset_stream_statistics();
  const double seconds = decode_seconds(session, feed.decoded);
  const auto trunk = static_cast<double>(model.plan().trunk_bytes - subject.embedding_bytes);
  fill_decode_figures(model.stream_statistics(), seconds, static_cast<double>(feed.decoded.size()),
                      trunk, ceilings.memory.at(combination.threads), ceilings.disk, figures);
  if (!feed.disturbed.empty()) {
    const BusyProcess neighbour;
    figures.disturbed_rate =
        static_cast<double>(feed.disturbed.size()) / decode_seconds(session, feed.disturbed);
  }
  if (knows_peak) figures.peak_bytes = static_cast<double>(peak_resident_bytes());
  run.routing = log.trace();
  return run;
}

}  // namespace sluice::bench
