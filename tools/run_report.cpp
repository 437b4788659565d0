#include "tools/run_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "kernels/kernels.h"

namespace sluice {
namespace {

std::string number_text(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

// Three digits or more: "0.412", "45.1", "1234".
std::string rate_text(double value) {
  return number_text(value, value < 1 ? 3 : value < 10 ? 2 : value < 100 ? 1 : 0);
}

std::string percent_text(uint64_t part, uint64_t whole) {
  const double share = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  return number_text(share, share < 10 ? 1 : 0) + " %";
}

std::string small_budget_note(const RunSetting& setting) {
  // lfru, which counts uses, has no such cliff.
  if (setting.policy == "lfru" || !setting.plan.below_working_set()) return {};
  return "note: the budget is under one token's working set, expect a hit rate near zero; the next "
         "useful step is --cache-budget-gb " +
         budget_argument(setting.plan.useful_budget_bytes()) + ", or --policy lfru\n";
}

std::string speed_text(const PhaseReport& phase) {
  if (phase.seconds <= 0 || phase.tokens == 0) return {};
  return " (" + rate_text(static_cast<double>(phase.tokens) / phase.seconds) + " tok/s)";
}

std::string experts_text(const StreamStatistics& stream, uint64_t tokens) {
  if (stream.cache.bytes_demanded == 0) return "experts: none used in decode\n";
  const uint64_t read = stream.reads.bytes_demanded + stream.reads.bytes_speculated;
  std::string text = "experts: hit rate " +
                     percent_text(stream.cache.bytes_kept(), stream.cache.bytes_demanded) + ", " +
                     bytes_text(read / std::max<uint64_t>(1, tokens)) + " read per token";
  if (stream.reads.busy_us > 0) {
    const double rate = static_cast<double>(read) / static_cast<double>(stream.reads.busy_us);
    text += ", disk " + rate_text(rate) + " MB/s";  // bytes per microsecond
  }
  return text + ", waited " + number_text(static_cast<double>(stream.wait_us) * 1e-6, 2) + " s\n";
}

// What passes before the first token, in the order in which it does.
std::string start_up_text(const RunReport& report) {
  const LoadReport& load = report.load;
  const double loading = report.tokenizer_seconds + load.headers_seconds + load.trunk_seconds +
                         load.pins_seconds + load.network_seconds;
  const auto part = [](const char* name, double seconds) {
    return std::string(", ") + name + " " + number_text(seconds, 2) + " s";
  };
  std::string text = "first token: after " + number_text(loading + report.time_to_first_token, 2) +
                     " s: tokenizer " + number_text(report.tokenizer_seconds, 2) + " s" +
                     part("headers", load.headers_seconds) + part("trunk", load.trunk_seconds);
  if (load.trunk_seconds > 0) {
    const double rate = static_cast<double>(load.trunk_bytes) / load.trunk_seconds;
    text += " (" + bytes_text(load.trunk_bytes) + " at " + rate_text(rate * 1e-6) + " MB/s)";
  }
  if (load.pins_seconds > 0) text += part("pins", load.pins_seconds);
  return text + part("arranging", load.network_seconds) +
         part("prompt", report.time_to_first_token) + "\n";
}

// What was read ahead, and how much of it was of use.
std::string look_ahead_text(const CacheStatistics& decode) {
  if (decode.speculative_loads == 0) return {};
  return "look-ahead: " + std::to_string(decode.speculative_loads) + " experts read ahead, " +
         percent_text(decode.speculative_used, decode.speculative_loads) + " of them used, " +
         percent_text(decode.bytes_foreseen, decode.bytes_foreseen + decode.bytes_missed) +
         " of what was not in the cache\n";
}

// What pins took and brought.
std::string pins_text(const PinReport& pins, const CacheStatistics& decode) {
  if (pins.file.empty()) return {};
  std::string text = "pins: " + std::to_string(pins.pinned) + " of " + std::to_string(pins.listed) +
                     " experts of " + pins.file + " kept, " + bytes_text(pins.bytes) +
                     " of the budget";
  const uint64_t demands = decode.hits + decode.in_flight_hits + decode.misses;
  if (demands > 0) text += "; " + percent_text(decode.pinned_hits, demands) + " of uses found them";
  return text + "\n";
}

std::string stop_text(const RunReport& report) {
  switch (report.stop_reason) {
    case StopReason::max_tokens:
      return "as many tokens as asked for";
    case StopReason::end_token:
      return "end of text";
    case StopReason::stop_text:
      return "stop text";
    case StopReason::context_full:
      return "all " + std::to_string(report.setting.context) +
             " positions of the context are taken (--context)";
    case StopReason::interrupted:
      return "interrupted";
    case StopReason::output_closed:
      return "nobody reads the output";
  }
  return {};
}

}  // namespace

std::string budget_argument(uint64_t bytes) {
  const double gigabytes = static_cast<double>(bytes) / 1e9;
  const int decimals = std::max(0, 1 - static_cast<int>(std::floor(std::log10(gigabytes))));
  const double unit = std::pow(10.0, decimals);
  return number_text(std::ceil(gigabytes * unit) / unit, decimals);
}

const char* stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::max_tokens:
      return "max_tokens";
    case StopReason::end_token:
      return "end_token";
    case StopReason::stop_text:
      return "stop_text";
    case StopReason::context_full:
      return "context_full";
    case StopReason::interrupted:
      return "interrupted";
    case StopReason::output_closed:
      return "output_closed";
  }
  return "";
}

