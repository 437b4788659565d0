// gpt-oss, arXiv:2508.10925: layers of a sliding window and of full attention in turn, a sink in
// every softmax, YaRN; experts with biases, whose clamped gate and up are the rows of one matrix in
// turn, weighted by the softmax of the chosen logits.
#include "io/error.h"
#include "model/config_reader.h"
#include "model/moe.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  if (!json.has("rms_norm_eps")) config.rms_epsilon = 1e-5f;  // this family's default
  config.rope.theta = 150000;
  read_heads(json, config);
  config.attention_bias = json.boolean("attention_bias").value_or(true);
  read_rope(json, config);
  read_alternating_window(json, config, 128);
  read_experts(json, config, "intermediate_size");
  config.expert_gate_up_pairs = true;
  const auto limit = json.real("swiglu_limit", {.least = 0, .most = 1e6});
  if (limit && static_cast<float>(*limit) != kSwigluLimit) {
    throw Error(json.what(), ": swiglu_limit is ", *limit, "; expected ", kSwigluLimit);
  }
}

TransformerVariant variant(const ModelConfig& config) {
  TransformerVariant gpt_oss;
  gpt_oss.attention = {
      .qkv_bias = config.attention_bias, .output_bias = config.attention_bias, .sinks = true};
  gpt_oss.router.score = RouterScore::chosen_softmax;
  gpt_oss.router.weight = "router";
  gpt_oss.router.bias = true;
  gpt_oss.gate_up_pairs = true;
  return gpt_oss;
}

}  // namespace

Family gpt_oss_family() {
  return transformer_family({.model_type = "gpt_oss",
                             .models = "gpt-oss-20b, gpt-oss-120b",
                             .read_config = read,
                             .variant = variant});
}

}  // namespace sluice
