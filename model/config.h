// ModelConfig: what config.json says of a model, under one name each, whatever generation wrote it.
//
// config.json is data from outside: every number is range-checked here (counts 1..limits below,
// sizes whose products fit, known enumerations), so that the rest may compute with them freely.
// Keys that do not matter are ignored; a key that would change the result and is not understood is
// an Error. Which keys beyond the common ones matter is the family's to say (model/families.h),
// with the readers of model/config_reader.h. Threads: any.
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

// How positions turn queries and keys (model/rope.h has the formulas).
enum class RopeScaling : uint8_t { none, linear, dynamic, llama3, yarn, longrope };

struct RopeConfig {
  RopeScaling scaling = RopeScaling::none;
  double theta = 10000.0;
  uint32_t dimensions = 0;          // of each head that turn: even, 2..head_dim
  uint64_t max_positions = 0;       // max_position_embeddings
  uint64_t original_positions = 0;  // original_max_position_embeddings; absent: max_positions
  double factor = 1;                // absent where optional: max_positions / original_positions
  // llama3
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;  // > low_frequency_factor
  // yarn
  double beta_fast = 32;
  double beta_slow = 1;
  bool truncate = true;
  double mscale = 0;  // 0: not given
  double mscale_all_dimensions = 0;
  // yarn and longrope: what cos and sin are multiplied with
  std::optional<double> attention_factor;
  // longrope: [dimensions / 2] each
  std::vector<double> short_factors;
  std::vector<double> long_factors;
};

// How a router's numbers limit and weigh its choice (model/router.h).
struct RouterConfig {
  bool normalize = false;         // norm_topk_prob (absent: the family's default)
  uint32_t groups = 1;            // n_group; divides experts
  uint32_t groups_per_token = 1;  // topk_group; 1..groups, together at least experts_per_token
  float scale = 1;                // routed_scaling_factor
};

// Multi-head latent attention (model/mla.h); kv_rank == 0: the model has another kind.
struct MlaConfig {
  uint32_t q_rank = 0;       // q_lora_rank; 0: queries are projected in one step
  uint32_t kv_rank = 0;      // kv_lora_rank: the latent that keys and values are made of
  uint32_t nope_dim = 0;     // qk_nope_head_dim: of each query and key, what does not turn
  uint32_t rope_dim = 0;     // qk_rope_head_dim: what does; its key is shared by all heads
  uint32_t value_dim = 0;    // v_head_dim
  bool rope_pairs = true;    // rope_interleave: neighbours turn together, else halves
  uint32_t index_heads = 0;  // index_n_heads, of sparse attention (model/indexer.h); 0: dense
  uint32_t index_dim = 0;    // index_head_dim; its first rope_dim turn
  uint32_t index_topk = 0;   // index_topk: positions that a token sees at most

  // Of what the cache keeps of a position, and of an absorbed query.
  uint32_t latent_width() const { return kv_rank + rope_dim; }
};

// quantization.mode == "turboquant" (docs/formats.md). The tensors describe their
// own bits; this only tells that they may be there, and what is refused.
struct TurboQuantConfig {
  bool present = false;
  bool rotated = true;  // "rotation": "none" gives false
  bool qjl = false;     // true is refused until supported
};

// What lets a layer's tokens see each other: attention over a cache that grows with them, a
// recurrence over a state of constant size, or nothing: such a layer is feed-forward alone.
enum class Mixer : uint8_t { none, attention, recurrent };

// Of recurrent layers, in the words of linear attention; behind them those of state-space models,
// whose B, C and x are its keys, queries and values.
struct RecurrentConfig {
  uint32_t kernel = 0;       // linear_conv_kernel_dim | conv_kernel; ≥ 2
  uint32_t key_heads = 0;    // linear_num_key_heads | n_groups; divides value_heads
  uint32_t key_dim = 0;      // linear_key_head_dim | ssm_state_size
  uint32_t value_heads = 0;  // linear_num_value_heads | mamba_num_heads
  uint32_t value_dim = 0;    // linear_value_head_dim | mamba_head_dim
  // Limits on a state-space model's time steps, of which no limits are 0, 0: time_step_limit.
  double least_step = 0;
  double most_step = 0;

  // All at most kMaxWidth but the last two.
  uint32_t key_width() const { return key_heads * key_dim; }
  uint32_t value_width() const { return value_heads * value_dim; }
  uint32_t channels() const { return 2 * key_width() + value_width(); }
  // Of everything that is projected from a token: the channels, a gate, and two numbers a head.
  uint32_t projection_width() const { return channels() + value_width() + 2 * value_heads; }
};

// What the names of a checkpoint's tensors start with, which its writer decides and not its config:
// as published, until named_as_in() (model/families.h) has looked at a checkpoint.
struct StoredNames {
  std::string text = "model.";   // "<text>layers.0. ...", "<text>embed_tokens.weight"
  std::string head = "lm_head";  // the output matrix
};

struct ModelConfig {
  std::string model_type;  // "qwen3_moe": of the family
  StoredNames names;
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
  bool attention_bias = false;   // attention_bias | qkv_bias
  bool mlp_bias = false;
  bool mlp_relu_squared = false;  // dense and shared MLPs are W_down max(W_up x, 0)², without gate
  // Of state-space layers.
  bool projection_bias = false;   // use_bias
  bool convolution_bias = false;  // use_conv_bias
  bool qk_norm = false;           // use_qk_norm, of families that have models with and without
  MlaConfig mla;  // then kv_heads is 1 and head_dim that of queries, nope_dim + rope_dim
  RopeConfig rope;
  bool attention_gate = false;  // queries come with gates of the attention's output
  std::vector<Mixer> mixers;    // [layers]
  RecurrentConfig recurrent;    // zeros where no layer is
  // [layers]: the last positions that a token sees, itself included; 0: all.
  std::vector<uint32_t> layer_window;
  // MoE; experts == 0 for a dense model.
  uint32_t experts = 0;              // num_experts | num_local_experts | n_routed_experts
  uint32_t experts_per_token = 0;    // num_experts_per_tok; 1..experts
  uint32_t expert_intermediate = 0;  // moe_intermediate_size; of some families intermediate_size
  // Where routed experts work on a projection of the hidden state, its width; 0: on the state.
  uint32_t expert_latent = 0;
  uint32_t expert_width() const { return expert_latent > 0 ? expert_latent : hidden; }
  // An expert's gate and up are one matrix of 2 * expert_intermediate rows, theirs in turn.
  bool expert_gate_up_pairs = false;
  uint32_t shared_intermediate = 0;  // of all shared experts of a layer together; 0: none
  RouterConfig router;
  std::vector<bool> moe_layer;  // [layers]
  // num_nextn_predict_layers: layers for drafting behind the last, whose tensors are ignored.
  uint32_t draft_layers = 0;
  std::vector<uint32_t> eos_ids;  // eos_token_id: a number, a list, or absent
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
