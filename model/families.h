// The families of models that are known, by config.json's model_type.
//
// A family says which keys of config.json it reads, what its experts are called, which network its
// layers make, and which tensors of published checkpoints are none of its business. Each is defined
// in the file of its name; a new one is that file, a line below, a line in families.cpp and a
// golden test. Threads: any.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/json_object.h"
#include "model/network.h"

namespace sluice {

struct Family {
  std::string_view model_type;  // "qwen3_moe"
  std::string_view models;      // "Qwen3-30B-A3B, Qwen3-235B-A22B": for --list-families
  // Reads what the family's models have beyond what parse_config() reads for all, with the readers
  // of model/config_reader.h. Throws Error.
  std::function<void(const JsonObject& json, ModelConfig& config)> read_config;
  // The experts of every MoE layer; empty for a dense model.
  std::function<std::vector<ExpertNames>(const ModelConfig& config)> expert_names;
  // As make_network() of model/network.h.
  std::function<std::unique_ptr<const Network>(const ModelConfig& config, Trunk& trunk,
                                               const ExpertSource* experts)>
      make_network;
  // Whether config.json may have the text model's keys in text_config.
  bool nested = false;
  // What the text model's tensors may start with, as published first; none: "model.".
  std::vector<std::string_view> text_prefixes = {};
  // What tensors start with that are not of the text model.
  std::vector<std::string_view> ignored = {};
  // The number of layers, 1..kMaxLayers, where that is not num_hidden_layers. Throws Error.
  std::function<uint32_t(const JsonObject& json)> count_layers = {};
};

// In the order of --list-families.
std::span<const Family> families();
// By model_type, or by what a nested family calls its text model alone ("<model_type>_text").
// Throws Error naming path (of config.json), the model_type and all that are known.
const Family& find_family(std::string_view model_type, const std::string& path);
// One line a family: its model_type, and models of it.
std::string families_text();

// config with the names that this checkpoint uses.
ModelConfig named_as_in(const Checkpoint& checkpoint, ModelConfig config);

// Whether a tensor of a checkpoint may stay unread without changing the result: what is computed
// here, a copy of tied embeddings, layers for drafting, what
// sees images.
bool may_ignore_tensor(const ModelConfig& config, std::string_view name);

Family llama_family();
Family mistral_family();
Family qwen2_family();
Family qwen3_family();
Family mixtral_family();
Family olmoe_family();
Family qwen2_moe_family();
Family qwen3_moe_family();
Family glm4_moe_family();
Family minimax_m2_family();
Family gpt_oss_family();
Family deepseek_v2_family();
Family deepseek_v3_family();
Family kimi_k2_family();
Family deepseek_v32_family();
Family qwen3_next_family();
Family qwen3_5_family();
Family qwen3_5_moe_family();
Family nemotron_h_family();

}  // namespace sluice
