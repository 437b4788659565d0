// Readers of config.json's parts, from which each family picks what its models have
// (model/families.h). Each throws Error naming the key, what was found and what was expected.
//
// Requires, of all: json is config.json's object (of nested ones, the text model's), and config
// holds what parse_config() reads before it asks the family: layers, hidden, vocabulary,
// max_positions. Threads: any.
#pragma once

#include <limits>

#include "model/config.h"
#include "model/json_object.h"

namespace sluice {

// The end of a range that has none.
inline constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// A count that must exist, 1..most.
uint32_t required_count(const JsonObject& json, const char* key, uint64_t most);
// A count that may be absent, 1..most.
uint32_t optional_count(const JsonObject& json, const char* key, uint64_t most, uint32_t absent);

// heads, kv_heads, head_dim. Before read_rope().
void read_heads(const JsonObject& json, ModelConfig& config);
// The same of latent attention, and what it has beside: mla but for its indexer. Reads rope too.
void read_mla(const JsonObject& json, ModelConfig& config);
// index_n_heads, index_head_dim and index_topk. After read_mla().
void read_indexer(const JsonObject& json, ModelConfig& config);
// theta, dimensions and scaling, by either generation of keys. What the family's models do where
// the file is silent is in config.rope.theta and `partial`, the share of a head that turns.
void read_rope(const JsonObject& json, ModelConfig& config, double partial = 1);
// sliding_window, of the layers that layer_types says; without that, of every layer. absent: how
// wide it is where the file has no such key; null is no window.
void read_window(const JsonObject& json, ModelConfig& config, uint32_t absent = 0);
// The same, but without layer_types of every other layer, from the first on.
void read_alternating_window(const JsonObject& json, ModelConfig& config, uint32_t absent);
// The same where use_sliding_window says whether there is one.
enum class SwitchedWindow : uint8_t {
  from_layer,         // without layer_types: from max_window_layers on
  alternating_below,  // every other layer below max_window_layers, from the first on
  everywhere,
};
void read_switched_window(const JsonObject& json, ModelConfig& config, SwitchedWindow kind);

// layer_types of "linear_attention" and "full_attention", or every full_attention_interval-th layer
// full; and the sizes of linear attention (linear_*), where a layer has it.
void read_linear_attention(const JsonObject& json, ModelConfig& config);
// Throws Error where the sizes of the recurrent layers do not fit together.
void check_recurrent(const JsonObject& json, const RecurrentConfig& recurrent);

// intermediate_size, where a layer is dense. After the experts.
void read_dense_mlp(const JsonObject& json, ModelConfig& config);

// The number of experts, experts_per_token and, by width_key, expert_intermediate; all layers
// become MoE layers.
void read_experts(const JsonObject& json, ModelConfig& config, const char* width_key);
// Makes layers dense again: by decoder_sparse_step and mlp_only_layers; by first_k_dense_replace;
// or by that with moe_layer_freq and mlp_layer_types. Throws also where no layer is left.
void read_sparse_steps(const JsonObject& json, ModelConfig& config);
void read_first_dense(const JsonObject& json, ModelConfig& config);
void read_moe_layers(const JsonObject& json, ModelConfig& config);
// norm_topk_prob.
void read_normalize(const JsonObject& json, ModelConfig& config, bool absent);
// n_group, topk_group and routed_scaling_factor. After read_experts().
void read_router_groups(const JsonObject& json, ModelConfig& config);
// num_nextn_predict_layers, whose tensors are ignored.
void read_draft_layers(const JsonObject& json, ModelConfig& config);
// n_shared_experts, each as wide as a routed one. After read_experts().
void read_shared_experts(const JsonObject& json, ModelConfig& config);

}  // namespace sluice
