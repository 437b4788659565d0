// Qwen3 and Qwen3-MoE, arXiv:2505.09388: queries and keys normed per head, no biases by default.
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read_attention(const JsonObject& json, ModelConfig& config, SwitchedWindow window) {
  read_heads(json, config);
  config.attention_bias = json.boolean("attention_bias").value_or(false);
  read_rope(json, config);
  read_switched_window(json, config, window);
}

void read_dense(const JsonObject& json, ModelConfig& config) {
  read_attention(json, config, SwitchedWindow::from_layer);
  read_dense_mlp(json, config);
}

void read_moe(const JsonObject& json, ModelConfig& config) {
  read_attention(json, config, SwitchedWindow::everywhere);
  read_experts(json, config, "moe_intermediate_size");
  read_sparse_steps(json, config);
  read_normalize(json, config, false);
  read_dense_mlp(json, config);
}

TransformerVariant variant(const ModelConfig& config) {
  TransformerVariant qwen3;
  qwen3.attention = {.qkv_bias = config.attention_bias,
                     .output_bias = config.attention_bias,
                     .qk_norm = QkNorm::per_head};
  return qwen3;
}

}  // namespace

Family qwen3_family() {
  return transformer_family({.model_type = "qwen3",
                             .models = "Qwen3-0.6B to 32B",
                             .read_config = read_dense,
                             .variant = variant});
}

Family qwen3_moe_family() {
  return transformer_family({.model_type = "qwen3_moe",
                             .models = "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder",
                             .read_config = read_moe,
                             .variant = variant});
}

}  // namespace sluice
