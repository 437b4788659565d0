// Nemotron-H, arXiv:2504.03624, and Nemotron 3: every layer is one block behind one norm, most of
// them Mamba-2, few attention without positions, the others MLPs or mixtures of experts, with
// squared ReLU; the experts of some work on a narrower projection of the state. What each layer is
// a pattern of letters (or a list of words) says.
//
//   backbone.embeddings.weight, backbone.norm_f.weight, lm_head.weight
//   backbone.layers.<L>.norm.weight
//   backbone.layers.<L>.mixer. of a layer
//     M  in_proj, conv1d, dt_bias, A_log, D, norm, out_proj              model/mamba2.h
//     *  {q,k,v,o}_proj                                                  model/attention.h
//     -  {up,down}_proj                                                  model/mlp.h
//     E  gate, experts.<E>.{up,down}_proj, shared_experts, fc{1,2}_latent_proj
#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "io/error.h"
#include "model/attention.h"
#include "model/config_reader.h"
#include "model/decoder.h"
#include "model/families.h"
#include "model/mamba2.h"
#include "model/mlp.h"
#include "model/moe.h"

namespace sluice {
namespace {

constexpr const char* kPattern = "hybrid_override_pattern";
constexpr const char* kTypes = "layers_block_type";

// A letter for each layer, from the pattern, or from the list of words that newer files have.
std::string read_pattern(const JsonObject& json) {
  if (!json.has(kTypes)) return json.required_text(kPattern);
  constexpr std::array kWords = {std::pair("mamba", 'M'), std::pair("attention", '*'),
                                 std::pair("full_attention", '*'), std::pair("mlp", '-'),
                                 std::pair("moe", 'E')};
  std::string pattern;
  for (const std::string& type : json.texts(kTypes, kMaxLayers)) {
    const auto word = std::find_if(kWords.begin(), kWords.end(),
                                   [&](const auto& known) { return known.first == type; });
    if (word == kWords.end()) {
      throw Error(json.what(), ": ", kTypes, "[", pattern.size(), "] is ", quoted_text(type),
                  "; expected mamba, attention, mlp or moe");
    }
    pattern += word->second;
  }
  if (json.has(kPattern) && json.required_text(kPattern) != pattern) {
    throw Error(json.what(), ": ", kPattern, " and ", kTypes, " name different layers");
  }
  return pattern;
}

uint32_t count_layers(const JsonObject& json) {
  const std::string pattern = read_pattern(json);
  if (pattern.empty() || pattern.size() > kMaxLayers) {
    throw Error(json.what(), ": ", kPattern, " names ", pattern.size(), " layers; expected 1 to ",
                kMaxLayers);
  }
  const auto layers = static_cast<uint32_t>(pattern.size());
  if (optional_count(json, "num_hidden_layers", kMaxLayers, layers) != layers) {
    throw Error(json.what(), ": num_hidden_layers is ", json.found("num_hidden_layers"), " but ",
                kPattern, " names ", layers, " layers; expected the same");
  }
  return layers;
}

// What each layer is.
void place_blocks(const std::string& pattern, const JsonObject& json, ModelConfig& config) {
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    const char letter = pattern[layer];
    if (letter != 'M' && letter != '*' && letter != '-' && letter != 'E') {
      throw Error(json.what(), ": ", kPattern, " has ", quoted_text(std::string(1, letter)),
                  " for layer ", layer,
                  "; expected M (Mamba-2), * (attention), - (MLP) or E (experts)");
    }
    config.moe_layer[layer] = letter == 'E';
    config.mixers[layer] = letter == 'M'   ? Mixer::recurrent
                           : letter == '*' ? Mixer::attention
                                           : Mixer::none;
  }
}

void read_mamba(const JsonObject& json, ModelConfig& config) {
  RecurrentConfig& mamba = config.recurrent;
  mamba.kernel = required_count(json, "conv_kernel", kMaxWidth);
  mamba.key_heads = required_count(json, "n_groups", kMaxWidth);
  mamba.key_dim = required_count(json, "ssm_state_size", kMaxWidth);
  mamba.value_heads = required_count(json, "mamba_num_heads", kMaxWidth);
  mamba.value_dim = required_count(json, "mamba_head_dim", kMaxWidth);
  check_recurrent(json, mamba);
  const std::vector<double> limits =
      json.reals("time_step_limit", {.least = 0, .most = kNoLimit}, 2);
  if (limits.empty()) return;
  if (limits.size() != 2 || limits[1] <= limits[0]) {
    throw Error(json.what(), ": time_step_limit is ", json.found("time_step_limit"),
                "; expected a least and a greatest time step");
  }
  mamba.least_step = limits[0];
  mamba.most_step = limits[1];
}

void read_mixture(const JsonObject& json, ModelConfig& config) {
  const std::vector<bool> layers = config.moe_layer;
  read_experts(json, config, "moe_intermediate_size");
  config.moe_layer = layers;  // not all, as that says
  read_normalize(json, config, true);
  read_router_groups(json, config);
  if (json.count("n_shared_experts", {.least = 0, .most = 1}).value_or(1) == 1) {
    config.shared_intermediate =
        required_count(json, "moe_shared_expert_intermediate_size", kMaxWidth);
  }
  config.expert_latent = optional_count(json, "moe_latent_size", kMaxWidth, 0);
}

void check_fixed(const JsonObject& json) {
  for (const auto& [key, value] :
       {std::pair("mlp_hidden_act", "relu2"), std::pair("mamba_hidden_act", "silu")}) {
    if (json.text(key).value_or(value) == value) continue;
    throw Error(json.what(), ": ", key, " is ", json.found(key), "; only \"", value,
                "\" is supported");
  }
  if (json.has("sliding_window")) {
    throw Error(json.what(), ": sliding_window is ", json.found("sliding_window"),
                "; windows are not known of this model_type, expected null");
  }
}

void read(const JsonObject& json, ModelConfig& config) {
  check_fixed(json);
  config.rms_epsilon =
      static_cast<float>(json.real("layer_norm_epsilon", {.least = 0, .most = 1}).value_or(1e-5));
  config.mlp_relu_squared = true;
  config.mlp_bias = json.boolean("mlp_bias").value_or(false);
  config.attention_bias = json.boolean("attention_bias").value_or(false);
  config.projection_bias = json.boolean("use_bias").value_or(false);
  config.convolution_bias = json.boolean("use_conv_bias").value_or(true);
  read_heads(json, config);
  config.rope.dimensions = config.head_dim;  // of no layer, as attention has no positions
  const std::string pattern = read_pattern(json);
  place_blocks(pattern, json, config);
  if (pattern.find('-') != pattern.npos) {
    config.intermediate = required_count(json, "intermediate_size", kMaxWidth);
  }
  if (std::ranges::count(config.mixers, Mixer::recurrent) > 0) read_mamba(json, config);
  if (std::ranges::count(config.moe_layer, true) > 0) read_mixture(json, config);
}

std::string mixer_prefix(uint32_t layer) {
  return "backbone.layers." + std::to_string(layer) + ".mixer";
}

const RouterVariant& router_variant() {
  static const RouterVariant kRouter = {.score = RouterScore::sigmoid,
                                        .correction = "gate.e_score_correction_bias"};
  return kRouter;
}

std::vector<ExpertNames> names_of_experts(const ModelConfig& config) {
  std::vector<ExpertNames> all;
  const uint32_t inputs = config.expert_width(), width = config.expert_intermediate;
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    if (!config.moe_layer[layer]) continue;
    const std::string block = mixer_prefix(layer);
    ExpertNames& names = all.emplace_back();
    names.layer = layer;
    names.experts = config.experts;
    names.per_expert_prefix = block + ".experts";
    names.stacked_prefixes = {block + ".switch_mlp", block + ".experts"};
    names.router = block + "." + router_variant().weight;
    names.router_correction = block + "." + router_variant().correction;
    names.projections = {{"up_proj", width, inputs}, {"down_proj", inputs, width}};
    names.plain_stack = ExpertNames::PlainStack::rows;
  }
  return all;
}

