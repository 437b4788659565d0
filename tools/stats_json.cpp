#include <nlohmann/json.hpp>

#include "io/json_text.h"
#include "tools/program.h"
#include "tools/run_report.h"

namespace sluice {
namespace {

using nlohmann::ordered_json;

// Null where the divisor is zero: a rate that was not measured is no number.
ordered_json quotient(double part, double whole) {
  return whole > 0 ? ordered_json(part / whole) : ordered_json(nullptr);
}

// The same fields for prompt and decode; docs/stats.md.
ordered_json stream_fields(const PhaseReport& phase) {
  const CacheStatistics& cache = phase.stream.cache;
  const ReadStatistics& reads = phase.stream.reads;
  const auto read = static_cast<double>(reads.bytes_demanded + reads.bytes_speculated);
  return {{"hit_rate", quotient(static_cast<double>(cache.bytes_kept()),
                                static_cast<double>(cache.bytes_demanded))},
          {"hits", cache.hits},
          {"pinned_hits", cache.pinned_hits},
          {"in_flight_hits", cache.in_flight_hits},
          {"misses", cache.misses},
          {"evictions", cache.evictions},
          {"bytes_demanded", cache.bytes_demanded},
          {"bytes_missed", cache.bytes_missed},
          {"look_ahead_loads", cache.speculative_loads},
          {"look_ahead_used", cache.speculative_used},
          {"look_ahead_bytes", reads.bytes_speculated},
          {"bytes_read", reads.bytes_demanded + reads.bytes_speculated},
          {"bytes_read_per_token", quotient(read, static_cast<double>(phase.tokens))},
          {"disk_mb_per_second", quotient(read, static_cast<double>(reads.busy_us))},
          {"wait_seconds", static_cast<double>(phase.stream.wait_us) * 1e-6}};
}

ordered_json load_fields(const RunReport& report) {
  return {{"tokenizer_seconds", report.tokenizer_seconds},
          {"headers_seconds", report.load.headers_seconds},
          {"trunk_seconds", report.load.trunk_seconds},
          {"trunk_bytes", report.load.trunk_bytes},
          {"pins_seconds", report.load.pins_seconds},
          {"arranging_seconds", report.load.network_seconds}};
}

// Null where there are none.
ordered_json pin_fields(const PinReport& pins) {
  if (pins.file.empty()) return nullptr;
  return {
      {"file", pins.file}, {"listed", pins.listed}, {"pinned", pins.pinned}, {"bytes", pins.bytes}};
}

ordered_json plan_fields(const MemoryPlan& plan) {
  return {{"process_bytes", plan.process_bytes}, {"trunk_bytes", plan.trunk_bytes},
          {"kv_bytes", plan.kv_bytes},           {"state_bytes", plan.state_bytes},
          {"scratch_bytes", plan.scratch_bytes}, {"cache_bytes", plan.cache_bytes},
          {"total_bytes", plan.total_bytes()},   {"expert_total_bytes", plan.expert_total_bytes},
          {"floor_bytes", plan.floor_bytes},     {"working_set_bytes", plan.working_set_bytes}};
}

}  // namespace

std::string stats_json(const RunReport& report) {
  const RunSetting& setting = report.setting;
  const auto rate = [](const PhaseReport& phase) {
    return quotient(static_cast<double>(phase.tokens), phase.seconds);
  };
  ordered_json json = {
      {"version", version()},
      {"model", setting.model},
      {"prompt_tokens", report.prompt.tokens},
      {"generated_tokens", report.generated_tokens},
      {"decode_tokens", report.decode.tokens},
      {"prompt_seconds", report.prompt.seconds},
      {"decode_seconds", report.decode.seconds},
      {"time_to_first_token_seconds",
       report.generated_tokens > 0 ? ordered_json(report.time_to_first_token) : ordered_json()},
      {"load", load_fields(report)},
      {"prompt_tokens_per_second", rate(report.prompt)},
      {"decode_tokens_per_second", rate(report.decode)},
  };
  json.update(stream_fields(report.decode));
  json["prompt"] = stream_fields(report.prompt);
  json["budget_bytes"] = setting.plan.cache_bytes;
  json["slots"] = setting.slots;
  json["all_experts_resident"] = setting.has_experts && setting.all_resident;
  json["pins"] = pin_fields(report.pins);
  json["plan"] = plan_fields(setting.plan);
  json["peak_rss_bytes"] = report.peak_resident_bytes;
  json["context"] = setting.context;
  json["io"] = setting.io;
  json["slab"] = setting.slab;
  json["policy"] = setting.policy;
  json["threads"] = setting.threads;
  json["compute"] = setting.compute;
  json["isa"] = setting.isa;
  json["seed"] = setting.seed;
  json["stop_reason"] = stop_reason_name(report.stop_reason);
  // A directory's name may be any bytes.
  return json_text(json, 2, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sluice
