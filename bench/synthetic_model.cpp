#include "bench/synthetic_model.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "bench/synthetic_hybrids.h"
#include "io/error.h"
#include "io/json_text.h"
#include "kernels/kernels.h"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kF8Block = 128;
constexpr uint32_t kGroup = 128;  // of tq2

struct Shape {
  uint32_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary;
  uint32_t experts, experts_per_token, expert_intermediate;
  // DeepSeek-V3 where kv_rank is not 0; heads have head_dim + rope_dim then.
  uint32_t kv_rank = 0, q_rank = 0, rope_dim = 0, dense = 0, groups = 1, groups_per_token = 1;
};

const std::map<std::string, Shape> kShapes = {
    {"qwen3-30b-a3b", {48, 2048, 6144, 32, 4, 128, 151936, 128, 8, 768}},
    {"qwen3-235b-a22b", {94, 4096, 12288, 64, 4, 128, 151936, 128, 8, 1536}},
    {"deepseek-v3", {61, 7168, 18432, 128, 128, 128, 129280, 256, 8, 2048, 512, 1536, 64, 3, 8, 4}},
    // For tests: the same networks in a few megabytes.
    {"tiny", {2, 256, 512, 4, 2, 64, 1024, 8, 2, 128}},
    {"tiny-deepseek", {3, 256, 512, 4, 4, 64, 1024, 8, 2, 128, 128, 128, 32, 1, 4, 2}},
};

// Tensors of one model under construction.
class Builder {
 public:
  Builder(const Shape& shape, const std::string& format) : shape_(shape), format_(format) {
    plain_ = format == "f32" ? DType::f32 : format == "f16" ? DType::f16 : DType::bf16;
  }

  std::vector<TensorInfo> take() { return std::move(tensors_); }

  void add(const std::string& name, DType dtype, std::vector<uint64_t> shape) {
    tensors_.push_back(synthetic_tensor(name, dtype, std::move(shape)));
  }

  void add_plain(const std::string& name, std::vector<uint64_t> shape) {
    add(name, plain_, std::move(shape));
  }

  void add_norm(const std::string& path, uint64_t n) { add_plain(path + ".weight", {n}); }

  void add_projection(const std::string& path, uint64_t rows, uint64_t cols) {
    if (format_ != "f8") return add_plain(path + ".weight", {rows, cols});
    add(path + ".weight", DType::f8_e4m3, {rows, cols});
    add(path + ".weight_scale_inv", DType::f32,
        {(rows + kF8Block - 1) / kF8Block, (cols + kF8Block - 1) / kF8Block});
  }

  void add_experts(const std::string& path) {
    const uint64_t width = shape_.expert_intermediate, hidden = shape_.hidden;
    if (format_ == "tq2") {
      add_stack(path + "switch_mlp.gate_proj", width, hidden);
      add_stack(path + "switch_mlp.up_proj", width, hidden);
      add_stack(path + "switch_mlp.down_proj", hidden, width);
      return;
    }
    for (uint32_t e = 0; e < shape_.experts; ++e) {
      add_mlp(path + "experts." + std::to_string(e) + ".", width);
    }
  }

  void add_mlp(const std::string& path, uint64_t width) {
    add_projection(path + "down_proj", shape_.hidden, width);
    add_projection(path + "gate_proj", width, shape_.hidden);
    add_projection(path + "up_proj", width, shape_.hidden);
  }

 private:
  void add_stack(const std::string& path, uint64_t rows, uint64_t cols) {
    if (cols % kGroup != 0) throw Error("groups of ", kGroup, " do not divide ", cols, " inputs");
    const uint64_t experts = shape_.experts;
    add(path + ".codebook", DType::f16, {4});
    add(path + ".scales", DType::f16, {experts, rows, cols / kGroup});
    add(path + ".signs", DType::f16, {cols});
    add(path + ".weight", DType::u32,
        {experts, rows, kernels::row_words(static_cast<uint32_t>(cols), 4)});
  }

  const Shape& shape_;
  std::string format_;
  DType plain_;
  std::vector<TensorInfo> tensors_;
};

