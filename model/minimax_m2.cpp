// MiniMax-M2: full attention with queries and keys normed over all heads, sigmoid routing with a
// correction, no shared expert. https://huggingface.co/MiniMaxAI/MiniMax-M2
#include <algorithm>

#include "io/error.h"
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

// What the published files state, and the models of this name have in common.
void check_fixed(const JsonObject& json, const ModelConfig& config) {
  const std::vector<uint64_t> types =
      json.counts("attn_type_list", {.least = 0, .most = 1}, kMaxLayers);
  if (std::ranges::count(types, 0u) > 0 || (!types.empty() && types.size() != config.layers)) {
    throw Error(json.what(), ": attn_type_list names layers of linear attention or not all ",
                config.layers, " layers; expected 1 (full attention) for each");
  }
  if (json.text("scoring_func").value_or("sigmoid") != "sigmoid") {
    throw Error(json.what(), ": scoring_func is ", json.found("scoring_func"),
                "; expected \"sigmoid\"");
  }
  if (json.text("qk_norm_type").value_or("per_layer") != "per_layer") {
    throw Error(json.what(), ": qk_norm_type is ", json.found("qk_norm_type"),
                "; expected \"per_layer\"");
  }
  if (json.count("shared_intermediate_size", {.least = 0, .most = kMaxWidth}).value_or(0) != 0) {
    throw Error(json.what(), ": shared_intermediate_size is ",
                json.found("shared_intermediate_size"),
                "; shared experts are not known of this model_type, expected 0");
  }
}

void read(const JsonObject& json, ModelConfig& config) {
  check_fixed(json, config);
  config.rope.theta = 5e6;
  config.qk_norm = json.boolean("use_qk_norm").value_or(true);
  read_heads(json, config);
  read_rope(json, config);
  read_experts(json, config, "intermediate_size");
  config.router.normalize = true;
}

TransformerVariant variant(const ModelConfig& config) {
  TransformerVariant minimax;
  minimax.attention.qk_norm = config.qk_norm ? QkNorm::all_heads : QkNorm::none;
  minimax.feed_forward = "block_sparse_moe";
  minimax.router = {.score = RouterScore::sigmoid, .correction = "e_score_correction_bias"};
  minimax.expert = {.gate = "w1", .up = "w3", .down = "w2"};
  return minimax;
}

}  // namespace

Family minimax_m2_family() {
  return transformer_family({.model_type = "minimax_m2",
                             .models = "MiniMax-M2",
                             .read_config = read,
                             .variant = variant});
}

}  // namespace sluice
