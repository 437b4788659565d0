// config.json of small models, to be changed by tests.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "io/error.h"
#include "model/config.h"

namespace sluice {

using nlohmann::json;

inline json dense_config() {
  return json::parse(R"({
    "model_type": "qwen3", "num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 96,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 257,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    "attention_bias": true, "hidden_act": "silu", "rope_theta": 1000000.0, "rope_scaling": null,
    "sliding_window": null, "use_sliding_window": false, "eos_token_id": 2,
    "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"],
    "torch_dtype": "bfloat16", "unknown_key": {"of": ["no", "matter"]}
  })");
}

inline json moe_config() {
  json config = dense_config();
  config.update(json::parse(R"({
    "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "norm_topk_prob": true, "decoder_sparse_step": 1,
    "mlp_only_layers": []
  })"));
  return config;
}

inline ModelConfig parse(const json& config) {
  return parse_config(config.dump(), "DIR/config.json");
}

// The message of the Error, or "" if there was none.
inline std::string error_of(const json& config) {
  try {
    parse(config);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

inline json with(json config, const std::string& key, const json& value) {
  config[key] = value;
  return config;
}

inline json without(json config, const std::string& key) {
  config.erase(key);
  return config;
}

}  // namespace sluice
