// GLM-4.5 and 4.6, arXiv:2508.06471: half of each head turns, sigmoid routing with a correction, a
// shared expert, the first layers dense. The layers for drafting behind the last are not read.
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  if (!json.has("rms_norm_eps")) config.rms_epsilon = 1e-5f;  // this family's default
  read_heads(json, config);
  config.attention_bias = json.boolean("attention_bias").value_or(false);
  config.qk_norm = json.boolean("use_qk_norm").value_or(false);
  read_rope(json, config, 0.5);
  read_experts(json, config, "moe_intermediate_size");
  read_first_dense(json, config);
  read_normalize(json, config, true);
  read_router_groups(json, config);
  read_shared_experts(json, config);
  read_dense_mlp(json, config);
  read_draft_layers(json, config);
}

TransformerVariant variant(const ModelConfig& config) {
  TransformerVariant glm;
  glm.attention = {.qkv_bias = config.attention_bias,
                   .qk_norm = config.qk_norm ? QkNorm::per_head : QkNorm::none};
  glm.router = {.score = RouterScore::sigmoid, .correction = "gate.e_score_correction_bias"};
  glm.shared_expert.name = "shared_experts";
  return glm;
}

}  // namespace

Family glm4_moe_family() {
  return transformer_family({.model_type = "glm4_moe",
                             .models = "GLM-4.5, GLM-4.5-Air, GLM-4.6",
                             .read_config = read,
                             .variant = variant});
}

}  // namespace sluice
