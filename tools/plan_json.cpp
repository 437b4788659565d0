#include <nlohmann/json.hpp>

#include "io/json_text.h"
#include "tools/plan_report.h"
#include "tools/program.h"

namespace sluice {
namespace {

using nlohmann::ordered_json;

ordered_json experts_json(const PlanReport& report) {
  if (!report.experts) return nullptr;
  const ExpertFigures& experts = *report.experts;
  return {{"layers", experts.layers},
          {"experts_per_layer", experts.experts},
          {"experts_per_token", experts.per_token},
          {"expert_bytes", experts.expert_bytes},
          {"layer_bytes", experts.layer_bytes},
          {"slot_bytes", experts.slot_bytes},
          {"read_bytes", experts.read_bytes},
          {"reads_per_expert", experts.reads}};
}

ordered_json reads_json(const PlanReport& report) {
  if (!report.reads) return nullptr;
  const ReadEstimate& reads = *report.reads;
  return {
      {"hit_rate", reads.hit_rate},
      {"hit_rate_source", reads.source},
      {"trace_tokens", reads.trace_tokens},
      {"optimal_hit_rate",
       reads.optimal_hit_rate ? ordered_json(*reads.optimal_hit_rate) : ordered_json(nullptr)},
      {"bytes_per_token", reads.bytes_per_token},
      {"disk_tokens_per_second",
       reads.tokens_per_second ? ordered_json(*reads.tokens_per_second) : ordered_json(nullptr)}};
}

}  // namespace

std::string plan_json(const PlanReport& report) {
  const MemoryPlan& plan = report.plan;
  const ordered_json json = {
      {"version", version()},
      {"model", report.model},
      {"model_type", report.model_type},
      {"layers", report.layers},
      {"files", report.files},
      {"tensors", report.tensors},
      {"file_bytes", report.file_bytes},
      {"context", report.context},
      {"threads", report.threads},
      {"compute", report.compute},
      {"memory", {{"usable_bytes", report.memory.usable_bytes()}, {"pretended", report.pretended}}},
      {"kv_bytes_per_1000_tokens", report.kv_bytes_per_1000},
      {"experts", experts_json(report)},
      {"plan",
       {{"process_bytes", plan.process_bytes},
        {"trunk_bytes", plan.trunk_bytes},
        {"kv_bytes", plan.kv_bytes},
        {"state_bytes", plan.state_bytes},
        {"scratch_bytes", plan.scratch_bytes},
        {"cache_bytes", plan.cache_bytes},
        {"total_bytes", plan.total_bytes()},
        {"expert_total_bytes", plan.expert_total_bytes},
        {"floor_bytes", plan.floor_bytes},
        {"working_set_bytes", plan.working_set_bytes},
        {"budget_reason", plan.budget_reason}}},
      {"reads", reads_json(report)},
      {"verdict", verdict_name(report.verdict)},
      {"reason", report.reason}};
  // A directory's name may be any bytes.
  return json_text(json, 2, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sluice
