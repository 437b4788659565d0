// Mixtral: Mistral with a mixture of experts in every layer, arXiv:2401.04088. The k experts are
// weighted with the softmax of their own logits.
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  if (!json.has("rms_norm_eps")) config.rms_epsilon = 1e-5f;  // this family's default
  config.rope.theta = 1e6;
  read_heads(json, config);
  read_rope(json, config);
  read_window(json, config);
  read_experts(json, config, "intermediate_size");
}

TransformerVariant variant(const ModelConfig&) {
  TransformerVariant mixtral;
  mixtral.feed_forward = "block_sparse_moe";
  mixtral.router.score = RouterScore::chosen_softmax;
  mixtral.expert = {.gate = "w1", .up = "w3", .down = "w2"};
  return mixtral;
}

}  // namespace

Family mixtral_family() {
  return transformer_family({.model_type = "mixtral",
                             .models = "Mixtral 8x7B, 8x22B",
                             .read_config = read,
                             .variant = variant});
}

}  // namespace sluice
