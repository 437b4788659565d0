#include "model/transformer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "model/decoder.h"
#include "model/mla.h"
#include "model/mlp.h"
#include "model/moe.h"

namespace sluice {

namespace {

std::string layer_prefix(const ModelConfig& config, uint32_t layer) {
  return config.names.text + "layers." + std::to_string(layer);
}

// The matrices of an expert, and how a checkpoint may hold them.
void name_projections(const ModelConfig& config, const TransformerVariant& variant,
                      ExpertNames& names) {
  const uint32_t width = config.expert_intermediate;
  if (variant.gate_up_pairs) {
    names.projections = {{"gate_up_proj", 2 * width, config.hidden},
                         {"down_proj", config.hidden, width}};
    names.plain_stack = ExpertNames::PlainStack::columns;
    names.bias_suffix = "_bias";
    return;
  }
  names.projections = {{"gate_proj", width, config.hidden, variant.expert.gate},
                       {"up_proj", width, config.hidden, variant.expert.up},
                       {"down_proj", config.hidden, width, variant.expert.down}};
  names.plain_stack = ExpertNames::PlainStack::rows;
  names.gate_and_up = "gate_up_proj";
}

std::vector<ExpertNames> transformer_experts(const ModelConfig& config,
                                             const TransformerVariant& variant) {
  std::vector<ExpertNames> all;
  const RouterVariant& router = variant.router;
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    if (!config.moe_layer[layer]) continue;
    const std::string block = layer_prefix(config, layer) + "." + variant.feed_forward;
    ExpertNames& names = all.emplace_back();
    names.layer = layer;
    names.experts = config.experts;
    names.per_expert_prefix = block + ".experts";
    names.stacked_prefixes = {block + ".switch_mlp", block + ".experts"};
    names.router = block + "." + router.weight;
    if (!router.correction.empty()) names.router_correction = block + "." + router.correction;
    name_projections(config, variant, names);
  }
  return all;
}

std::unique_ptr<const Block> moe_block(const std::string& prefix, const TransformerVariant& variant,
                                       const ModelConfig& config, Trunk& trunk,
                                       const ExpertSource& experts, uint32_t source_layer) {
  Router router(trunk, prefix, variant.router, config);
  std::optional<SharedExpert> shared;
  if (config.shared_intermediate > 0) {
    shared.emplace(trunk, prefix, variant.shared_expert, config);
  }
  ExpertForm form;
  if (variant.gate_up_pairs) form.activation = ExpertActivation::swiglu_clamped;
  return std::make_unique<Moe>(trunk, std::move(router), std::move(shared), config, experts,
                               source_layer, std::move(form));
}

std::unique_ptr<const Block> attention_block(const std::string& prefix, uint32_t layer,
                                             uint32_t kv_layer, const TransformerVariant& variant,
                                             const ModelConfig& config, Trunk& trunk) {
  if (config.mla.kv_rank > 0) return std::make_unique<Mla>(trunk, prefix, kv_layer, config);
  return std::make_unique<Attention>(trunk, prefix, variant.attention, kv_layer,
                                     config.layer_window[layer], config);
}

// What the checkpoint's writer left for the reader to add to norms.
float norm_offset(const ModelConfig& config, const TransformerVariant& variant,
                  const Checkpoint& checkpoint) {
  if (!variant.centered_norms) return 0;
  const auto recurrent = std::ranges::find(config.mixers, Mixer::recurrent);
  const auto layer = static_cast<uint32_t>(recurrent - config.mixers.begin());
  const bool mlx = layer == config.layers
                       ? config.names.text == "language_model.model."
                       : CausalConvolution::is_mlx(
                             checkpoint, layer_prefix(config, layer) + ".linear_attn.conv1d");
  return mlx ? 0 : 1;
}

std::unique_ptr<const Network> make_transformer(const ModelConfig& config,
                                                TransformerVariant variant, Trunk& trunk,
                                                const ExpertSource* experts) {
  const float plus = norm_offset(config, variant, trunk.checkpoint());
  variant.attention.norm_offset = plus;
  const uint32_t hidden = config.hidden;
  DecoderParts parts;
  parts.hidden = hidden;
  parts.epsilon = config.rms_epsilon;
  parts.rope = config.rope;
  parts.embeddings = Embeddings(trunk, config.names.text + "embed_tokens", config);
  uint32_t source_layer = 0, kv_layer = 0, state_layer = 0;
  for (uint32_t i = 0; i < config.layers; ++i) {
    const std::string prefix = layer_prefix(config, i);
    std::vector<ResidualBlock>& layer = parts.layers.emplace_back();
    std::vector<float> norm = read_vector(trunk, prefix + ".input_layernorm.weight", hidden, plus);
    std::unique_ptr<const Block> block;
    if (config.mixers[i] == Mixer::recurrent) {
      block = std::make_unique<GatedDelta>(trunk, prefix + ".linear_attn", variant.linear_attention,
                                           state_layer++, config);
    } else {
      block = attention_block(prefix + ".self_attn", i, kv_layer++, variant, config, trunk);
    }
    layer.push_back({std::move(norm), std::move(block)});
    norm = read_vector(trunk, prefix + ".post_attention_layernorm.weight", hidden, plus);
    const std::string feed_forward = prefix + "." + variant.feed_forward;
    if (config.moe_layer[i]) {
      block = moe_block(feed_forward, variant, config, trunk, *experts, source_layer++);
    } else {
      block = std::make_unique<Mlp>(trunk, feed_forward, config.intermediate, config);
    }
    layer.push_back({std::move(norm), std::move(block)});
  }
  parts.final_norm = read_vector(trunk, config.names.text + "norm.weight", hidden, plus);
  parts.head = config.tied_embeddings
                   ? parts.embeddings.as_head()
                   : Linear(trunk, config.names.head, {.rows = config.vocabulary, .cols = hidden},
                            false, config.turboquant.rotated);
  return std::make_unique<Decoder>(std::move(parts));
}

}  // namespace

Family transformer_family(const TransformerFamily& family) {
  const auto variant = family.variant;
  return {.model_type = family.model_type,
          .models = family.models,
          .read_config = family.read_config,
          .expert_names =
              [variant](const ModelConfig& config) {
                return transformer_experts(config, variant(config));
              },
          .make_network =
              [variant](const ModelConfig& config, Trunk& trunk, const ExpertSource* experts) {
                return make_transformer(config, variant(config), trunk, experts);
              },
          .nested = family.nested,
          .text_prefixes = family.text_prefixes,
          .ignored = family.ignored};
}

}  // namespace sluice
