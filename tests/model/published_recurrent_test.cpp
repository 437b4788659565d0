// Published models with recurrent layers, by the figures of their config.json (tests/data/configs):
// they parse, every tensor of the published names and shapes is somebody's, and their memory is
// planned without overflow, the state of constant size with it. See published_configs_test.cpp.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "model/families.h"
#include "model/measure.h"
#include "tests/io/temporary_directory.h"
#include "tests/model/sparse_shard.h"

namespace sluice {
namespace {

struct Published {
  std::string name;
  double parameters = 0;      // of the text model, as published
  uint32_t attention = 0;     // layers with a KV cache
  uint64_t state_floats = 0;  // of a recurrent layer: heads and convolution
  uint32_t recurrent = 0;     // layers with a state
};

void add_attention(SparseShard& shard, const std::string& p, const ModelConfig& c) {
  const uint64_t q = uint64_t{c.heads} * c.head_dim, kv = uint64_t{c.kv_heads} * c.head_dim;
  shard.add(p + "q_proj.weight", {c.attention_gate ? 2 * q : q, c.hidden});
  shard.add(p + "k_proj.weight", {kv, c.hidden});
  shard.add(p + "v_proj.weight", {kv, c.hidden});
  shard.add(p + "o_proj.weight", {c.hidden, q});
  if (!c.attention_gate) return;
  shard.add(p + "q_norm.weight", {c.head_dim});
  shard.add(p + "k_norm.weight", {c.head_dim});
}

void add_qwen(SparseShard& shard, const ModelConfig& c) {
  const RecurrentConfig& r = c.recurrent;
  const std::string model = "model.language_model.";
  shard.add(model + "embed_tokens.weight", {c.vocabulary, c.hidden});
  shard.add(model + "norm.weight", {c.hidden});
  shard.add("lm_head.weight", {c.vocabulary, c.hidden});
  shard.add("model.visual.blocks.0.attn.qkv.weight", {3, 16});
  shard.add("mtp.fc.weight", {16, 32});
  for (uint32_t layer = 0; layer < c.layers; ++layer) {
    const std::string p = model + "layers." + std::to_string(layer) + ".";
    shard.add(p + "input_layernorm.weight", {c.hidden});
    shard.add(p + "post_attention_layernorm.weight", {c.hidden});
    if ((layer + 1) % 4 == 0) {
      add_attention(shard, p + "self_attn.", c);
    } else {
      const std::string linear = p + "linear_attn.";
      shard.add(linear + "in_proj_qkv.weight", {r.channels(), c.hidden});
      shard.add(linear + "in_proj_z.weight", {r.value_width(), c.hidden});
      shard.add(linear + "in_proj_b.weight", {r.value_heads, c.hidden});
      shard.add(linear + "in_proj_a.weight", {r.value_heads, c.hidden});
      shard.add(linear + "conv1d.weight", {r.channels(), 1, 4});
      shard.add(linear + "A_log", {r.value_heads}, "F32");
      shard.add(linear + "dt_bias", {r.value_heads});
      shard.add(linear + "norm.weight", {128}, "F32");
      shard.add(linear + "out_proj.weight", {c.hidden, r.value_width()});
    }
    shard.add(p + "mlp.gate.weight", {256, c.hidden});
    shard.add(p + "mlp.experts.gate_up_proj", {256, 2 * c.expert_intermediate, c.hidden});
    shard.add(p + "mlp.experts.down_proj", {256, c.hidden, c.expert_intermediate});
    shard.add(p + "mlp.shared_expert.gate_proj.weight", {c.shared_intermediate, c.hidden});
    shard.add(p + "mlp.shared_expert.up_proj.weight", {c.shared_intermediate, c.hidden});
    shard.add(p + "mlp.shared_expert.down_proj.weight", {c.hidden, c.shared_intermediate});
    shard.add(p + "mlp.shared_expert_gate.weight", {1, c.hidden});
  }
}

void add_nemotron(SparseShard& shard, const ModelConfig& c) {
  shard.add("backbone.embeddings.weight", {c.vocabulary, c.hidden});
  shard.add("backbone.norm_f.weight", {c.hidden});
  shard.add("lm_head.weight", {c.vocabulary, c.hidden});
  shard.add("mtp.layers.0.norm.weight", {c.hidden});
  for (uint32_t layer = 0; layer < c.layers; ++layer) {
    const std::string p = "backbone.layers." + std::to_string(layer) + ".";
    const std::string mixer = p + "mixer.";
    shard.add(p + "norm.weight", {c.hidden});
    if (c.mixers[layer] == Mixer::attention) {
      add_attention(shard, mixer, c);
    } else if (c.mixers[layer] == Mixer::recurrent) {
      shard.add(mixer + "in_proj.weight", {18560, c.hidden});  // 2 * 8192 + 2 * 8 * 128 + 128
      shard.add(mixer + "conv1d.weight", {10240, 1, 4});
      shard.add(mixer + "conv1d.bias", {10240});
      for (const char* name : {"A_log", "D", "dt_bias"}) shard.add(mixer + name, {128});
      shard.add(mixer + "norm.weight", {8192});
      shard.add(mixer + "out_proj.weight", {c.hidden, 8192});
    } else {
      shard.add(mixer + "gate.weight", {512, c.hidden});
      shard.add(mixer + "gate.e_score_correction_bias", {512}, "F32");
      for (uint32_t e = 0; e < 512; ++e) {
        const std::string expert = mixer + "experts." + std::to_string(e) + ".";
        shard.add(expert + "up_proj.weight", {2688, 1024});
        shard.add(expert + "down_proj.weight", {1024, 2688});
      }
      shard.add(mixer + "shared_experts.up_proj.weight", {5376, c.hidden});
      shard.add(mixer + "shared_experts.down_proj.weight", {c.hidden, 5376});
      shard.add(mixer + "fc1_latent_proj.weight", {1024, c.hidden});
      shard.add(mixer + "fc2_latent_proj.weight", {c.hidden, 1024});
    }
  }
}

class PublishedRecurrent : public testing::TestWithParam<Published> {};

TEST_P(PublishedRecurrent, ParseFindTheirTensorsAndPlan) {
  const Published& published = GetParam();
  const TemporaryDirectory directory;
  std::filesystem::copy_file(SLUICE_TEST_DATA "/configs/" + published.name + ".json",
                             directory.file("config.json"));
  const ModelConfig config = read_config(directory.path());
  SparseShard shard;
  config.model_type == "nemotron_h" ? add_nemotron(shard, config) : add_qwen(shard, config);
  shard.write(directory.file("model.safetensors"));

  const Checkpoint checkpoint = Checkpoint::open(directory.path());
  std::optional<ExpertSource> experts;
  std::optional<Trunk> trunk;
  declare_model(config, checkpoint, experts, trunk);  // throws for a tensor that is nobody's
  double parameters = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    parameters += static_cast<double>(tensor.size_bytes) / (tensor.dtype == DType::f32 ? 4 : 2);
  }
  EXPECT_NEAR(parameters, published.parameters, published.parameters * 0.01);

