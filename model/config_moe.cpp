// Of config.json: experts, which layers have them, and how a router chooses among them.
#include <algorithm>
#include <array>

#include "io/error.h"
#include "model/config_reader.h"

namespace sluice {
namespace {

// Writers of different years name the count of experts differently; the same number twice is fine.
uint32_t read_expert_count(const JsonObject& json) {
  constexpr std::array kKeys = {"num_experts", "num_local_experts", "n_routed_experts"};
  uint32_t experts = 0;
  const char* found = nullptr;
  for (const char* key : kKeys) {
    const auto count = json.count(key, {.least = 1, .most = kMaxExperts});
    if (!count) continue;
    if (found != nullptr && *count != experts) {
      throw Error(json.what(), ": ", found, " is ", experts, " but ", key, " is ", *count,
                  "; expected one number of experts");
    }
    found = key;
    experts = static_cast<uint32_t>(*count);
  }
  if (found == nullptr) {
    throw Error(json.what(), ": num_experts (or num_local_experts, n_routed_experts) is missing");
  }
  return experts;
}

}  // namespace

void read_experts(const JsonObject& json, ModelConfig& config, const char* width_key) {
  config.experts = read_expert_count(json);
  config.experts_per_token = required_count(json, "num_experts_per_tok", config.experts);
  config.expert_intermediate = required_count(json, width_key, kMaxWidth);
  config.moe_layer.assign(config.layers, true);
}

// Every step-th layer has experts, counted from one, but for those listed as dense.
void read_sparse_steps(const JsonObject& json, ModelConfig& config) {
  const uint32_t step = optional_count(json, "decoder_sparse_step", kMaxLayers, 1);
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    config.moe_layer[layer] = (layer + 1) % step == 0;
  }
  const CountRange layers = {.least = 0, .most = config.layers - 1};
  for (const uint64_t layer : json.counts("mlp_only_layers", layers, kMaxLayers)) {
    config.moe_layer[layer] = false;
  }
  if (std::ranges::count(config.moe_layer, true) == 0) {
    throw Error(json.what(), ": decoder_sparse_step and mlp_only_layers leave no layer with ",
                "experts; expected at least one for model_type \"", config.model_type, "\"");
  }
}

void read_first_dense(const JsonObject& json, ModelConfig& config) {
  const CountRange range = {.least = 0, .most = config.layers - 1};
  const uint64_t dense = json.count("first_k_dense_replace", range).value_or(0);
  std::fill_n(config.moe_layer.begin(), dense, false);
}

void read_moe_layers(const JsonObject& json, ModelConfig& config) {
  read_first_dense(json, config);
  const uint32_t step = optional_count(json, "moe_layer_freq", kMaxLayers, 1);
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    if (layer % step != 0) config.moe_layer[layer] = false;
  }
  // Newer writers list the layers, beside those numbers.
  const std::vector<std::string> types = json.texts("mlp_layer_types", kMaxLayers);
  if (!types.empty() && types.size() != config.layers) {
    throw Error(json.what(), ": mlp_layer_types has ", types.size(),
                " entries; expected one per layer of num_hidden_layers, ", config.layers);
  }
  for (uint32_t layer = 0; layer < types.size(); ++layer) {
    const bool sparse = types[layer] == "sparse";
    if (!sparse && types[layer] != "dense") {
      throw Error(json.what(), ": mlp_layer_types[", layer, "] is ", quoted_text(types[layer]),
                  "; expected \"dense\" or \"sparse\"");
    }
    config.moe_layer[layer] = sparse;
  }
  if (std::ranges::count(config.moe_layer, true) == 0) {
    throw Error(
        json.what(), ": first_k_dense_replace, moe_layer_freq and mlp_layer_types leave no ",
        "layer with experts; expected at least one for model_type \"", config.model_type, "\"");
  }
}

void read_draft_layers(const JsonObject& json, ModelConfig& config) {
  const CountRange layers = {.least = 0, .most = kMaxLayers};
  config.draft_layers =
      static_cast<uint32_t>(json.count("num_nextn_predict_layers", layers).value_or(0));
}

void read_normalize(const JsonObject& json, ModelConfig& config, bool absent) {
  config.router.normalize = json.boolean("norm_topk_prob").value_or(absent);
}

void read_router_groups(const JsonObject& json, ModelConfig& config) {
  RouterConfig& router = config.router;
  router.groups = optional_count(json, "n_group", config.experts, 1);
  router.groups_per_token = optional_count(json, "topk_group", router.groups, 1);
  if (config.experts % router.groups != 0) {
    throw Error(json.what(), ": n_group is ", router.groups,
                "; expected a divisor of the number of experts, ", config.experts);
  }
  const uint32_t eligible = config.experts / router.groups * router.groups_per_token;
  if (eligible < config.experts_per_token) {
    throw Error(json.what(), ": topk_group is ", router.groups_per_token, ", which leaves ",
                eligible, " experts to choose from; expected at least num_experts_per_tok, ",
                config.experts_per_token);
  }
  constexpr RealRange kScales = {.least = 0, .most = 1e6};
  router.scale = static_cast<float>(json.real("routed_scaling_factor", kScales).value_or(1));
}

void read_shared_experts(const JsonObject& json, ModelConfig& config) {
  const uint64_t most = kMaxWidth / config.expert_intermediate;
  const auto shared = json.count("n_shared_experts", {.least = 0, .most = most});
  config.shared_intermediate =
      static_cast<uint32_t>(shared.value_or(0) * config.expert_intermediate);
}

}  // namespace sluice
