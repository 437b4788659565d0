#include "tools/plan_report.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "io/error.h"
#include "stream/cache_replay.h"
#include "tools/run_report.h"

namespace sluice {
namespace {

std::string number_text(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

std::string percent_text(double share) { return number_text(100 * share, 1) + " %"; }

ExpertFigures expert_figures(const ExpertSource& source, uint32_t per_token) {
  ExpertFigures figures = {.layers = source.layers(),
                           .experts = source.experts(),
                           .per_token = per_token,
                           .expert_bytes = source.expert_bytes(),
                           .layer_bytes = source.total_bytes() / source.layers(),
                           .slot_bytes = source.slot_bytes()};
  for (const Extent& extent : source.plan(0, 0).extents) {
    figures.read_bytes += extent.size_bytes;
    ++figures.reads;
  }
  return figures;
}

// With every expert equally likely, a cache that can hold anything for longer than a token finds
// the share that it holds; below one token's working set an LRU finds nothing.
double uniform_hit_rate(const MemoryPlan& plan) {
  if (plan.below_working_set()) return 0;
  return static_cast<double>(plan.cache_bytes) / static_cast<double>(plan.all_slots_bytes);
}

// What the engine's own cache would find of a recorded run. Nothing where it could not run at all.
void replay_trace(const PlanOptions& options, const ModelConfig& config, const ExpertSource& source,
                  const MemoryPlan& plan, ReadEstimate& estimate) {
  estimate.source = "trace";
  const Trace trace = read_trace(options.trace);
  // The bytes of an expert may differ: a trace of the original serves a conversion of it.
  if (trace.facts &&
      (trace.facts->model_type != config.model_type || trace.facts->grid != grid_of(source) ||
       trace.facts->experts_per_token != config.experts_per_token)) {
    throw Error(options.trace, ": its first line is of another model (", trace.facts->model_type,
                ", ", trace.facts->grid.layers.size(), " layers of ", trace.facts->grid.experts,
                " experts, ", trace.facts->experts_per_token, " per token); record one with ",
                options.model);
  }
  const DemandSequence demands = demand_sequence(trace, grid_of(source));
  if (demands.demands.empty()) {
    throw Error(options.trace, ": the trace is empty; record one with --trace");
  }
  estimate.trace_tokens = demands.records() / source.layers();
  const auto slots = static_cast<uint32_t>(plan.cache_bytes / source.slot_bytes());
  if (slots < demands.longest) return;
  const auto all = static_cast<double>(demands.demands.size());
  const CacheStatistics found =
      replay(demands, {.slots = slots, .policy = options.model_options.cache_policy, .pins = {}});
  estimate.hit_rate = static_cast<double>(found.hits) / all;
  estimate.optimal_hit_rate = static_cast<double>(optimal_hits(demands, slots)) / all;
}

ReadEstimate estimate_reads(const PlanOptions& options, const ModelConfig& config,
                            const ExpertSource& source, const ExpertFigures& experts,
                            const MemoryPlan& plan) {
  ReadEstimate estimate;
  if (!options.trace.empty()) {
    replay_trace(options, config, source, plan, estimate);
  } else {
    estimate.hit_rate = options.hit_rate.value_or(uniform_hit_rate(plan));
    estimate.source = options.hit_rate ? "given" : "uniform routing";
  }
  const double demanded = static_cast<double>(experts.per_token) * experts.layers *
                          static_cast<double>(experts.read_bytes);
  estimate.bytes_per_token = (1 - estimate.hit_rate) * demanded;
  if (options.disk_mb_per_second && estimate.bytes_per_token > 0) {
    estimate.tokens_per_second = *options.disk_mb_per_second * 1e6 / estimate.bytes_per_token;
  }
  return estimate;
}

// The least memory this model runs in with this context, beside the process itself.
uint64_t least_bytes(const MemoryPlan& plan) {
  return plan.trunk_bytes + plan.kv_bytes + plan.state_bytes + plan.scratch_bytes +
         plan.floor_bytes;
}

void judge(const PlanInputs& inputs, PlanReport& report) {
  const MemoryPlan& plan = report.plan;
  report.reason = plan_problem(plan, inputs);
  if (!report.reason.empty()) {
    report.verdict = Verdict::does_not_fit;
    if (least_bytes(plan) > inputs.limits.usable_bytes()) {
      report.reason += ". Even at the least budget this context needs " +
                       bytes_text(least_bytes(plan)) + " of free memory";
    }
  } else if (plan.below_working_set()) {
    report.verdict = Verdict::runs_badly;
    report.reason = "the budget of " + bytes_text(plan.cache_bytes) +
                    " is under one token's working set of " + bytes_text(plan.working_set_bytes) +
                    ", so nearly every expert is read for every token; the next useful step is "
                    "--cache-budget-gb " +
                    budget_argument(plan.useful_budget_bytes()) + ", with " +
                    bytes_text(least_bytes(plan) - plan.floor_bytes + plan.useful_budget_bytes()) +
                    " of free memory";
  }
}

using Line = std::pair<std::string, std::string>;

void add_expert_lines(const PlanReport& report, std::vector<Line>& lines) {
  const ExpertFigures& experts = *report.experts;
  const MemoryPlan& plan = report.plan;
  lines.emplace_back(
      "experts", bytes_text(plan.expert_total_bytes) +
                     " on disk: " + std::to_string(experts.layers) + " layers of " +
                     std::to_string(experts.experts) + ", " + std::to_string(experts.per_token) +
                     " per token; " + bytes_text(experts.layer_bytes) + " a layer, " +
                     bytes_text(experts.expert_bytes) + " each, read in " +
                     std::to_string(experts.reads) + (experts.reads == 1 ? " piece" : " pieces"));
  lines.emplace_back("floor", bytes_text(plan.floor_bytes) + ": the experts of one token's layer");
  lines.emplace_back("working set",
                     bytes_text(plan.working_set_bytes) + ": one token's experts in all layers");
  const double share =
      static_cast<double>(plan.cache_bytes) / static_cast<double>(plan.all_slots_bytes);
  lines.emplace_back("expert cache", bytes_text(plan.cache_bytes) + ", " + percent_text(share) +
                                         " of all (" + plan.budget_reason + ")");
}

std::string reads_text(const ReadEstimate& reads) {
  std::string text = bytes_text(static_cast<uint64_t>(reads.bytes_per_token)) +
                     " a token at a hit rate of " + percent_text(reads.hit_rate) + " (" +
                     reads.source;
  if (reads.trace_tokens > 0) text += " of " + std::to_string(reads.trace_tokens) + " tokens";
  if (reads.optimal_hit_rate) text += "; at best " + percent_text(*reads.optimal_hit_rate);
  text += ")";
  if (reads.tokens_per_second) {
    const double rate = *reads.tokens_per_second;
    text += ": the disk allows " + number_text(rate, rate < 10 ? 2 : 0) + " tok/s";
  }
  return text;
}

std::string verdict_text(const PlanReport& report) {
  switch (report.verdict) {
    case Verdict::runs:
      return "runs";
    case Verdict::runs_badly:
      return "runs badly: " + report.reason;
    case Verdict::does_not_fit:
      return "does not fit: " + report.reason;
  }
  return {};
}

}  // namespace

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::runs:
      return "runs";
    case Verdict::runs_badly:
      return "runs_badly";
    case Verdict::does_not_fit:
      return "does_not_fit";
  }
  return "";
}

