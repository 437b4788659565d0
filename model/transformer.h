// The transformer of the Llama lineage: layers of attention (of some families linear attention in
// most) and a feed-forward block (an MLP, or a mixture of experts), each behind an RMS norm. A
// family of it states its variant, and this names the tensors, which all of them share:
//
//   model.embed_tokens.weight
//   model.layers.<L>.input_layernorm.weight
//   model.layers.<L>.self_attn.{q,k,v,o}_proj, .{q,k}_norm            model/attention.h
//   model.layers.<L>.linear_attn                                      model/gated_delta.h
//   model.layers.<L>.post_attention_layernorm.weight
//   model.layers.<L>.<feed_forward>.{gate,up,down}_proj               a dense layer's
//   model.layers.<L>.<feed_forward>.experts.<E>.{<gate>,<up>,<down>}  a MoE layer's, or stacked
//   model.layers.<L>.<feed_forward>.switch_mlp.{gate,up,down}_proj
//   model.layers.<L>.<feed_forward>.experts.{gate_up_proj,down_proj}  stacks of plain numbers
//   model.norm.weight, lm_head.weight
//
// where config.names may have something else in the place of "model." and "lm_head".
#pragma once

#include <string_view>

#include "model/attention.h"
#include "model/families.h"
#include "model/gated_delta.h"
#include "model/router.h"
#include "model/shared_expert.h"

namespace sluice {

struct TransformerVariant {
  AttentionVariant attention;  // where config.mla has none: model/mla.h names the tensors of that
  GatedDelta::Rows linear_attention = GatedDelta::Rows::by_kind;
  // Norms' weights are stored as what is added to 1, but for those inside linear attention; by MLX,
  // which stores convolutions in another order too, as they are.
  bool centered_norms = false;
  std::string feed_forward = "mlp";
  // The rest: of MoE layers.
  RouterVariant router;
  SharedExpertVariant shared_expert;
  struct {
    std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
  } expert;  // with one tensor per expert
  // Experts as gpt_oss has them: gate and up in one matrix, their rows in turn, clamped; stacks in
  // columns; and biases. ModelConfig::expert_gate_up_pairs says the same of the config.
  bool gate_up_pairs = false;
};

// A family of it. variant: how a model of the family with this config differs from the plain one.
struct TransformerFamily {
  std::string_view model_type;
  std::string_view models;
  void (*read_config)(const JsonObject& json, ModelConfig& config) = nullptr;
  TransformerVariant (*variant)(const ModelConfig& config) = nullptr;
  // As in Family.
  bool nested = false;
  std::vector<std::string_view> text_prefixes = {};
  std::vector<std::string_view> ignored = {};
};
Family transformer_family(const TransformerFamily& family);

}  // namespace sluice
