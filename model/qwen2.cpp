// Qwen2 and Qwen2-MoE, arXiv:2407.10671: biases on queries, keys and values. The MoE models have a
// gated shared expert beside the routed ones.
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read_dense(const JsonObject& json, ModelConfig& config) {
  read_heads(json, config);
  config.attention_bias = true;
  read_rope(json, config);
  read_switched_window(json, config, SwitchedWindow::from_layer);
  read_dense_mlp(json, config);
}

void read_moe(const JsonObject& json, ModelConfig& config) {
  read_heads(json, config);
  config.attention_bias = json.boolean("qkv_bias").value_or(true);
  read_rope(json, config);
  read_switched_window(json, config, SwitchedWindow::alternating_below);
  read_experts(json, config, "moe_intermediate_size");
  read_sparse_steps(json, config);
  read_normalize(json, config, false);
  config.shared_intermediate = required_count(json, "shared_expert_intermediate_size", kMaxWidth);
  read_dense_mlp(json, config);
}

TransformerVariant variant(const ModelConfig& config) {
  TransformerVariant qwen2;
  qwen2.attention.qkv_bias = config.attention_bias;
  qwen2.shared_expert = {.name = "shared_expert", .gate = "shared_expert_gate"};
  return qwen2;
}

}  // namespace

Family qwen2_family() {
  return transformer_family({.model_type = "qwen2",
                             .models = "Qwen2, Qwen2.5",
                             .read_config = read_dense,
                             .variant = variant});
}

Family qwen2_moe_family() {
  return transformer_family({.model_type = "qwen2_moe",
                             .models = "Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B",
                             .read_config = read_moe,
                             .variant = variant});
}

}  // namespace sluice