void add_qwen_layer(Builder& builder, const Shape& s, uint32_t layer) {
  const std::string p = "model.layers." + std::to_string(layer) + ".";
  const uint64_t q = uint64_t{s.heads} * s.head_dim;
  const uint64_t kv = uint64_t{s.kv_heads} * s.head_dim;
  builder.add_norm(p + "input_layernorm", s.hidden);
  builder.add_experts(p + "mlp.");
  builder.add_plain(p + "mlp.gate.weight", {s.experts, s.hidden});
  builder.add_norm(p + "post_attention_layernorm", s.hidden);
  builder.add_norm(p + "self_attn.k_norm", s.head_dim);
  builder.add_projection(p + "self_attn.k_proj", kv, s.hidden);
  builder.add_projection(p + "self_attn.o_proj", s.hidden, q);
  builder.add_norm(p + "self_attn.q_norm", s.head_dim);
  builder.add_projection(p + "self_attn.q_proj", q, s.hidden);
  builder.add_projection(p + "self_attn.v_proj", kv, s.hidden);
}

void add_deepseek_layer(Builder& builder, const Shape& s, uint32_t layer) {
  const std::string p = "model.layers." + std::to_string(layer) + ".";
  const uint64_t heads = s.heads;
  builder.add_norm(p + "input_layernorm", s.hidden);
  if (layer < s.dense) {
    builder.add_mlp(p + "mlp.", s.intermediate);
  } else {
    builder.add_experts(p + "mlp.");
    builder.add(p + "mlp.gate.e_score_correction_bias", DType::f32, {s.experts});
    builder.add_plain(p + "mlp.gate.weight", {s.experts, s.hidden});
    builder.add_mlp(p + "mlp.shared_experts.", s.expert_intermediate);
  }
  builder.add_norm(p + "post_attention_layernorm", s.hidden);
  builder.add_norm(p + "self_attn.kv_a_layernorm", s.kv_rank);
  builder.add_projection(p + "self_attn.kv_a_proj_with_mqa", s.kv_rank + s.rope_dim, s.hidden);
  builder.add_projection(p + "self_attn.kv_b_proj", heads * 2 * s.head_dim, s.kv_rank);
  builder.add_projection(p + "self_attn.o_proj", s.hidden, heads * s.head_dim);
  builder.add_norm(p + "self_attn.q_a_layernorm", s.q_rank);
  builder.add_projection(p + "self_attn.q_a_proj", s.q_rank, s.hidden);
  builder.add_projection(p + "self_attn.q_b_proj", heads * (s.head_dim + s.rope_dim), s.q_rank);
}

// What all have, and what the format adds.
Json common_config(const Shape& s, const std::string& format) {
  const std::map<std::string, std::string> names = {{"f16", "float16"}, {"f32", "float32"}};
  Json config = {{"num_hidden_layers", s.layers},
                 {"hidden_size", s.hidden},
                 {"intermediate_size", s.intermediate},
                 {"num_attention_heads", s.heads},
                 {"num_key_value_heads", s.kv_heads},
                 {"vocab_size", s.vocabulary},
                 {"rms_norm_eps", 1e-6},
                 {"hidden_act", "silu"},
                 {"attention_bias", false},
                 {"tie_word_embeddings", false},
                 {"bos_token_id", 0},
                 {"eos_token_id", 0},
                 {"num_experts_per_tok", s.experts_per_token},
                 {"moe_intermediate_size", s.expert_intermediate},
                 {"norm_topk_prob", true},
                 {"torch_dtype", names.count(format) > 0 ? names.at(format) : "bfloat16"}};
  if (format == "f8") {
    config["quantization_config"] = {{"quant_method", "fp8"},
                                     {"fmt", "e4m3"},
                                     {"activation_scheme", "dynamic"},
                                     {"weight_block_size", {kF8Block, kF8Block}}};
  }
  if (format == "tq2") {
    config["quantization"] = {{"mode", "turboquant"}, {"bits", 2}, {"group_size", kGroup}};
  }
  return config;
}

