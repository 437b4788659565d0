#include "model/qwen3.h"

#include <array>

namespace sluice {

namespace {

constexpr std::array kPlain = {DType::bf16, DType::f16, DType::f32};

std::string layer_prefix(uint32_t layer) { return "model.layers." + std::to_string(layer); }

kernels::Matrix embedding_table(Trunk& trunk, const std::string& name, const ModelConfig& config) {
  const std::array<uint64_t, 2> shape = {config.vocabulary, config.hidden};
  kernels::Matrix table;
  table.rows = config.vocabulary;
  table.cols = config.hidden;
  table.data = trunk.tensor(name, kPlain, shape);
  table.format = plain_format(trunk.checkpoint().at(name).dtype);
  return table;
}

void norm_tokens(const Run& run, const std::vector<float>& weight, float epsilon, const float* x,
                 float* y) {
  const auto n = static_cast<uint32_t>(weight.size());
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    run.compute.kernels->rms_norm(x + uint64_t{t} * n, weight.data(), n, epsilon,
                                  y + uint64_t{t} * n);
  });
}

}  // namespace

std::vector<ExpertNames> Qwen3::expert_names(const ModelConfig& config) {
  std::vector<ExpertNames> names;
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    if (!config.moe_layer[layer]) continue;
    const std::string mlp = layer_prefix(layer) + ".mlp";
    const uint32_t width = config.expert_intermediate;
    names.push_back({.layer = layer,
                     .experts = config.experts,
                     .per_expert_prefix = mlp + ".experts",
                     .stacked_prefixes = {mlp + ".switch_mlp", mlp + ".experts"},
                     .router = mlp + ".gate",
                     .projections = {{"gate_proj", width, config.hidden},
                                     {"up_proj", width, config.hidden},
                                     {"down_proj", config.hidden, width}}});
  }
  return names;
}

Qwen3::Qwen3(const ModelConfig& config, Trunk& trunk, const ExpertSource* experts)
    : hidden_(config.hidden),
      head_dim_(config.head_dim),
      epsilon_(config.rms_epsilon),
      rope_(config.rope) {
  embeddings_ = embedding_table(trunk, "model.embed_tokens.weight", config);
  layers_.reserve(config.layers);
  uint32_t source_layer = 0;
  for (uint32_t i = 0; i < config.layers; ++i) {
    const std::string prefix = layer_prefix(i);
    Layer& layer = layers_.emplace_back(
        Layer{.input_norm = read_vector(trunk, prefix + ".input_layernorm.weight", hidden_),
              .attention = Attention(trunk, prefix + ".self_attn", config),
              .post_norm = read_vector(trunk, prefix + ".post_attention_layernorm.weight", hidden_),
              .mlp = std::nullopt,
              .moe = std::nullopt});
    if (config.moe_layer[i]) {
      layer.moe.emplace(trunk, prefix + ".mlp", config, *experts, source_layer++);
    } else {
      layer.mlp.emplace(trunk, prefix + ".mlp", config);
    }
  }
  final_norm_ = read_vector(trunk, "model.norm.weight", hidden_);
  head_ = config.tied_embeddings
              ? Linear::tied(embeddings_)
              : Linear(trunk, "lm_head", {.rows = config.vocabulary, .cols = hidden_}, false,
                       config.turboquant.rotated);
}

bool Qwen3::forward(std::span<const uint32_t> ids, Run& run) const {
  Activations& a = *run.activations;
  const uint32_t n = run.tokens * hidden_;
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    const uint64_t row_bytes =
        uint64_t{hidden_} * (embeddings_.format == kernels::Format::f32 ? 4 : 2);
    run.compute.kernels->to_f32(embeddings_.format, embeddings_.data + ids[t] * row_bytes, hidden_,
                                a.hidden + uint64_t{t} * hidden_);
  });
  prepare_rope(rope_, head_dim_, run);

  for (uint32_t i = 0; i < layers_.size(); ++i) {
    if (run.should_stop != nullptr && *run.should_stop && (*run.should_stop)()) return false;
    const Layer& layer = layers_[i];
    norm_tokens(run, layer.input_norm, epsilon_, a.hidden, a.normed);
    layer.attention.forward(a.normed, i, run, a.block);
    run.compute.kernels->add(a.block, n, a.hidden);

    norm_tokens(run, layer.post_norm, epsilon_, a.hidden, a.normed);
    if (layer.moe) {
      layer.moe->forward(a.normed, run, a.block);
    } else {
      layer.mlp->forward(a.normed, run, a.block);
    }
    run.compute.kernels->add(a.block, n, a.hidden);
  }
  norm_tokens(run, final_norm_, epsilon_, a.hidden, a.hidden);
  return true;
}

void Qwen3::logits(const float* hidden, uint32_t n, Run& run, float* logits) const {
  const LinearCall call[] = {{&head_, logits, head_.rows()}};
  apply_linears(run.compute, call, hidden, hidden_, n, run.activations->inputs);
}

}  // namespace sluice
