#include "model/config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/error.h"
#include "model/config_reader.h"
#include "model/families.h"
#include "model/json_object.h"

namespace sluice {
namespace {

// absent: of files without such a key; null is none.
uint32_t read_window_width(const JsonObject& json, uint32_t absent) {
  constexpr const char* kKey = "sliding_window";
  if (!json.names(kKey)) return absent;
  return static_cast<uint32_t>(json.count(kKey, {.least = 1, .most = kMaxPositions}).value_or(0));
}

// Which layers the window holds for: those that layer_types names, or else those of which
// slides(layer) is true.
template <class Slides>
void place_window(const JsonObject& json, uint32_t window, Slides slides, ModelConfig& config) {
  const std::vector<std::string> types = json.texts("layer_types", kMaxLayers);
  if (!types.empty() && types.size() != config.layers) {
    throw Error(json.what(), ": layer_types has ", types.size(),
                " entries; expected one per layer of num_hidden_layers, ", config.layers);
  }
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    bool has_window = slides(layer);
    if (!types.empty()) {
      has_window = types[layer] == "sliding_attention";
      const bool known = has_window ? window > 0 : types[layer] == "full_attention";
      if (!known) {
        throw Error(json.what(), ": layer_types[", layer, "] is ", quoted_text(types[layer]),
                    "; expected \"full_attention\"",
                    has_window ? ", as there is no sliding_window" : " or \"sliding_attention\"");
      }
    }
    config.layer_window[layer] = has_window ? window : 0;
  }
}

// MLX names its method in "mode", others in "quant_method"; MLX's affine packing names none.
std::string quantization_method(const JsonObject& block) {
  for (const char* key : {"quant_method", "mode"}) {
    if (block.has(key)) return block.required_text(key);
  }
  return "affine";
}

// Scales that are not for blocks, or for inputs, would be tensors that nobody reads.
void check_fp8(const JsonObject& block) {
  if (!block.has("weight_block_size")) {
    throw Error(block.what(),
                ": FP8 without weight_block_size is not supported; expected scales "
                "for blocks of weights, [128, 128]");
  }
  const std::string format = block.text("fmt").value_or("e4m3");
  if (format != "e4m3") {
    throw Error(block.what(), ": fmt is ", quoted_text(format), "; expected \"e4m3\"");
  }
  const std::string scheme = block.text("activation_scheme").value_or("dynamic");
  if (scheme != "dynamic") {
    throw Error(block.what(), ": activation_scheme is ", quoted_text(scheme),
                "; expected \"dynamic\"");
  }
}

void read_quantization(const JsonObject& json, ModelConfig& config) {
  for (const char* key : {"quantization", "quantization_config"}) {
    const std::optional<JsonObject> block = json.object(key);
    if (!block) continue;
    const std::string method = quantization_method(*block);
    if (method == "fp8") check_fp8(*block);
    // Of these, the tensors say all there is to know.
    if (method == "fp8" || method == "mxfp4" || method == "affine") continue;
    if (method != "turboquant") {
      throw Error(block->what(), ": quantized by the method ", quoted_text(method),
                  "; supported are \"turboquant\", \"fp8\", \"mxfp4\", MLX's \"affine\" and "
                  "unquantized checkpoints");
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

uint32_t required_count(const JsonObject& json, const char* key, uint64_t most) {
  return static_cast<uint32_t>(json.required_count(key, {.least = 1, .most = most}));
}

uint32_t optional_count(const JsonObject& json, const char* key, uint64_t most, uint32_t absent) {
  return static_cast<uint32_t>(json.count(key, {.least = 1, .most = most}).value_or(absent));
}

void read_heads(const JsonObject& json, ModelConfig& config) {
  config.heads = required_count(json, "num_attention_heads", kMaxWidth);
  config.kv_heads = optional_count(json, "num_key_value_heads", kMaxWidth, config.heads);
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
}

void read_window(const JsonObject& json, ModelConfig& config, uint32_t absent) {
  place_window(
      json, read_window_width(json, absent), [](uint32_t) { return true; }, config);
}

void read_alternating_window(const JsonObject& json, ModelConfig& config, uint32_t absent) {
  place_window(
      json, read_window_width(json, absent), [](uint32_t layer) { return layer % 2 == 0; }, config);
}

void read_switched_window(const JsonObject& json, ModelConfig& config, SwitchedWindow kind) {
  constexpr uint32_t kAbsentWindow = 4096;  // as the first models had them, whose files may leave
  constexpr uint64_t kAbsentLayers = 28;    // them out
  const bool switched_on = json.boolean("use_sliding_window").value_or(false);
  const CountRange layers = {.least = 0, .most = kMaxLayers};
  const uint64_t bound = json.count("max_window_layers", layers).value_or(kAbsentLayers);
  const auto slides = [&](uint32_t layer) {
    switch (kind) {
      case SwitchedWindow::from_layer:
        return layer >= bound;
      case SwitchedWindow::alternating_below:
        return layer < bound && layer % 2 == 0;
      case SwitchedWindow::everywhere:
        break;
    }
    return true;
  };
  place_window(json, switched_on ? read_window_width(json, kAbsentWindow) : 0, slides, config);
}

void read_dense_mlp(const JsonObject& json, ModelConfig& config) {
  if (std::ranges::count(config.moe_layer, false) > 0) {
    config.intermediate = required_count(json, "intermediate_size", kMaxWidth);
  }
}

ModelConfig parse_config(std::string_view text, const std::string& path) {
  const nlohmann::json document = parse_json(text, path);
  const JsonObject file(document, path);
  const Family& family = find_family(file.required_text("model_type"), path);
  const std::optional<JsonObject> text_config =
      family.nested ? file.object("text_config") : std::nullopt;
  const JsonObject& json = text_config ? *text_config : file;
  ModelConfig config;
  config.model_type = family.model_type;
  if (!family.text_prefixes.empty()) config.names.text = family.text_prefixes[0];

  config.layers = family.count_layers ? family.count_layers(json)
                                      : required_count(json, "num_hidden_layers", kMaxLayers);
  config.hidden = required_count(json, "hidden_size", kMaxWidth);
  config.vocabulary = required_count(json, "vocab_size", kMaxVocabulary);
  config.max_positions = required_count(json, "max_position_embeddings", kMaxPositions);
  config.rms_epsilon = static_cast<float>(
      json.real("rms_norm_eps", {.least = 0, .most = 1}).value_or(config.rms_epsilon));
  config.tied_embeddings = json.boolean("tie_word_embeddings")
                               .value_or(file.boolean("tie_word_embeddings").value_or(false));
  if (json.text("hidden_act").value_or("silu") != "silu") {
    throw Error(json.what(), ": hidden_act is ", json.found("hidden_act"),
                "; only \"silu\" is supported");
  }
  config.moe_layer.assign(config.layers, false);
  config.layer_window.assign(config.layers, 0);
  config.mixers.assign(config.layers, Mixer::attention);
  family.read_config(json, config);

  const CountRange ids = {.least = 0, .most = config.vocabulary - 1};
  const JsonObject& ends = json.has("eos_token_id") ? json : file;
  for (const uint64_t id : ends.count_or_counts("eos_token_id", ids, kMaxEndTokens)) {
    config.eos_ids.push_back(static_cast<uint32_t>(id));
  }
  read_quantization(file, config);
  if (text_config) read_quantization(json, config);
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
