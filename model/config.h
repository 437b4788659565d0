// ModelConfig: what config.json says of a model, under one name each, whatever generation wrote it.
//
// config.json is data from outside: every number is range-checked here (counts 1..limits below,
// sizes whose products fit, known enumerations), so that the rest may compute with them freely.
// Keys that do not matter are ignored; a key that would change the result and is not understood is
// an Error. Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// Limits: an order of magnitude above any published model; a config past one is refused by name.
inline constexpr uint32_t kMaxLayers = 4096;
inline constexpr uint32_t kMaxWidth = 1u << 20;  // hidden, intermediate, heads × head_dim
inline constexpr uint32_t kMaxVocabulary = 1u << 24;
inline constexpr uint32_t kMaxExperts = 65536;
inline constexpr uint64_t kMaxPositions = 1u << 27;
inline constexpr size_t kMaxEndTokens = 256;

struct RopeConfig {
  std::string type = "default";  // alone so far; any other is refused
  double theta = 10000.0;
};

// quantization.mode == "turboquant" (docs/formats.md). The tensors describe their
// own bits; this only tells that they may be there, and what is refused.
struct TurboQuantConfig {
  bool present = false;
  bool rotated = true;  // "rotation": "none" gives false
  bool qjl = false;     // true is refused until supported
};

struct ModelConfig {
  std::string model_type;        // "qwen3_moe"
  uint32_t layers = 0;           // num_hidden_layers
  uint32_t hidden = 0;           // hidden_size
  uint32_t intermediate = 0;     // intermediate_size, of dense MLPs
  uint32_t heads = 0;            // num_attention_heads
  uint32_t kv_heads = 0;         // num_key_value_heads (absent: heads); divides heads
  uint32_t head_dim = 0;         // absent: hidden / heads; even
  uint32_t vocabulary = 0;       // vocab_size
  uint64_t max_positions = 0;    // max_position_embeddings
  float rms_epsilon = 1e-6f;     // rms_norm_eps
  bool tied_embeddings = false;  // tie_word_embeddings
  bool attention_bias = false;
  std::string activation = "silu";  // hidden_act
  RopeConfig rope;
  // Only where use_sliding_window is true; so far one below max_positions is refused.
  std::optional<uint32_t> sliding_window;
  // MoE; experts == 0 for a dense model.
  uint32_t experts = 0;              // num_experts | num_local_experts | n_routed_experts
  uint32_t experts_per_token = 0;    // num_experts_per_tok; 1..experts
  uint32_t expert_intermediate = 0;  // moe_intermediate_size
  bool normalize_top_k = false;      // norm_topk_prob (absent: false)
  std::vector<bool> moe_layer;       // [layers]: decoder_sparse_step, mlp_only_layers
  std::vector<uint32_t> eos_ids;     // eos_token_id: a number, a list, or absent
  TurboQuantConfig turboquant;
};

// text: the content of config.json; path: for messages. Throws Error naming path and key, what was
// found and what was expected; on an unknown model_type, the ones that are known.
ModelConfig parse_config(std::string_view text, const std::string& path);
// Reads DIR/config.json (at most 16 MB). Throws Error.
ModelConfig read_config(const std::filesystem::path& model_directory);

// generation_config.json: defaults for sampling. Absent keys stay empty; an absent file is all
// empty.
struct GenerationConfig {
  std::optional<float> temperature;
  std::optional<uint32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<bool> do_sample;  // false: greedy
  std::vector<uint32_t> eos_ids;
};
GenerationConfig parse_generation_config(std::string_view text, const std::string& path);
GenerationConfig read_generation_config(const std::filesystem::path& model_directory);

}  // namespace sluice
