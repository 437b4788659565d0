// A Qwen3-MoE checkpoint with random BF16 weights, of any size, written in a moment.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors_writer.h"

namespace sluice {

struct SyntheticShape {
  uint32_t layers = 2;
  uint32_t hidden = 64;
  uint32_t heads = 4;
  uint32_t kv_heads = 2;
  uint32_t head_dim = 16;
  uint32_t vocabulary = 256;
  uint32_t experts = 8;
  uint32_t experts_per_token = 2;
  uint32_t expert_intermediate = 32;
};

inline std::vector<TensorInfo> synthetic_tensors(const SyntheticShape& s) {
  std::vector<TensorInfo> tensors;
  const auto add = [&](const std::string& name, std::vector<uint64_t> shape) {
    TensorInfo tensor;
    tensor.name = name;
    tensor.dtype = DType::bf16;
    tensor.shape = std::move(shape);
    tensors.push_back(std::move(tensor));
  };
  add("model.embed_tokens.weight", {s.vocabulary, s.hidden});
  add("lm_head.weight", {s.vocabulary, s.hidden});
  add("model.norm.weight", {s.hidden});
  for (uint32_t layer = 0; layer < s.layers; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".";
    add(p + "input_layernorm.weight", {s.hidden});
    add(p + "post_attention_layernorm.weight", {s.hidden});
    add(p + "self_attn.q_proj.weight", {s.heads * s.head_dim, s.hidden});
    add(p + "self_attn.k_proj.weight", {s.kv_heads * s.head_dim, s.hidden});
    add(p + "self_attn.v_proj.weight", {s.kv_heads * s.head_dim, s.hidden});
    add(p + "self_attn.o_proj.weight", {s.hidden, s.heads * s.head_dim});
    add(p + "self_attn.q_norm.weight", {s.head_dim});
    add(p + "self_attn.k_norm.weight", {s.head_dim});
    add(p + "mlp.gate.weight", {s.experts, s.hidden});
    for (uint32_t e = 0; e < s.experts; ++e) {
      const std::string expert = p + "mlp.experts." + std::to_string(e) + ".";
      add(expert + "gate_proj.weight", {s.expert_intermediate, s.hidden});
      add(expert + "up_proj.weight", {s.expert_intermediate, s.hidden});
      add(expert + "down_proj.weight", {s.hidden, s.expert_intermediate});
    }
  }
  return tensors;
}

inline void write_synthetic_config(const std::filesystem::path& directory,
                                   const SyntheticShape& s) {
  std::filesystem::create_directories(directory);
  std::ofstream config(directory / "config.json");
  config << "{\"model_type\": \"qwen3_moe\", \"num_hidden_layers\": " << s.layers
         << ", \"hidden_size\": " << s.hidden << ", \"intermediate_size\": " << s.hidden
         << ", \"num_attention_heads\": " << s.heads << ", \"num_key_value_heads\": " << s.kv_heads
         << ", \"head_dim\": " << s.head_dim << ", \"vocab_size\": " << s.vocabulary
         << ", \"max_position_embeddings\": 4096, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0"
         << ", \"hidden_act\": \"silu\", \"tie_word_embeddings\": false, \"eos_token_id\": 0"
         << ", \"num_experts\": " << s.experts
         << ", \"num_experts_per_tok\": " << s.experts_per_token
         << ", \"moe_intermediate_size\": " << s.expert_intermediate
         << ", \"norm_topk_prob\": true, \"decoder_sparse_step\": 1, \"mlp_only_layers\": []}\n";
}

// Weights are uniform with the usual 1/√inputs spread (norms near 1), from a counter and the seed.
inline void write_synthetic_checkpoint(const std::filesystem::path& directory,
                                       const SyntheticShape& s, uint64_t seed = 1) {
  write_synthetic_config(directory, s);
  const std::vector<TensorInfo> tensors = synthetic_tensors(s);
  SafetensorsWriter writer((directory / "model.safetensors").string(), tensors, {});
  uint64_t state = seed;
  std::vector<uint16_t> values;
  for (const TensorInfo& tensor : tensors) {
    const bool norm = tensor.shape.size() == 1;
    uint64_t count = 1;
    for (const uint64_t n : tensor.shape) count *= n;
    const float spread = norm ? 0.1f : 1.7f / std::sqrt(static_cast<float>(tensor.shape.back()));
    values.resize(count);
    for (uint16_t& value : values) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      const float uniform = static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f;
      const float weight = uniform * spread + (norm ? 1.0f : 0.0f);
      uint32_t bits = 0;
      std::memcpy(&bits, &weight, sizeof(bits));
      value = static_cast<uint16_t>(bits >> 16);
    }
    writer.write(std::as_bytes(std::span(values)));
  }
  writer.finish();
}

}  // namespace sluice
