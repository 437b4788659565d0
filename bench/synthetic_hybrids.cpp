#include "bench/synthetic_hybrids.h"

#include <map>
#include <nlohmann/json.hpp>

#include "io/error.h"
#include "io/json_text.h"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

// Letters of a pattern, one a layer: L linear attention, A attention, S sliding attention; of
// Nemotron-H, as published, M Mamba-2, * attention, E experts.
struct Shape {
  std::string family, pattern;
  uint64_t hidden, heads, kv_heads, head_dim, vocabulary;
  uint64_t experts, experts_per_token, expert_width, shared_width;
  // Of recurrent layers: heads of keys (Mamba: groups) and values, and their widths.
  uint64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  uint64_t latent = 0;  // what experts work on, if not the hidden state
};

const std::map<std::string, Shape> kShapes = {
    {"qwen3.6-35b-a3b",
     {"qwen3_5_moe", "LLLA", 2048, 16, 2, 256, 248320, 256, 8, 512, 512, 16, 32, 128, 128}},
    {"gpt-oss-120b", {"gpt_oss", "SA", 2880, 64, 8, 64, 201088, 128, 4, 2880, 0}},
    {"nemotron-3-super",
     {"nemotron_h", "MEMEMEM*EMEMEMEM*", 4096, 32, 2, 128, 131072, 512, 22, 2688, 5376, 8, 128, 128,
      64, 1024}},
    // For tests.
    {"tiny-qwen3.6", {"qwen3_5_moe", "LLLA", 64, 4, 2, 32, 256, 8, 2, 32, 32, 2, 4, 16, 16}},
    {"tiny-gpt-oss", {"gpt_oss", "SA", 64, 4, 2, 16, 256, 8, 2, 64, 0}},
    {"tiny-nemotron", {"nemotron_h", "ME*E", 64, 4, 2, 16, 256, 8, 2, 32, 64, 2, 8, 16, 16, 32}},
};
const std::map<std::string, uint32_t> kLayers = {
    {"qwen3.6-35b-a3b", 40}, {"gpt-oss-120b", 36}, {"nemotron-3-super", 88}};

constexpr uint64_t kKernel = 4;  // of causal convolutions

class Tensors {
 public:
  void add(const std::string& name, std::vector<uint64_t> shape, DType dtype = DType::bf16) {
    tensors_.push_back(synthetic_tensor(name, dtype, std::move(shape)));
  }
  void matrix(const std::string& path, uint64_t rows, uint64_t cols) {
    add(path + ".weight", {rows, cols});
  }
  void biased(const std::string& path, uint64_t rows, uint64_t cols) {
    matrix(path, rows, cols);
    add(path + ".bias", {rows});
  }
  std::vector<TensorInfo> take() { return std::move(tensors_); }

 private:
  std::vector<TensorInfo> tensors_;
};

void add_qwen_attention(Tensors& t, const Shape& s, const std::string& p) {
  t.matrix(p + "q_proj", 2 * s.heads * s.head_dim, s.hidden);  // with its gate
  t.matrix(p + "k_proj", s.kv_heads * s.head_dim, s.hidden);
  t.matrix(p + "v_proj", s.kv_heads * s.head_dim, s.hidden);
  t.matrix(p + "o_proj", s.hidden, s.heads * s.head_dim);
  t.add(p + "q_norm.weight", {s.head_dim});
  t.add(p + "k_norm.weight", {s.head_dim});
}

void add_linear_attention(Tensors& t, const Shape& s, const std::string& p) {
  const uint64_t values = s.value_heads * s.value_dim;
  const uint64_t channels = 2 * s.key_heads * s.key_dim + values;
  t.matrix(p + "in_proj_qkv", channels, s.hidden);
  t.matrix(p + "in_proj_z", values, s.hidden);
  t.matrix(p + "in_proj_b", s.value_heads, s.hidden);
  t.matrix(p + "in_proj_a", s.value_heads, s.hidden);
  t.add(p + "conv1d.weight", {channels, 1, kKernel});
  t.add(p + "A_log", {s.value_heads}, DType::f32);
  t.add(p + "dt_bias", {s.value_heads});
  t.add(p + "norm.weight", {s.value_dim}, DType::f32);
  t.matrix(p + "out_proj", s.hidden, values);
}

void add_qwen_layer(Tensors& t, const Shape& s, const std::string& p, char kind) {
  t.add(p + "input_layernorm.weight", {s.hidden});
  t.add(p + "post_attention_layernorm.weight", {s.hidden});
  kind == 'A' ? add_qwen_attention(t, s, p + "self_attn.")
              : add_linear_attention(t, s, p + "linear_attn.");
  t.matrix(p + "mlp.gate", s.experts, s.hidden);
  t.add(p + "mlp.experts.gate_up_proj", {s.experts, 2 * s.expert_width, s.hidden});
  t.add(p + "mlp.experts.down_proj", {s.experts, s.hidden, s.expert_width});
  t.matrix(p + "mlp.shared_expert.gate_proj", s.shared_width, s.hidden);
  t.matrix(p + "mlp.shared_expert.up_proj", s.shared_width, s.hidden);
  t.matrix(p + "mlp.shared_expert.down_proj", s.hidden, s.shared_width);
  t.matrix(p + "mlp.shared_expert_gate", 1, s.hidden);
}

