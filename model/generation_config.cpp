#include <nlohmann/json.hpp>

#include "model/config.h"
#include "model/json_object.h"

namespace sluice {
namespace {

std::optional<float> optional_float(const JsonObject& json, const char* key, RealRange range) {
  const std::optional<double> value = json.real(key, range);
  if (!value) return std::nullopt;
  return static_cast<float>(*value);
}

}  // namespace

GenerationConfig parse_generation_config(std::string_view text, const std::string& path) {
  const nlohmann::json document = parse_json(text, path);
  const JsonObject json(document, path);
  GenerationConfig config;
  config.temperature = optional_float(json, "temperature", {.least = 0, .most = 1000});
  if (const auto top_k = json.count("top_k", {.least = 0, .most = kMaxVocabulary})) {
    config.top_k = static_cast<uint32_t>(*top_k);
  }
  config.top_p = optional_float(json, "top_p", {.least = 0, .most = 1});
  config.min_p = optional_float(json, "min_p", {.least = 0, .most = 1});
  config.repetition_penalty =
      optional_float(json, "repetition_penalty", {.least = 0.001, .most = 1000});
  config.do_sample = json.boolean("do_sample");
  const CountRange ids = {.least = 0, .most = kMaxVocabulary - 1};
  for (const uint64_t id : json.count_or_counts("eos_token_id", ids, kMaxEndTokens)) {
    config.eos_ids.push_back(static_cast<uint32_t>(id));
  }
  return config;
}

GenerationConfig read_generation_config(const std::filesystem::path& model_directory) {
  const std::filesystem::path path = model_directory / "generation_config.json";
  const std::optional<std::string> text = read_config_text(path);
  return text ? parse_generation_config(*text, path.string()) : GenerationConfig{};
}

}  // namespace sluice
