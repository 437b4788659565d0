// OLMoE: experts in every layer, queries and keys normed over all heads at once, arXiv:2409.02060.
#include "io/error.h"
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  if (!json.has("rms_norm_eps")) config.rms_epsilon = 1e-5f;  // this family's default
  read_heads(json, config);
  config.attention_bias = json.boolean("attention_bias").value_or(false);
  if (json.has("clip_qkv")) {
    throw Error(json.what(), ": clip_qkv is ", json.found("clip_qkv"),
                "; clipped queries, keys and values are not supported, expected null");
  }
  read_rope(json, config);
  read_experts(json, config, "intermediate_size");
  read_normalize(json, config, false);
}

TransformerVariant variant(const ModelConfig& config) {
  TransformerVariant olmoe;
  olmoe.attention = {.qkv_bias = config.attention_bias,
                     .output_bias = config.attention_bias,
                     .qk_norm = QkNorm::all_heads};
  return olmoe;
}

}  // namespace

Family olmoe_family() {
  return transformer_family(
      {.model_type = "olmoe", .models = "OLMoE-1B-7B", .read_config = read, .variant = variant});
}

}  // namespace sluice
