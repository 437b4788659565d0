// DeepSeek-V3, arXiv:2412.19437: latent attention, sigmoid routing with a correction within the
// best groups, a shared expert, the first layers dense. Kimi-K2 (arXiv:2507.20534) is the same
// under a name of its own; DeepSeek-V3.2 attends to the positions that an indexer chooses. The
// layers for drafting behind the last are not read.
#include "io/error.h"
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_mla(json, config);
  read_experts(json, config, "moe_intermediate_size");
  read_moe_layers(json, config);
  read_normalize(json, config, true);
  read_router_groups(json, config);
  if (json.text("topk_method").value_or("noaux_tc") != "noaux_tc") {
    throw Error(json.what(), ": topk_method is ", json.found("topk_method"),
                "; expected \"noaux_tc\"");
  }
  if (json.text("scoring_func").value_or("sigmoid") != "sigmoid") {
    throw Error(json.what(), ": scoring_func is ", json.found("scoring_func"),
                "; expected \"sigmoid\"");
  }
  read_shared_experts(json, config);
  read_dense_mlp(json, config);
  read_draft_layers(json, config);
}

void read_sparse(const JsonObject& json, ModelConfig& config) {
  read(json, config);
  read_indexer(json, config);
  const std::vector<std::string> types = json.texts("layer_types", kMaxLayers);
  for (const std::string& type : types) {
    if (type != "deepseek_sparse_attention") {
      throw Error(json.what(), ": layer_types has ", quoted_text(type),
                  "; expected \"deepseek_sparse_attention\" of every layer");
    }
  }
}

TransformerVariant variant(const ModelConfig&) {
  TransformerVariant deepseek;
  deepseek.router = {.score = RouterScore::sigmoid, .correction = "gate.e_score_correction_bias"};
  deepseek.shared_expert.name = "shared_experts";
  return deepseek;
}

}  // namespace

Family deepseek_v3_family() {
  return transformer_family({.model_type = "deepseek_v3",
                             .models = "DeepSeek-V3, DeepSeek-V3.1, DeepSeek-R1",
                             .read_config = read,
                             .variant = variant});
}

Family kimi_k2_family() {
  return transformer_family({.model_type = "kimi_k2",
                             .models = "Kimi-K2 (Base, Instruct)",
                             .read_config = read,
                             .variant = variant});
}

Family deepseek_v32_family() {
  return transformer_family({.model_type = "deepseek_v32",
                             .models = "DeepSeek-V3.2, DeepSeek-V3.2-Exp",
                             .read_config = read_sparse,
                             .variant = variant});
}

}  // namespace sluice