PlanReport make_plan_report(const PlanOptions& options) {
  const ModelConfig config = read_config(options.model);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  std::optional<ExpertSource> experts;
  std::optional<Trunk> trunk;
  declare_model(config, checkpoint, experts, trunk);
  MemoryLimits memory = memory_limits();
  if (options.memory_bytes) {
    memory = {.total_bytes = *options.memory_bytes,
              .available_bytes = *options.memory_bytes,
              .cgroup_limit_bytes = {},
              .cgroup_used_bytes = 0};
  }
  ModelMeasure measure = measure_model(config, options.model_options, *trunk, experts, memory);

  PlanReport report;
  report.model = options.model;
  report.model_type = config.model_type;
  report.layers = config.layers;
  report.context = measure.limits.context;
  report.threads = measure.limits.threads;
  report.compute = options.model_options.compute == Compute::int16 ? "int16" : "f32";
  report.files = checkpoint.files().size();
  report.tensors = checkpoint.tensors().size();
  for (const uint64_t bytes : checkpoint.file_bytes()) report.file_bytes += bytes;
  KvShape longer = measure.kv_shape;  // layers that hold their window alone do not grow
  longer.context += 1'000'000;
  report.kv_bytes_per_1000 = (KvCache::bytes(longer) - KvCache::bytes(measure.kv_shape)) / 1000;
  report.plan = compute_plan(measure.inputs);
  report.memory = memory;
  report.pretended = options.memory_bytes.has_value();
  if (experts) {
    report.experts = expert_figures(*experts, config.experts_per_token);
    report.reads = estimate_reads(options, config, *experts, *report.experts, report.plan);
  }
  judge(measure.inputs, report);
  return report;
}

std::string plan_text(const PlanReport& report) {
  const MemoryPlan& plan = report.plan;
  std::vector<Line> lines;
  lines.emplace_back("model", report.model_type + ", " + std::to_string(report.layers) +
                                  " layers; " + bytes_text(report.file_bytes) + " in " +
                                  std::to_string(report.files) + " files, " +
                                  std::to_string(report.tensors) + " tensors");
  lines.emplace_back("memory", report.memory.text() + (report.pretended ? " (as given)" : ""));
  lines.emplace_back("trunk", bytes_text(plan.trunk_bytes) + " resident");
  lines.emplace_back("KV cache", bytes_text(plan.kv_bytes) + " for a context of " +
                                     std::to_string(report.context) + "; " +
                                     bytes_text(report.kv_bytes_per_1000) + " per 1000 tokens");
  if (plan.state_bytes > 0) {
    lines.emplace_back("state", bytes_text(plan.state_bytes) + " of recurrent layers, any context");
  }
  lines.emplace_back("working memory", bytes_text(plan.scratch_bytes));
  if (report.experts) add_expert_lines(report, lines);
  lines.emplace_back("together", bytes_text(plan.total_bytes() - plan.process_bytes) +
                                     ", beside the program and its tokenizer");
  if (report.reads) lines.emplace_back("reads", reads_text(*report.reads));
  lines.emplace_back("verdict", verdict_text(report));

  constexpr size_t kLabelColumns = 16;
  std::string text;
  for (const auto& [label, value] : lines) {
    text += label + ":" + std::string(kLabelColumns - label.size() - 1, ' ') + value + "\n";
  }
  return text;
}

}  // namespace sluice
