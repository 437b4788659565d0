// Qwen3-Next and Qwen3.5: three layers of gated delta nets (model/gated_delta.h) to one of
// attention with gated outputs, a quarter of each head turning; norms' weights stored around 1. Of
// Qwen3.5, which also sees images, the text model.
// https://huggingface.co/Qwen/Qwen3-Next-80B-A3B-Instruct
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read_layers(const JsonObject& json, ModelConfig& config) {
  read_heads(json, config);
  config.attention_bias = json.boolean("attention_bias").value_or(false);
  config.attention_gate = json.boolean("attn_output_gate").value_or(true);
  read_rope(json, config, 0.25);
  read_linear_attention(json, config);
}

void read_moe(const JsonObject& json, ModelConfig& config) {
  read_layers(json, config);
  read_experts(json, config, "moe_intermediate_size");
  read_sparse_steps(json, config);
  read_normalize(json, config, true);
  config.shared_intermediate = required_count(json, "shared_expert_intermediate_size", kMaxWidth);
  read_dense_mlp(json, config);
}

void read_dense(const JsonObject& json, ModelConfig& config) {
  read_layers(json, config);
  read_dense_mlp(json, config);
}

TransformerVariant by_kind(const ModelConfig& config) {
  TransformerVariant qwen;
  qwen.attention = {.qkv_bias = config.attention_bias,
                    .output_bias = config.attention_bias,
                    .qk_norm = QkNorm::per_head};
  qwen.centered_norms = true;
  qwen.shared_expert = {.name = "shared_expert", .gate = "shared_expert_gate"};
  return qwen;
}

TransformerVariant by_key_head(const ModelConfig& config) {
  TransformerVariant qwen = by_kind(config);
  qwen.linear_attention = GatedDelta::Rows::by_key_head;
  return qwen;
}

// Qwen3.5's, as published, by MLX, and of the text model alone.
std::vector<std::string_view> text_prefixes() {
  return {"model.language_model.", "language_model.model.", "model."};
}

// Images, and layers for drafting.
std::vector<std::string_view> ignored() {
  return {"model.visual.", "vision_tower.", "mtp.", "language_model.mtp."};
}

}  // namespace

Family qwen3_next_family() {
  return transformer_family({.model_type = "qwen3_next",
                             .models = "Qwen3-Next-80B-A3B",
                             .read_config = read_moe,
                             .variant = by_key_head,
                             .ignored = {"mtp."}});
}

Family qwen3_5_family() {
  return transformer_family({.model_type = "qwen3_5",
                             .models = "Qwen3.5-0.8B to 27B (text)",
                             .read_config = read_dense,
                             .variant = by_kind,
                             .nested = true,
                             .text_prefixes = text_prefixes(),
                             .ignored = ignored()});
}

Family qwen3_5_moe_family() {
  return transformer_family(
      {.model_type = "qwen3_5_moe",
       .models = "Qwen3.5-35B-A3B, 122B-A10B, 397B-A17B, Qwen3.6-35B-A3B (text)",
       .read_config = read_moe,
       .variant = by_kind,
       .nested = true,
       .text_prefixes = text_prefixes(),
       .ignored = ignored()});
}

}  // namespace sluice