Json qwen_config(const Shape& s, const std::string& format) {
  Json config = common_config(s, format);
  config.update({{"model_type", "qwen3_moe"},
                 {"architectures", {"Qwen3MoeForCausalLM"}},
                 {"head_dim", s.head_dim},
                 {"max_position_embeddings", 40960},
                 {"rope_theta", 1000000.0},
                 {"num_experts", s.experts},
                 {"decoder_sparse_step", 1},
                 {"mlp_only_layers", Json::array()}});
  return config;
}

Json deepseek_config(const Shape& s, const std::string& format) {
  Json config = common_config(s, format);
  config.update({{"model_type", "deepseek_v3"},
                 {"architectures", {"DeepseekV3ForCausalLM"}},
                 {"max_position_embeddings", 163840},
                 {"rope_theta", 10000.0},
                 {"rope_scaling",
                  {{"type", "yarn"},
                   {"factor", 40},
                   {"original_max_position_embeddings", 4096},
                   {"beta_fast", 32},
                   {"beta_slow", 1},
                   {"mscale", 1.0},
                   {"mscale_all_dim", 1.0}}},
                 {"kv_lora_rank", s.kv_rank},
                 {"q_lora_rank", s.q_rank},
                 {"qk_nope_head_dim", s.head_dim},
                 {"qk_rope_head_dim", s.rope_dim},
                 {"v_head_dim", s.head_dim},
                 {"n_routed_experts", s.experts},
                 {"n_shared_experts", 1},
                 {"first_k_dense_replace", s.dense},
                 {"moe_layer_freq", 1},
                 {"n_group", s.groups},
                 {"topk_group", s.groups_per_token},
                 {"routed_scaling_factor", 2.5},
                 {"scoring_func", "sigmoid"},
                 {"topk_method", "noaux_tc"}});
  return config;
}

}  // namespace

bool is_embedding(std::string_view tensor) {
  return tensor.ends_with(".embed_tokens.weight") || tensor == "backbone.embeddings.weight";
}

bool ends_mixer(std::string_view tensor) {
  return tensor.find(".o_proj.") != tensor.npos || tensor.find(".out_proj.") != tensor.npos;
}

TensorInfo synthetic_tensor(const std::string& name, DType dtype, std::vector<uint64_t> shape) {
  TensorInfo tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.size_bytes = dtype_bytes(dtype);
  for (const uint64_t n : shape) tensor.size_bytes *= n;
  tensor.shape = std::move(shape);
  return tensor;
}

std::vector<std::string> synthetic_shapes() {
  std::vector<std::string> names;
  for (const auto& [name, shape] : kShapes) names.push_back(name);
  for (const std::string& name : hybrid_shapes()) names.push_back(name);
  return names;
}

std::vector<std::string> synthetic_formats() { return {"bf16", "f16", "f32", "f8", "tq2"}; }

SyntheticModel synthetic_model(const SyntheticOptions& options) {
  if (kShapes.find(options.shape) == kShapes.end()) return hybrid_model(options);
  Shape shape = kShapes.at(options.shape);
  if (options.layers != 0) shape.layers = options.layers;
  if (options.experts != 0) shape.experts = options.experts;
  if (options.vocabulary != 0) shape.vocabulary = options.vocabulary;
  const bool deepseek = shape.kv_rank > 0;
  if (deepseek && options.dense != 0) shape.dense = options.dense;
  if (shape.dense >= shape.layers) {
    throw Error(shape.layers, " layers, the first ", shape.dense,
                " of them dense, leave none with experts");
  }
  Builder builder(shape, options.format);
  builder.add_plain("model.embed_tokens.weight", {shape.vocabulary, shape.hidden});
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    deepseek ? add_deepseek_layer(builder, shape, layer) : add_qwen_layer(builder, shape, layer);
  }
  builder.add_norm("model.norm", shape.hidden);
  builder.add_plain("lm_head.weight", {shape.vocabulary, shape.hidden});
  const Json config =
      deepseek ? deepseek_config(shape, options.format) : qwen_config(shape, options.format);
  return {builder.take(), json_text(config, 2) + "\n"};
}

}  // namespace sluice
