// Published models by the figures of their config.json (tests/data/configs): they parse, their
// tensors are found under the names and shapes of the published files, and their memory is planned
// without overflow. The checkpoints are headers with nothing behind them: sparse files.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/families.h"
#include "model/measure.h"
#include "model/plan.h"
#include "model/trunk.h"
#include "tests/io/temporary_directory.h"
#include "tests/model/sparse_shard.h"

namespace sluice {
namespace {

struct Published {
  std::string name;
  double parameters = 0;   // as published, of all tensors but those for drafting
  uint64_t context = 0;    // max_position_embeddings
  uint64_t kv_values = 0;  // that the cache keeps of a position in a layer
};

void add_mlp(SparseShard& shard, const std::string& prefix, uint64_t hidden, uint64_t width,
             const std::array<const char*, 3>& names) {
  shard.add(prefix + names[0] + ".weight", {width, hidden});
  shard.add(prefix + names[1] + ".weight", {width, hidden});
  shard.add(prefix + names[2] + ".weight", {hidden, width});
}

constexpr std::array kProjections = {"gate_proj", "up_proj", "down_proj"};
constexpr std::array kNumbered = {"w1", "w3", "w2"};

bool is_deepseek(const ModelConfig& c) { return c.mla.kv_rank > 0; }

void add_latent_attention(SparseShard& shard, const std::string& p, const ModelConfig& c) {
  const MlaConfig& m = c.mla;
  const uint64_t q = uint64_t{c.heads} * (m.nope_dim + m.rope_dim);
  if (m.q_rank == 0) {
    shard.add(p + "q_proj.weight", {q, c.hidden});
  } else {
    shard.add(p + "q_a_proj.weight", {m.q_rank, c.hidden});
    shard.add(p + "q_a_layernorm.weight", {m.q_rank});
    shard.add(p + "q_b_proj.weight", {q, m.q_rank});
  }
  shard.add(p + "kv_a_proj_with_mqa.weight", {m.kv_rank + m.rope_dim, c.hidden});
  shard.add(p + "kv_a_layernorm.weight", {m.kv_rank});
  shard.add(p + "kv_b_proj.weight", {uint64_t{c.heads} * (m.nope_dim + m.value_dim), m.kv_rank});
  shard.add(p + "o_proj.weight", {c.hidden, uint64_t{c.heads} * m.value_dim});
  if (m.index_heads == 0) return;
  shard.add(p + "indexer.wq_b.weight", {uint64_t{m.index_heads} * m.index_dim, m.q_rank});
  shard.add(p + "indexer.wk.weight", {m.index_dim, c.hidden});
  shard.add(p + "indexer.k_norm.weight", {m.index_dim}, "F32");
  shard.add(p + "indexer.k_norm.bias", {m.index_dim}, "F32");
  shard.add(p + "indexer.weights_proj.weight", {m.index_heads, c.hidden});
}

void add_attention(SparseShard& shard, const std::string& p, const ModelConfig& c) {
  if (is_deepseek(c)) return add_latent_attention(shard, p, c);
  const uint64_t q = uint64_t{c.heads} * c.head_dim, kv = uint64_t{c.kv_heads} * c.head_dim;
  shard.add(p + "q_proj.weight", {q, c.hidden});
  shard.add(p + "k_proj.weight", {kv, c.hidden});
  shard.add(p + "v_proj.weight", {kv, c.hidden});
  shard.add(p + "o_proj.weight", {c.hidden, q});
  if (c.model_type == "glm4_moe") {
    shard.add(p + "q_proj.bias", {q});
    shard.add(p + "k_proj.bias", {kv});
    shard.add(p + "v_proj.bias", {kv});
  }
  if (c.model_type == "qwen3_moe") {
    shard.add(p + "q_norm.weight", {c.head_dim});
    shard.add(p + "k_norm.weight", {c.head_dim});
  }
  if (c.model_type == "gpt_oss") {
    shard.add(p + "q_proj.bias", {q});
    shard.add(p + "k_proj.bias", {kv});
    shard.add(p + "v_proj.bias", {kv});
    shard.add(p + "o_proj.bias", {c.hidden});
    shard.add(p + "sinks", {c.heads});
  }
  if (c.model_type == "minimax_m2") {
    shard.add(p + "q_norm.weight", {q});
    shard.add(p + "k_norm.weight", {kv});
  }
}

// MXFP4: blocks of 32 numbers in 16 bytes, and a scale for each.
void add_mxfp4_experts(SparseShard& shard, const std::string& p, const ModelConfig& c) {
  const auto add = [&](const std::string& name, uint64_t rows, uint64_t cols) {
    shard.add(p + name + "_blocks", {c.experts, rows, cols / 32, 16}, "U8");
    shard.add(p + name + "_scales", {c.experts, rows, cols / 32}, "U8");
    shard.add(p + name + "_bias", {c.experts, rows});
  };
  add("gate_up_proj", uint64_t{2} * c.expert_intermediate, c.hidden);
  add("down_proj", c.hidden, c.expert_intermediate);
}

void add_feed_forward(SparseShard& shard, const std::string& layer, bool dense,
                      const ModelConfig& c) {
  const bool numbered = c.model_type == "mixtral" || c.model_type == "minimax_m2";
  const std::string p = layer + (numbered ? "block_sparse_moe." : "mlp.");
  if (dense) return add_mlp(shard, p, c.hidden, c.intermediate, kProjections);
  if (c.model_type == "gpt_oss") {
    shard.add(p + "router.weight", {c.experts, c.hidden});
    shard.add(p + "router.bias", {c.experts});
    return add_mxfp4_experts(shard, p + "experts.", c);
  }
  shard.add(p + "gate.weight", {c.experts, c.hidden});
  for (uint32_t e = 0; e < c.experts; ++e) {
    add_mlp(shard, p + "experts." + std::to_string(e) + ".", c.hidden, c.expert_intermediate,
            numbered ? kNumbered : kProjections);
  }
  if (c.model_type == "minimax_m2") shard.add(p + "e_score_correction_bias", {c.experts}, "F32");
  if (c.model_type == "glm4_moe" || (is_deepseek(c) && c.model_type != "deepseek_v2")) {
    shard.add(p + "gate.e_score_correction_bias", {c.experts}, "F32");
  }
  if (c.model_type == "glm4_moe" || is_deepseek(c)) {
    add_mlp(shard, p + "shared_experts.", c.hidden, c.shared_intermediate, kProjections);
  }
}

void write_checkpoint(const std::string& directory, const ModelConfig& c) {
  SparseShard shard;
  shard.add("model.embed_tokens.weight", {c.vocabulary, c.hidden});
  shard.add("lm_head.weight", {c.vocabulary, c.hidden});
  shard.add("model.norm.weight", {c.hidden});
  for (uint32_t layer = 0; layer < c.layers; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".";
    shard.add(p + "input_layernorm.weight", {c.hidden});
    shard.add(p + "post_attention_layernorm.weight", {c.hidden});
    add_attention(shard, p + "self_attn.", c);
    const bool dense_first = c.model_type == "glm4_moe" || is_deepseek(c);
    const uint32_t dense_layers = c.model_type == "deepseek_v3" || c.model_type == "deepseek_v32"
                                      ? 3
                                  : dense_first ? 1
                                                : 0;
    add_feed_forward(shard, p, c.experts == 0 || layer < dense_layers, c);
  }
  shard.write(directory + "/model.safetensors");
}

// How many numbers a tensor stands for.
uint64_t parameters_of(const TensorInfo& tensor) {
  if (tensor.dtype == DType::u8) {
    return tensor.name.ends_with("_blocks") ? 2 * tensor.size_bytes : 0;
  }
  return tensor.size_bytes / (tensor.dtype == DType::f32 ? 4 : 2);
}

class PublishedConfigs : public testing::TestWithParam<Published> {};

TEST_P(PublishedConfigs, ParseFindTheirTensorsAndPlan) {
  const Published& published = GetParam();
  const TemporaryDirectory directory;
  std::filesystem::copy_file(SLUICE_TEST_DATA "/configs/" + published.name + ".json",
                             directory.file("config.json"));
  const ModelConfig config = read_config(directory.path());
  EXPECT_EQ(config.max_positions, published.context);
  if (config.model_type == "minimax_m2" || config.model_type == "glm4_moe") {
    EXPECT_EQ(config.rope.dimensions, 64u);  // of 128
  }
  write_checkpoint(directory.path().string(), config);

  const Checkpoint checkpoint = Checkpoint::open(directory.path().string());
  const std::vector<ExpertNames> names = expert_names(config);
  std::optional<ExpertSource> experts;
  if (!names.empty()) experts.emplace(checkpoint, names);
  Trunk trunk(checkpoint);
  make_network(config, trunk, experts ? &*experts : nullptr);

  // Every tensor is somebody's, and together they are the model as published.
  uint64_t parameters = 0;
  uint64_t stored_bytes = 0;
  uint64_t expert_bytes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    parameters += parameters_of(tensor);
    stored_bytes += tensor.size_bytes;
    if (!trunk.uses(tensor.name)) {
      EXPECT_THAT(tensor.name, testing::HasSubstr(".experts."));
      expert_bytes += tensor.size_bytes;
    }
  }
  EXPECT_NEAR(static_cast<double>(parameters), published.parameters, published.parameters * 0.005);

