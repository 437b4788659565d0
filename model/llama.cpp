// Llama 2 and 3: the plain transformer; Llama 3.1 stretches its positions (arXiv:2407.21783). Many
// models of other names are published as "llama".
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_heads(json, config);
  config.attention_bias = json.boolean("attention_bias").value_or(false);
  config.mlp_bias = json.boolean("mlp_bias").value_or(false);
  read_rope(json, config);
  read_dense_mlp(json, config);
}

TransformerVariant variant(const ModelConfig& config) {
  TransformerVariant llama;
  llama.attention.qkv_bias = config.attention_bias;
  llama.attention.output_bias = config.attention_bias;
  return llama;
}

}  // namespace

Family llama_family() {
  return transformer_family({.model_type = "llama",
                             .models = "Llama 2, 3, 3.1, 3.2 (text)",
                             .read_config = read,
                             .variant = variant});
}

}  // namespace sluice