  ModelOptions options;
  options.context = config.max_positions;
  options.threads = 16;
  options.budget.kind = BudgetRequest::Kind::all;
  const MemoryLimits memory = {.total_bytes = uint64_t{1} << 40,
                               .available_bytes = uint64_t{1} << 40,
                               .cgroup_limit_bytes = {},
                               .cgroup_used_bytes = 0};
  const ModelMeasure measure = measure_model(config, options, *trunk, experts, memory);
  const MemoryPlan plan = plan_memory(measure.inputs);
  const uint64_t kv_bytes = uint64_t{2} * 2 * published.attention * config.max_positions *
                            config.kv_heads * config.head_dim;
  const uint64_t state_bytes = 4 * published.state_floats * published.recurrent;
  EXPECT_GE(plan.kv_bytes, kv_bytes);
  EXPECT_LE(plan.kv_bytes, kv_bytes + 8192);
  EXPECT_GE(plan.state_bytes, state_bytes);
  EXPECT_LE(plan.state_bytes, state_bytes + 8192);
  EXPECT_GE(static_cast<double>(plan.total_bytes()), 2 * parameters);
}

// State: heads of 128 × 128 (Nemotron's of 128 × 64), and three inputs of every channel.
INSTANTIATE_TEST_SUITE_P(
    Models, PublishedRecurrent,
    testing::Values(Published{"Qwen3.6-35B-A3B", 35e9, 10, 32 * 128 * 128 + 3 * 8192, 30},
                    Published{"Qwen3.5-122B-A10B", 122e9, 12, 64 * 128 * 128 + 3 * 12288, 36},
                    Published{"Nemotron-3-Super-120B-A12B", 120.6e9, 8, 128 * 128 * 64 + 3 * 10240,
                              40}),
    [](const auto& test) {
      std::string name = test.param.name;
      for (char& c : name) c = c == '-' || c == '.' ? '_' : c;
      return name;
    });

}  // namespace
}  // namespace sluice