RunSetting describe_run(const std::string& directory, const Model& model,
                        const ModelOptions& options, uint64_t seed) {
  const ModelConfig& config = model.config();
  const auto moe_layers = static_cast<uint64_t>(std::ranges::count(config.moe_layer, true));
  return {.model = directory,
          .plan = model.plan(),
          .automatic_budget = options.budget.kind == BudgetRequest::Kind::automatic,
          .has_experts = model.has_experts(),
          .all_resident = model.cache_slots() >= moe_layers * config.experts,
          .slots = model.cache_slots(),
          .context = model.context(),
          .threads = model.threads(),
          .io = model.io_description(),
          .slab = model.slab_description(),
          .policy = options.cache_policy,
          .compute = options.compute == Compute::int16 ? "int16" : "f32",
          .isa = kernels::table().name,
          .seed = seed};
}

std::string start_text(const RunSetting& setting) {
  if (!setting.has_experts) return "streaming: off (no experts)\n";
  const MemoryPlan& plan = setting.plan;
  const std::string experts = bytes_text(plan.expert_total_bytes) + " of experts on disk, budget " +
                              bytes_text(plan.cache_bytes);
  const std::string means =
      setting.io + ", " + std::to_string(setting.slots) + " slots, " + setting.slab + "\n";
  std::string text;
  if (setting.all_resident) {
    text = "streaming: off once read (all experts resident): " + experts + ", " + means;
  } else {
    const uint64_t held = std::min(plan.cache_bytes, plan.expert_total_bytes);
    text = "streaming: " + experts + " (" + percent_text(held, plan.expert_total_bytes) +
           " resident at most, floor " + bytes_text(plan.floor_bytes) +
           ", one token's working set " + bytes_text(plan.working_set_bytes) + "), " + means;
  }
  if (setting.automatic_budget) text += "budget: " + plan.budget_reason + "\n";
  return setting.all_resident ? text : text + small_budget_note(setting);
}

std::string summary_text(const RunReport& report) {
  std::string text = report.generated_tokens > 0 ? start_up_text(report) : std::string();
  text += "prompt: " + std::to_string(report.prompt.tokens) + " tokens in " +
          number_text(report.prompt.seconds, 2) + " s" + speed_text(report.prompt) + "\n";
  text += "decode: " + std::to_string(report.generated_tokens) + " tokens in " +
          number_text(report.decode.seconds, 2) + " s" + speed_text(report.decode) + "\n";
  if (report.setting.has_experts) text += experts_text(report.decode.stream, report.decode.tokens);
  text += look_ahead_text(report.decode.stream.cache);
  text += pins_text(report.pins, report.decode.stream.cache);
  text += "memory: peak " + bytes_text(report.peak_resident_bytes) + " resident, planned " +
          bytes_text(report.setting.plan.total_bytes()) + "\n";
  return text + "stopped: " + stop_text(report) + "; seed " + std::to_string(report.setting.seed) +
         "\n";
}

}  // namespace sluice
