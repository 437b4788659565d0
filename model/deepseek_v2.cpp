// DeepSeek-V2, arXiv:2405.04434: latent attention, many small experts chosen within the best
// groups, shared experts, the first layers dense.
#include "io/error.h"
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_mla(json, config);
  read_experts(json, config, "moe_intermediate_size");
  read_moe_layers(json, config);
  read_router_groups(json, config);
  const std::string method = json.text("topk_method").value_or("greedy");
  if (method == "greedy") {
    config.router.groups = config.router.groups_per_token = 1;
  } else if (method != "group_limited_greedy") {
    throw Error(json.what(), ": topk_method is ", quoted_text(method),
                "; expected \"greedy\" or \"group_limited_greedy\"");
  }
  if (json.text("scoring_func").value_or("softmax") != "softmax") {
    throw Error(json.what(), ": scoring_func is ", json.found("scoring_func"),
                "; expected \"softmax\"");
  }
  // Implementations disagree about what it does beside routed_scaling_factor.
  if (json.boolean("norm_topk_prob").value_or(false)) {
    throw Error(json.what(), ": norm_topk_prob is true; no published model of model_type \"",
                config.model_type, "\" has it, expected false");
  }
  read_shared_experts(json, config);
  read_dense_mlp(json, config);
}

TransformerVariant variant(const ModelConfig&) {
  TransformerVariant deepseek;
  deepseek.router.best_of_group = 1;
  deepseek.shared_expert.name = "shared_experts";
  return deepseek;
}

}  // namespace

Family deepseek_v2_family() {
  return transformer_family({.model_type = "deepseek_v2",
                             .models = "DeepSeek-V2, DeepSeek-V2-Lite, DeepSeek-Coder-V2",
                             .read_config = read,
                             .variant = variant});
}

}  // namespace sluice
