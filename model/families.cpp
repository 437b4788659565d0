#include "model/families.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "io/error.h"

namespace sluice {

std::span<const Family> families() {
  static const std::array kFamilies = {
      llama_family(),       mistral_family(),     qwen2_family(),        qwen3_family(),
      mixtral_family(),     olmoe_family(),       qwen2_moe_family(),    qwen3_moe_family(),
      glm4_moe_family(),    minimax_m2_family(),  gpt_oss_family(),      deepseek_v2_family(),
      deepseek_v3_family(), kimi_k2_family(),     deepseek_v32_family(), qwen3_next_family(),
      qwen3_5_family(),     qwen3_5_moe_family(), nemotron_h_family(),
  };
  return kFamilies;
}

const Family& find_family(std::string_view model_type, const std::string& path) {
  std::string known;
  for (const Family& family : families()) {
    if (family.model_type == model_type) return family;
    if (family.nested && std::string(family.model_type) + "_text" == model_type) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  throw Error(path, ": model_type is ", quoted_text(model_type), "; known are ", known,
              ". The layers of other families are not written yet (docs/families.md)");
}

std::string families_text() {
  size_t width = 0;
  for (const Family& family : families()) width = std::max(width, family.model_type.size());
  std::string text;
  for (const Family& family : families()) {
    if (!text.empty()) text += "\n";
    text += std::string(family.model_type) +
            std::string(width + 2 - family.model_type.size(), ' ') + std::string(family.models);
  }
  return text;
}

bool may_ignore_tensor(const ModelConfig& config, std::string_view name) {
  // Old exports carry what is computed here, and a copy of tied embeddings.
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  if (config.tied_embeddings && name.starts_with("lm_head.")) return true;
  for (const std::string_view prefix : find_family(config.model_type, "config").ignored) {
    if (name.starts_with(prefix)) return true;
  }
  constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers)) return false;
  name.remove_prefix(kLayers.size());
  uint32_t layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc{} || end == name.data() + name.size() || *end != '.') return false;
  return layer >= config.layers && layer - config.layers < config.draft_layers;
}

ModelConfig named_as_in(const Checkpoint& checkpoint, ModelConfig config) {
  for (const std::string_view prefix : find_family(config.model_type, "config").text_prefixes) {
    const std::string text(prefix);
    if (checkpoint.find(text + "embed_tokens.weight") == nullptr) continue;
    config.names.text = text;
    // MLX puts a name of its own before all others.
    if (text == "language_model.model.") config.names.head = "language_model.lm_head";
    break;
  }
  return config;
}

std::vector<ExpertNames> expert_names(const ModelConfig& config, const Checkpoint& checkpoint) {
  return expert_names(named_as_in(checkpoint, config));
}

std::vector<ExpertNames> expert_names(const ModelConfig& config) {
  return find_family(config.model_type, "config").expert_names(config);
}

std::unique_ptr<const Network> make_network(const ModelConfig& config, Trunk& trunk,
                                            const ExpertSource* experts) {
  return find_family(config.model_type, "config")
      .make_network(named_as_in(trunk.checkpoint(), config), trunk, experts);
}

}  // namespace sluice