void add_mxfp4_stack(Tensors& t, const Shape& s, const std::string& path, uint64_t rows,
                     uint64_t cols) {
  t.add(path + "_blocks", {s.experts, rows, cols / 32, 16}, DType::u8);
  t.add(path + "_scales", {s.experts, rows, cols / 32}, DType::u8);
  t.add(path + "_bias", {s.experts, rows});
}

void add_gpt_oss_layer(Tensors& t, const Shape& s, const std::string& p) {
  t.add(p + "input_layernorm.weight", {s.hidden});
  t.add(p + "post_attention_layernorm.weight", {s.hidden});
  t.biased(p + "self_attn.q_proj", s.heads * s.head_dim, s.hidden);
  t.biased(p + "self_attn.k_proj", s.kv_heads * s.head_dim, s.hidden);
  t.biased(p + "self_attn.v_proj", s.kv_heads * s.head_dim, s.hidden);
  t.biased(p + "self_attn.o_proj", s.hidden, s.heads * s.head_dim);
  t.add(p + "self_attn.sinks", {s.heads});
  t.biased(p + "mlp.router", s.experts, s.hidden);
  add_mxfp4_stack(t, s, p + "mlp.experts.gate_up_proj", 2 * s.expert_width, s.hidden);
  add_mxfp4_stack(t, s, p + "mlp.experts.down_proj", s.hidden, s.expert_width);
}

void add_mamba(Tensors& t, const Shape& s, const std::string& p) {
  const uint64_t values = s.value_heads * s.value_dim;
  const uint64_t channels = values + 2 * s.key_heads * s.key_dim;
  t.matrix(p + "in_proj", values + channels + s.value_heads, s.hidden);
  t.add(p + "conv1d.weight", {channels, 1, kKernel});
  t.add(p + "conv1d.bias", {channels});
  for (const char* name : {"A_log", "D", "dt_bias"}) t.add(p + name, {s.value_heads});
  t.add(p + "norm.weight", {values});
  t.matrix(p + "out_proj", s.hidden, values);
}

void add_nemotron_layer(Tensors& t, const Shape& s, const std::string& p, char kind) {
  t.add(p + "norm.weight", {s.hidden});
  const std::string mixer = p + "mixer.";
  if (kind == 'M') return add_mamba(t, s, mixer);
  if (kind == '*') {
    t.matrix(mixer + "q_proj", s.heads * s.head_dim, s.hidden);
    t.matrix(mixer + "k_proj", s.kv_heads * s.head_dim, s.hidden);
    t.matrix(mixer + "v_proj", s.kv_heads * s.head_dim, s.hidden);
    return t.matrix(mixer + "o_proj", s.hidden, s.heads * s.head_dim);
  }
  t.matrix(mixer + "gate", s.experts, s.hidden);
  t.add(mixer + "gate.e_score_correction_bias", {s.experts}, DType::f32);
  for (uint64_t e = 0; e < s.experts; ++e) {
    const std::string expert = mixer + "experts." + std::to_string(e) + ".";
    t.matrix(expert + "up_proj", s.expert_width, s.latent);
    t.matrix(expert + "down_proj", s.latent, s.expert_width);
  }
  t.matrix(mixer + "shared_experts.up_proj", s.shared_width, s.hidden);
  t.matrix(mixer + "shared_experts.down_proj", s.hidden, s.shared_width);
  t.matrix(mixer + "fc1_latent_proj", s.latent, s.hidden);
  t.matrix(mixer + "fc2_latent_proj", s.hidden, s.latent);
}

Json common_config(const Shape& s) {
  return {{"num_hidden_layers", s.pattern.size()},
          {"hidden_size", s.hidden},
          {"num_attention_heads", s.heads},
          {"num_key_value_heads", s.kv_heads},
          {"head_dim", s.head_dim},
          {"vocab_size", s.vocabulary},
          {"num_experts_per_tok", s.experts_per_token},
          {"attention_bias", false},
          {"tie_word_embeddings", false},
          {"eos_token_id", 0}};
}

Json layer_types(const std::string& pattern) {
  const std::map<char, const char*> names = {
      {'L', "linear_attention"}, {'A', "full_attention"}, {'S', "sliding_attention"}};
  Json types = Json::array();
  for (const char kind : pattern) types.push_back(names.at(kind));
  return types;
}

Json qwen_config(const Shape& s) {
  Json text = common_config(s);
  text.update(
      {{"model_type", "qwen3_5_moe_text"},
       {"hidden_act", "silu"},
       {"rms_norm_eps", 1e-6},
       {"max_position_embeddings", 262144},
       {"attn_output_gate", true},
       {"layer_types", layer_types(s.pattern)},
       {"linear_conv_kernel_dim", kKernel},
       {"linear_num_key_heads", s.key_heads},
       {"linear_num_value_heads", s.value_heads},
       {"linear_key_head_dim", s.key_dim},
       {"linear_value_head_dim", s.value_dim},
       {"num_experts", s.experts},
       {"moe_intermediate_size", s.expert_width},
       {"shared_expert_intermediate_size", s.shared_width},
       {"rope_parameters",
        {{"rope_type", "default"}, {"rope_theta", 10000000}, {"partial_rotary_factor", 0.25}}}});
  return {{"model_type", "qwen3_5_moe"}, {"text_config", std::move(text)}};
}