std::unique_ptr<const Block> make_moe(const std::string& prefix, const ModelConfig& config,
                                      Trunk& trunk, const ExpertSource& experts,
                                      uint32_t source_layer) {
  Router router(trunk, prefix, router_variant(), config);
  std::optional<SharedExpert> shared;
  if (config.shared_intermediate > 0) {
    shared.emplace(trunk, prefix, SharedExpertVariant{.name = "shared_experts", .gate = {}},
                   config);
  }
  ExpertForm form = {.activation = ExpertActivation::relu_squared};
  if (const uint32_t latent = config.expert_latent; latent > 0) {
    const auto linear = [&](const char* name, uint32_t rows, uint32_t cols) {
      return Linear(trunk, prefix + "." + name, {.rows = rows, .cols = cols}, config.mlp_bias,
                    config.turboquant.rotated);
    };
    form.latent = {.in = linear("fc1_latent_proj", latent, config.hidden),
                   .out = linear("fc2_latent_proj", config.hidden, latent)};
  }
  return std::make_unique<Moe>(trunk, std::move(router), std::move(shared), config, experts,
                               source_layer, std::move(form));
}

std::unique_ptr<const Network> make_hybrid(const ModelConfig& config, Trunk& trunk,
                                           const ExpertSource* experts) {
  const AttentionVariant attention = {
      .qkv_bias = config.attention_bias, .output_bias = config.attention_bias, .rope = false};
  const Mamba2Variant mamba = {.projection_bias = config.projection_bias,
                               .convolution_bias = config.convolution_bias};
  DecoderParts parts;
  parts.hidden = config.hidden;
  parts.epsilon = config.rms_epsilon;
  parts.rope = config.rope;
  parts.embeddings = Embeddings(trunk, "backbone.embeddings", config);
  uint32_t source_layer = 0, kv_layer = 0, state_layer = 0;
  for (uint32_t i = 0; i < config.layers; ++i) {
    const std::string prefix = mixer_prefix(i);
    std::unique_ptr<const Block> block;
    if (config.mixers[i] == Mixer::recurrent) {
      block = std::make_unique<Mamba2>(trunk, prefix, mamba, state_layer++, config);
    } else if (config.mixers[i] == Mixer::attention) {
      block = std::make_unique<Attention>(trunk, prefix, attention, kv_layer++, 0, config);
    } else if (config.moe_layer[i]) {
      block = make_moe(prefix, config, trunk, *experts, source_layer++);
    } else {
      block = std::make_unique<Mlp>(trunk, prefix, config.intermediate, config);
    }
    std::vector<float> norm =
        read_vector(trunk, "backbone.layers." + std::to_string(i) + ".norm.weight", config.hidden);
    parts.layers.emplace_back().push_back({std::move(norm), std::move(block)});
  }
  parts.final_norm = read_vector(trunk, "backbone.norm_f.weight", config.hidden);
  parts.head = config.tied_embeddings
                   ? parts.embeddings.as_head()
                   : Linear(trunk, "lm_head", {.rows = config.vocabulary, .cols = config.hidden},
                            false, config.turboquant.rotated);
  return std::make_unique<Decoder>(std::move(parts));
}

}  // namespace

Family nemotron_h_family() {
  return {.model_type = "nemotron_h",
          .models = "Nemotron-H, Nemotron Nano 2, Nemotron 3 Nano and Super",
          .read_config = read,
          .expert_names = names_of_experts,
          .make_network = make_hybrid,
          .ignored = {"mtp."},
          .count_layers = count_layers};
}

}  // namespace sluice
