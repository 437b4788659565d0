#include "model/config.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/error.h"
#include "model/json_object.h"

namespace sluice {
namespace {

struct Family {
  std::string_view model_type;
  bool experts;
};
constexpr std::array kFamilies = {Family{"qwen3", false}, Family{"qwen3_moe", true}};

const Family& find_family(const std::string& model_type, const std::string& path) {
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.model_type == model_type) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  throw Error(path, ": model_type is ", quoted_text(model_type), "; known are: ", known);
}

// A count of something that must exist.
uint32_t required(const JsonObject& json, const char* key, uint64_t most) {
  return static_cast<uint32_t>(json.required_count(key, {.least = 1, .most = most}));
}

void read_attention(const JsonObject& json, ModelConfig& config) {
  config.heads = required(json, "num_attention_heads", kMaxWidth);
  config.kv_heads = static_cast<uint32_t>(
      json.count("num_key_value_heads", {.least = 1, .most = kMaxWidth}).value_or(config.heads));
  if (config.heads % config.kv_heads != 0) {
    throw Error(json.what(), ": num_key_value_heads is ", config.kv_heads,
                "; expected a divisor of num_attention_heads, ", config.heads);
  }
  const auto head_dim = json.count("head_dim", {.least = 1, .most = kMaxWidth});
  if (!head_dim && config.hidden % config.heads != 0) {
    throw Error(json.what(), ": head_dim is missing, and hidden_size ", config.hidden,
                " is no multiple of num_attention_heads ", config.heads);
  }
  config.head_dim = static_cast<uint32_t>(head_dim.value_or(config.hidden / config.heads));
  if (config.head_dim % 2 != 0) {
    throw Error(json.what(), ": head_dim is ", config.head_dim,
                "; expected an even number, for rotary embeddings turn pairs");
  }
  if (uint64_t{config.heads} * config.head_dim > kMaxWidth) {
    throw Error(json.what(), ": num_attention_heads ", config.heads, " times head_dim ",
                config.head_dim, " is over the limit of ", kMaxWidth);
  }
  config.attention_bias = json.boolean("attention_bias").value_or(false);
}

void refuse_partial_rotary(const JsonObject& json) {
  const auto factor = json.real("partial_rotary_factor", {.least = 0, .most = 1});
  if (factor && *factor != 1.0) {
    throw Error(json.what(), ": partial_rotary_factor is ", *factor,
                "; only 1 is supported for this model_type");
  }
}

// Two generations of keys: rope_theta beside rope_scaling {type | rope_type, ...}, and
// rope_parameters {rope_type, rope_theta, ...}. Newer writers may fill in both.
void read_rope(const JsonObject& json, ModelConfig& config) {
  constexpr RealRange kThetas = {.least = 1, .most = 1e15};
  refuse_partial_rotary(json);
  config.rope.theta = json.real("rope_theta", kThetas).value_or(config.rope.theta);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const std::optional<JsonObject> rope = json.object(key);
    if (!rope) continue;
    config.rope.theta = rope->real("rope_theta", kThetas).value_or(config.rope.theta);
    refuse_partial_rotary(*rope);
    const std::optional<std::string> newer = rope->text("rope_type");
    const std::optional<std::string> older = rope->text("type");
    if (!newer && !older) throw Error(rope->what(), ": rope_type is missing; expected a string");
    config.rope.type = newer ? *newer : *older;
    if (config.rope.type != "default") {
      throw Error(rope->what(), ": rope_type is ", rope->found(newer ? "rope_type" : "type"),
                  "; only \"default\" is supported");
    }
  }
}

// A window that no position can reach beyond changes nothing and is let pass.
void read_sliding_window(const JsonObject& json, ModelConfig& config) {
  if (json.boolean("use_sliding_window").value_or(false)) {
    const auto window = json.count("sliding_window", {.least = 1, .most = kMaxPositions});
    if (window) config.sliding_window = static_cast<uint32_t>(*window);
  }
  if (config.sliding_window && *config.sliding_window < config.max_positions) {
    throw Error(json.what(), ": sliding_window is ", *config.sliding_window,
                " with use_sliding_window; only full attention (up to max_position_embeddings, ",
                config.max_positions, ") is supported");
  }
  const std::vector<std::string> types = json.texts("layer_types", kMaxLayers);
  if (!types.empty() && types.size() != config.layers) {
    throw Error(json.what(), ": layer_types has ", types.size(),
                " entries; expected one per layer of num_hidden_layers, ", config.layers);
  }
  for (size_t layer = 0; layer < types.size(); ++layer) {
    const bool full = types[layer] == "full_attention" ||
                      (types[layer] == "sliding_attention" && config.sliding_window);
    if (!full) {
      throw Error(json.what(), ": layer_types[", layer, "] is ", quoted_text(types[layer]),
                  "; only \"full_attention\" is supported");
    }
  }
}