Json gpt_oss_config(const Shape& s) {
  Json config = common_config(s);
  config.update({{"model_type", "gpt_oss"},
                 {"hidden_act", "silu"},
                 {"attention_bias", true},
                 {"intermediate_size", s.expert_width},
                 {"num_local_experts", s.experts},
                 {"rms_norm_eps", 1e-5},
                 {"max_position_embeddings", 131072},
                 {"layer_types", layer_types(s.pattern)},
                 {"sliding_window", 128},
                 {"swiglu_limit", 7.0},
                 {"rope_theta", 150000},
                 {"rope_scaling",
                  {{"rope_type", "yarn"},
                   {"factor", 32.0},
                   {"original_max_position_embeddings", 4096},
                   {"beta_fast", 32.0},
                   {"beta_slow", 1.0},
                   {"truncate", false}}},
                 {"quantization_config",
                  {{"quant_method", "mxfp4"},
                   {"modules_to_not_convert",
                    {"model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens",
                     "lm_head"}}}}});
  return config;
}

Json nemotron_config(const Shape& s) {
  Json config = common_config(s);
  config.update({{"model_type", "nemotron_h"},
                 {"hybrid_override_pattern", s.pattern},
                 {"layer_norm_epsilon", 1e-5},
                 {"max_position_embeddings", 262144},
                 {"conv_kernel", kKernel},
                 {"mamba_num_heads", s.value_heads},
                 {"mamba_head_dim", s.value_dim},
                 {"n_groups", s.key_heads},
                 {"ssm_state_size", s.key_dim},
                 {"use_conv_bias", true},
                 {"use_bias", false},
                 {"mamba_hidden_act", "silu"},
                 {"mlp_hidden_act", "relu2"},
                 {"intermediate_size", s.shared_width},
                 {"n_routed_experts", s.experts},
                 {"n_shared_experts", 1},
                 {"moe_intermediate_size", s.expert_width},
                 {"moe_shared_expert_intermediate_size", s.shared_width},
                 {"moe_latent_size", s.latent},
                 {"n_group", 1},
                 {"topk_group", 1},
                 {"norm_topk_prob", true},
                 {"routed_scaling_factor", 5.0}});
  return config;
}

}  // namespace

std::vector<std::string> hybrid_shapes() {
  std::vector<std::string> names;
  for (const auto& [name, shape] : kShapes) names.push_back(name);
  return names;
}

SyntheticModel hybrid_model(const SyntheticOptions& options) {
  Shape s = kShapes.at(options.shape);
  const bool qwen = s.family == "qwen3_5_moe", nemotron = s.family == "nemotron_h";
  if (options.format != "bf16") {
    throw Error(options.shape, " is written as published alone; leave --format out");
  }
  if (options.experts != 0) s.experts = options.experts;
  if (options.vocabulary != 0) s.vocabulary = options.vocabulary;
  const std::string pattern = options.pattern.empty() ? s.pattern : options.pattern;
  const std::string kinds = nemotron ? "M*E" : qwen ? "LA" : "SA";
  if (pattern.find_first_not_of(kinds) != std::string::npos) {
    throw Error("--pattern ", pattern, ": the layers of ", options.shape, " are of the kinds ",
                kinds);
  }
  const auto full = kLayers.find(options.shape);
  const bool whole = full == kLayers.end() || !options.pattern.empty();
  size_t layers = whole ? pattern.size() : full->second;
  if (options.layers != 0) layers = options.layers;
  s.pattern.clear();
  for (size_t i = 0; i < layers; ++i) s.pattern += pattern[i % pattern.size()];

  Tensors t;
  const std::string model = qwen ? "model.language_model." : nemotron ? "backbone." : "model.";
  t.matrix(model + (nemotron ? "embeddings" : "embed_tokens"), s.vocabulary, s.hidden);
  for (size_t i = 0; i < layers; ++i) {
    const std::string p = model + "layers." + std::to_string(i) + ".";
    if (qwen) {
      add_qwen_layer(t, s, p, s.pattern[i]);
    } else if (nemotron) {
      add_nemotron_layer(t, s, p, s.pattern[i]);
    } else {
      add_gpt_oss_layer(t, s, p);
    }
  }
  t.add(model + (nemotron ? "norm_f.weight" : "norm.weight"), {s.hidden});
  t.matrix("lm_head", s.vocabulary, s.hidden);
  const Json config = qwen ? qwen_config(s) : nemotron ? nemotron_config(s) : gpt_oss_config(s);
  return {t.take(), json_text(config, 2) + "\n"};
}

}  // namespace sluice