  const RunLimits limits = {.chunk = 512, .context = config.max_positions, .threads = 16};
  Arena scratch;
  Activations::layout(scratch, config, limits);
  const KvShape kv = kv_shape(config, limits, kernels::KvFormat::f16);
  uint64_t positions = 0;  // of all layers together
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    const uint64_t window = config.layer_window[layer];
    positions += window == 0 ? limits.context : 2 * window + limits.chunk;
  }
  const uint64_t kv_values = positions * published.kv_values;
  EXPECT_GE(KvCache::bytes(kv), 2 * kv_values);
  EXPECT_LE(KvCache::bytes(kv), 2 * kv_values + 8192);
  const MemoryPlan plan = plan_memory({.process_bytes = 0,
                                       .trunk_bytes = trunk.bytes(),
                                       .kv_bytes = KvCache::bytes(kv),
                                       .scratch_bytes = scratch.bytes(),
                                       .experts = experts ? &*experts : nullptr,
                                       .experts_per_token = config.experts_per_token,
                                       .budget = {.kind = BudgetRequest::Kind::all},
                                       .limits = {.total_bytes = uint64_t{1} << 42,
                                                  .available_bytes = uint64_t{1} << 42,
                                                  .cgroup_limit_bytes = {}}});
  EXPECT_EQ(plan.expert_total_bytes, expert_bytes);
  EXPECT_GE(plan.cache_bytes, expert_bytes);
  EXPECT_GE(plan.total_bytes(), stored_bytes + KvCache::bytes(kv));
  EXPECT_LE(plan.total_bytes(), 1.05 * static_cast<double>(stored_bytes) +
                                    static_cast<double>(KvCache::bytes(kv) + scratch.bytes()));
}

INSTANTIATE_TEST_SUITE_P(Models, PublishedConfigs,
                         testing::Values(Published{"Llama-3.1-8B", 8.03e9, 131072, 2048},
                                         Published{"Mixtral-8x7B", 46.7e9, 32768, 2048},
                                         Published{"Qwen3-30B-A3B", 30.5e9, 40960, 1024},
                                         Published{"Qwen3-235B-A22B", 235.1e9, 40960, 1024},
                                         Published{"GLM-4.5-Air", 106.85e9, 131072, 2048},
                                         Published{"MiniMax-M2", 228.7e9, 196608, 2048},
                                         Published{"DeepSeek-V2-Lite", 15.7e9, 163840, 576},
                                         Published{"DeepSeek-V3", 671.0e9, 163840, 576},
                                         Published{"DeepSeek-V3.2", 671.9e9, 163840, 576 + 128},
                                         Published{"Kimi-K2", 1026.4e9, 131072, 576},
                                         Published{"gpt-oss-20b", 20.91e9, 131072, 1024},
                                         Published{"gpt-oss-120b", 116.83e9, 131072, 1024}),
                         [](const auto& test) {
                           std::string name = test.param.name;
                           for (char& c : name) c = c == '-' || c == '.' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace sluice