// Writers of different years name the count of experts differently; the same number twice is fine.
uint32_t read_expert_count(const JsonObject& json) {
  constexpr std::array kKeys = {"num_experts", "num_local_experts", "n_routed_experts"};
  uint32_t experts = 0;
  const char* found = nullptr;
  for (const char* key : kKeys) {
    const auto count = json.count(key, {.least = 1, .most = kMaxExperts});
    if (!count) continue;
    if (found != nullptr && *count != experts) {
      throw Error(json.what(), ": ", found, " is ", experts, " but ", key, " is ", *count,
                  "; expected one number of experts");
    }
    found = key;
    experts = static_cast<uint32_t>(*count);
  }
  if (found == nullptr) {
    throw Error(json.what(), ": num_experts (or num_local_experts, n_routed_experts) is missing");
  }
  return experts;
}

void read_experts(const JsonObject& json, ModelConfig& config) {
  config.experts = read_expert_count(json);
  config.experts_per_token = required(json, "num_experts_per_tok", config.experts);
  config.expert_intermediate = required(json, "moe_intermediate_size", kMaxWidth);
  config.normalize_top_k = json.boolean("norm_topk_prob").value_or(false);

  // Every step-th layer has experts, counted from one, but for those listed as dense.
  const uint64_t step =
      json.count("decoder_sparse_step", {.least = 1, .most = kMaxLayers}).value_or(1);
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    config.moe_layer[layer] = (layer + 1) % step == 0;
  }
  const CountRange layers = {.least = 0, .most = config.layers - 1};
  for (const uint64_t layer : json.counts("mlp_only_layers", layers, kMaxLayers)) {
    config.moe_layer[layer] = false;
  }
  if (std::ranges::count(config.moe_layer, true) == 0) {
    throw Error(json.what(), ": decoder_sparse_step and mlp_only_layers leave no layer with ",
                "experts; expected at least one for model_type \"", config.model_type, "\"");
  }
}

// MLX names its method in "mode", others in "quant_method"; MLX's affine packing names none.
std::string quantization_method(const JsonObject& block) {
  for (const char* key : {"quant_method", "mode"}) {
    if (block.has(key)) return block.required_text(key);
  }
  return "affine";
}

void read_quantization(const JsonObject& json, ModelConfig& config) {
  for (const char* key : {"quantization", "quantization_config"}) {
    const std::optional<JsonObject> block = json.object(key);
    if (!block) continue;
    const std::string method = quantization_method(*block);
    if (method != "turboquant") {
      throw Error(block->what(), ": quantized by the method ", quoted_text(method),
                  "; supported are \"turboquant\" and unquantized checkpoints");
    }
    config.turboquant.present = true;
    const std::string rotation = block->text("rotation").value_or("hadamard");
    if (rotation != "hadamard" && rotation != "none") {
      throw Error(block->what(), ": rotation is ", block->found("rotation"),
                  "; expected \"hadamard\" or \"none\"");
    }
    config.turboquant.rotated = rotation == "hadamard";
    config.turboquant.qjl = block->boolean("use_qjl").value_or(false);
    for (const char* unsupported : {"use_qjl", "fuse_rotations"}) {
      if (block->boolean(unsupported).value_or(false)) {
        throw Error(block->what(), ": ", unsupported, " is true; not supported, expected false");
      }
    }
  }
}

}  // namespace

ModelConfig parse_config(std::string_view text, const std::string& path) {
  const nlohmann::json document = parse_json(text, path);
  const JsonObject json(document, path);
  ModelConfig config;
  config.model_type = json.required_text("model_type");
  const Family& family = find_family(config.model_type, path);

  config.layers = required(json, "num_hidden_layers", kMaxLayers);
  config.hidden = required(json, "hidden_size", kMaxWidth);
  config.vocabulary = required(json, "vocab_size", kMaxVocabulary);
  config.max_positions = required(json, "max_position_embeddings", kMaxPositions);
  config.rms_epsilon = static_cast<float>(
      json.real("rms_norm_eps", {.least = 0, .most = 1}).value_or(config.rms_epsilon));
  config.tied_embeddings = json.boolean("tie_word_embeddings").value_or(false);
  config.activation = json.text("hidden_act").value_or(config.activation);
  if (config.activation != "silu") {
    throw Error(path, ": hidden_act is ", json.found("hidden_act"), "; only \"silu\" is supported");
  }
  read_attention(json, config);
  read_rope(json, config);
  read_sliding_window(json, config);

  config.moe_layer.assign(config.layers, false);
  if (family.experts) read_experts(json, config);
  if (std::ranges::count(config.moe_layer, false) > 0) {
    config.intermediate = required(json, "intermediate_size", kMaxWidth);
  }
  const CountRange ids = {.least = 0, .most = config.vocabulary - 1};
  for (const uint64_t id : json.count_or_counts("eos_token_id", ids, kMaxEndTokens)) {
    config.eos_ids.push_back(static_cast<uint32_t>(id));
  }
  read_quantization(json, config);
  return config;
}

ModelConfig read_config(const std::filesystem::path& model_directory) {
  const std::filesystem::path path = model_directory / "config.json";
  const std::optional<std::string> text = read_config_text(path);
  if (!text) {
    throw Error(path.string(),
                ": no such file; expected a model directory with config.json, "
                "tokenizer.json and *.safetensors");
  }
  return parse_config(*text, path.string());
}

}  // namespace sluice
