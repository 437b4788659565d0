// What each family makes of config.json, and what is said of a family that is not known.

#include "model/families.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/model/config_cases.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

// The smallest config of a family: what all have, and its own required keys.
json of_family(const std::string& model_type, const json& more = json::object()) {
  json config = {
      {"model_type", model_type}, {"num_hidden_layers", 4},   {"hidden_size", 64},
      {"intermediate_size", 96},  {"num_attention_heads", 4}, {"num_key_value_heads", 2},
      {"head_dim", 32},           {"vocab_size", 257},        {"max_position_embeddings", 512}};
  config.update(more);
  return config;
}

const json kExperts = {{"num_experts", 8}, {"num_experts_per_tok", 2}};

json glm_config() {
  json config = of_family("glm4_moe", {{"n_routed_experts", 8},
                                       {"num_experts_per_tok", 2},
                                       {"moe_intermediate_size", 32},
                                       {"n_shared_experts", 2},
                                       {"first_k_dense_replace", 1},
                                       {"n_group", 4},
                                       {"topk_group", 2},
                                       {"routed_scaling_factor", 2.5},
                                       {"num_nextn_predict_layers", 1}});
  return config;
}

TEST(Families, HaveNamesOfTheirOwnAndAreListedWithModels) {
  std::set<std::string_view> names;
  for (const Family& family : families()) {
    EXPECT_TRUE(names.insert(family.model_type).second) << family.model_type;
    EXPECT_THAT(families_text(), HasSubstr(std::string(family.model_type) + "  "));
    EXPECT_THAT(families_text(), HasSubstr(std::string(family.models)));
    EXPECT_EQ(&find_family(family.model_type, "config.json"), &family);
  }
  EXPECT_GE(names.size(), 14u);
}

TEST(Families, AnUnknownOneIsNamedBesideThoseThatAreKnown) {
  EXPECT_THAT(error_of(of_family("gpt9")),
              AllOf(HasSubstr("DIR/config.json: model_type is \"gpt9\""),
                    HasSubstr("llama, mistral, qwen2, qwen3, mixtral, olmoe, qwen2_moe, "
                              "qwen3_moe, glm4_moe, minimax_m2, gpt_oss")));
}

TEST(Families, LlamaHasBiasesWhereItSaysSo) {
  const ModelConfig plain = parse(of_family("llama"));
  EXPECT_FALSE(plain.attention_bias);
  EXPECT_FALSE(plain.mlp_bias);
  EXPECT_EQ(plain.rope.theta, 10000.0);
  const ModelConfig biased =
      parse(of_family("llama", {{"attention_bias", true}, {"mlp_bias", true}}));
  EXPECT_TRUE(biased.attention_bias);
  EXPECT_TRUE(biased.mlp_bias);
}

TEST(Families, MistralSlidesInEveryLayerWhereItHasAWindow) {
  EXPECT_THAT(parse(of_family("mistral", {{"sliding_window", 8}})).layer_window, Each(8u));
  EXPECT_THAT(parse(of_family("mistral", {{"sliding_window", nullptr}})).layer_window, Each(0u));
  EXPECT_THAT(error_of(of_family("mistral", {{"sliding_window", -8}})),
              HasSubstr("sliding_window is -8"));
}

TEST(Families, ExpertsOfMixtralOlmoeAndMinimaxAreAsWideAsIntermediateSizeSays) {
  for (const char* family : {"mixtral", "olmoe", "minimax_m2"}) {
    const ModelConfig config = parse(of_family(family, kExperts));
    EXPECT_EQ(config.expert_intermediate, 96u) << family;
    EXPECT_THAT(config.moe_layer, Each(true)) << family;
    EXPECT_EQ(config.shared_intermediate, 0u) << family;
  }
  EXPECT_EQ(parse(of_family("mixtral", kExperts)).rope.theta, 1e6);
  EXPECT_EQ(parse(of_family("minimax_m2", kExperts)).rope.theta, 5e6);
}

TEST(Families, ExpertsAreNamedAsEachLayoutNamesThem) {
  const std::vector<ExpertNames> mixtral = expert_names(parse(of_family("mixtral", kExperts)));
  ASSERT_EQ(mixtral.size(), 4u);
  EXPECT_EQ(mixtral[3].per_expert_prefix, "model.layers.3.block_sparse_moe.experts");
  EXPECT_EQ(mixtral[3].stacked_prefixes[0], "model.layers.3.block_sparse_moe.switch_mlp");
  std::vector<std::string> stacked, per_expert;
  for (const ExpertNames::Projection& projection : mixtral[3].projections) {
    stacked.push_back(projection.name);
    per_expert.push_back(projection.per_expert_name);
  }
  EXPECT_THAT(stacked, ElementsAre("gate_proj", "up_proj", "down_proj"));
  EXPECT_THAT(per_expert, ElementsAre("w1", "w3", "w2"));
  const std::vector<ExpertNames> olmoe = expert_names(parse(of_family("olmoe", kExperts)));
  EXPECT_EQ(olmoe[0].per_expert_prefix, "model.layers.0.mlp.experts");
  EXPECT_EQ(olmoe[0].projections[1].per_expert_name, "up_proj");
  EXPECT_TRUE(expert_names(parse(of_family("llama"))).empty());
}

TEST(Families, OlmoeRefusesClippedProjections) {
  json config = of_family("olmoe", kExperts);
  EXPECT_FALSE(parse(config).router.normalize);
  config["clip_qkv"] = 8.0;
  EXPECT_THAT(error_of(config), HasSubstr("clip_qkv is 8.0"));
}

TEST(Families, Qwen2MoeHasASharedExpert) {
  json config = of_family("qwen2_moe", kExperts);
  config["moe_intermediate_size"] = 32;
  EXPECT_THAT(error_of(config), HasSubstr("shared_expert_intermediate_size is missing"));
  config["shared_expert_intermediate_size"] = 64;
  config["mlp_only_layers"] = {0};
  const ModelConfig parsed = parse(config);
  EXPECT_TRUE(parsed.attention_bias);
  EXPECT_EQ(parsed.shared_intermediate, 64u);
  EXPECT_THAT(parsed.moe_layer, ElementsAre(false, true, true, true));
  EXPECT_FALSE(parse(with(config, "qkv_bias", false)).attention_bias);
}

TEST(Families, GlmReadsItsRouterItsSharedExpertsAndItsDenseLayers) {
  const ModelConfig config = parse(glm_config());
  EXPECT_THAT(config.moe_layer, ElementsAre(false, true, true, true));
  EXPECT_EQ(config.shared_intermediate, 64u);
  EXPECT_EQ(config.rope.dimensions, 16u);  // half a head, unless the file says otherwise
  EXPECT_TRUE(config.router.normalize);
  EXPECT_EQ(config.router.groups, 4u);
  EXPECT_EQ(config.router.groups_per_token, 2u);
  EXPECT_EQ(config.router.scale, 2.5f);
  EXPECT_FALSE(config.qk_norm);
}

TEST(Families, GlmRefusesNumbersThatDoNotFit) {
  const auto refused = [](const char* key, const json& value) {
    return error_of(with(glm_config(), key, value));
  };
  EXPECT_THAT(refused("n_group", 3), AllOf(HasSubstr("n_group is 3"), HasSubstr("divisor")));
  EXPECT_THAT(refused("n_group", 16), HasSubstr("n_group is 16"));
  EXPECT_THAT(refused("topk_group", 5), HasSubstr("topk_group is 5"));
  EXPECT_THAT(error_of(with(with(glm_config(), "num_experts_per_tok", 5), "topk_group", 2)),
              AllOf(HasSubstr("leaves 4 experts"), HasSubstr("num_experts_per_tok, 5")));
  EXPECT_THAT(refused("first_k_dense_replace", 4), HasSubstr("first_k_dense_replace is 4"));
  EXPECT_THAT(refused("n_shared_experts", 1000000000000000000), HasSubstr("n_shared_experts is"));
  EXPECT_THAT(refused("routed_scaling_factor", -1), HasSubstr("routed_scaling_factor is -1"));
  EXPECT_THAT(refused("n_routed_experts", 0), HasSubstr("n_routed_experts is 0"));
  EXPECT_THAT(refused("num_experts_per_tok", 9), HasSubstr("num_experts_per_tok is 9"));
}

TEST(Families, MinimaxRefusesWhatItsPublishedModelsDoNotHave) {
  const json config = of_family("minimax_m2", kExperts);
  EXPECT_TRUE(parse(config).qk_norm);
  EXPECT_EQ(parse(with(config, "attn_type_list", {1, 1, 1, 1})).layers, 4u);
  EXPECT_THAT(error_of(with(config, "attn_type_list", {1, 0, 1, 1})), HasSubstr("attn_type_list"));
  EXPECT_THAT(error_of(with(config, "attn_type_list", {1})), HasSubstr("attn_type_list"));
  EXPECT_THAT(error_of(with(config, "scoring_func", "softmax")), HasSubstr("\"softmax\""));
  EXPECT_THAT(error_of(with(config, "qk_norm_type", "per_head")), HasSubstr("\"per_head\""));
  EXPECT_THAT(error_of(with(config, "shared_intermediate_size", 8)),
              HasSubstr("shared_intermediate_size is 8"));
}

json deepseek_config(const std::string& model_type) {
  json config = of_family(model_type, {{"n_routed_experts", 8},
                                       {"num_experts_per_tok", 2},
                                       {"moe_intermediate_size", 32},
                                       {"n_shared_experts", 2},
                                       {"first_k_dense_replace", 1},
                                       {"kv_lora_rank", 32},
                                       {"q_lora_rank", 24},
                                       {"qk_nope_head_dim", 16},
                                       {"qk_rope_head_dim", 8},
                                       {"v_head_dim", 12}});
  if (model_type == "deepseek_v32") {
    config.update({{"index_n_heads", 3}, {"index_head_dim", 10}, {"index_topk", 5}});
  }
  return config;
}

TEST(Families, DeepseekReadsItsLatentAttention) {
  for (const char* family : {"deepseek_v2", "deepseek_v3", "kimi_k2", "deepseek_v32"}) {
    const ModelConfig config = parse(deepseek_config(family));
    EXPECT_EQ(config.mla.q_rank, 24u);
    EXPECT_EQ(config.mla.kv_rank, 32u);
    EXPECT_EQ(config.mla.value_dim, 12u);
    EXPECT_EQ(config.mla.latent_width(), 40u);
    EXPECT_EQ(config.head_dim, 24u);  // not what head_dim says
    EXPECT_EQ(config.rope.dimensions, 8u);
    EXPECT_TRUE(config.mla.rope_pairs);
    EXPECT_EQ(config.mla.index_heads, family == std::string("deepseek_v32") ? 3u : 0u);
    EXPECT_THAT(config.moe_layer, ElementsAre(false, true, true, true));
    EXPECT_EQ(config.shared_intermediate, 64u);
    EXPECT_EQ(config.router.normalize, family != std::string("deepseek_v2"));
    if (config.mla.index_heads > 0) continue;
    EXPECT_EQ(parse(without(deepseek_config(family), "q_lora_rank")).mla.q_rank, 0u);
  }
}

TEST(Families, DeepseekV2HasGroupsOnlyWhereItsMethodSaysSo) {
  json config = deepseek_config("deepseek_v2");
  config.update({{"n_group", 4}, {"topk_group", 2}});
  EXPECT_EQ(parse(config).router.groups, 1u);
  EXPECT_EQ(parse(with(config, "topk_method", "greedy")).router.groups, 1u);
  EXPECT_EQ(parse(with(config, "topk_method", "group_limited_greedy")).router.groups, 4u);
  EXPECT_THAT(error_of(with(config, "topk_method", "noaux_tc")), HasSubstr("\"noaux_tc\""));
  EXPECT_THAT(error_of(with(config, "scoring_func", "sigmoid")), HasSubstr("\"sigmoid\""));
  EXPECT_THAT(error_of(with(config, "norm_topk_prob", true)), HasSubstr("norm_topk_prob is true"));
}

TEST(Families, DeepseekPlacesItsExpertsByNumbersOrByAList) {
  json config = deepseek_config("deepseek_v3");
  config["moe_layer_freq"] = 2;
  EXPECT_THAT(parse(config).moe_layer, ElementsAre(false, false, true, false));
  config["mlp_layer_types"] = {"sparse", "dense", "dense", "sparse"};
  EXPECT_THAT(parse(config).moe_layer, ElementsAre(true, false, false, true));
  config["mlp_layer_types"] = {"dense", "dense", "dense", "dense"};
  EXPECT_THAT(error_of(config), HasSubstr("no layer with experts"));
  config["mlp_layer_types"] = {"dense"};
  EXPECT_THAT(error_of(config), HasSubstr("mlp_layer_types has 1 entries"));
  config["mlp_layer_types"] = {"dense", "dense", "dense", "moe"};
  EXPECT_THAT(error_of(config), HasSubstr("mlp_layer_types[3] is \"moe\""));
}

TEST(Families, DeepseekRefusesNumbersThatDoNotFit) {
  const json config = deepseek_config("deepseek_v32");
  for (const char* key : {"kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
                          "index_n_heads", "index_head_dim", "index_topk"}) {
    EXPECT_THAT(error_of(without(config, key)), HasSubstr(key));
    EXPECT_THAT(error_of(with(config, key, -1)), HasSubstr(std::string(key) + " is -1"));
    EXPECT_THAT(error_of(with(config, key, 0)), HasSubstr(std::string(key) + " is 0"));
    EXPECT_THAT(error_of(with(config, key, 1000000000000000000)), HasSubstr(key));
  }
  EXPECT_THAT(error_of(with(config, "q_lora_rank", -1)), HasSubstr("q_lora_rank is -1"));
  EXPECT_THAT(error_of(without(config, "q_lora_rank")), HasSubstr("q_lora_rank is missing"));
  EXPECT_THAT(error_of(with(config, "qk_rope_head_dim", 7)), HasSubstr("qk_rope_head_dim is 7"));
  EXPECT_THAT(error_of(with(config, "qk_nope_head_dim", 7)), HasSubstr("qk_nope_head_dim is 7"));
  EXPECT_THAT(error_of(with(config, "v_head_dim", kMaxWidth)), HasSubstr("over the limit"));
  EXPECT_THAT(error_of(with(config, "kv_lora_rank", kMaxWidth)), HasSubstr("over the limit"));
  EXPECT_THAT(error_of(with(config, "qk_nope_head_dim", kMaxWidth)), HasSubstr("over the limit"));
  EXPECT_THAT(error_of(with(config, "index_head_dim", kMaxWidth)), HasSubstr("over the limit"));
  EXPECT_THAT(error_of(with(config, "index_head_dim", 6)), HasSubstr("index_head_dim is 6"));
  EXPECT_THAT(error_of(with(config, "partial_rotary_factor", 0.5)), HasSubstr("all of qk_rope"));
  EXPECT_THAT(error_of(with(config, "layer_types", {"full_attention"})),
              HasSubstr("\"full_attention\""));
  EXPECT_THAT(error_of(with(config, "scoring_func", "softmax")), HasSubstr("\"softmax\""));
  EXPECT_THAT(error_of(with(config, "topk_method", "greedy")), HasSubstr("\"greedy\""));
}

TEST(Families, OnlyTensorsThatCannotMatterMayBeIgnored) {
  const ModelConfig glm = parse(glm_config());
  EXPECT_TRUE(may_ignore_tensor(glm, "model.layers.4.eh_proj.weight"));
  EXPECT_TRUE(may_ignore_tensor(glm, "model.layers.0.self_attn.rotary_emb.inv_freq"));
  for (const char* name : {"model.layers.3.eh_proj.weight", "model.layers.5.eh_proj.weight",
                           "model.layers.4", "model.layers.x.mlp.weight", "lm_head.weight",
                           "model.layers.99999999999999999999.mlp.weight", "model.layers."}) {
    EXPECT_FALSE(may_ignore_tensor(glm, name)) << name;
  }
  EXPECT_TRUE(may_ignore_tensor(parse(of_family("llama", {{"tie_word_embeddings", true}})),
                                "lm_head.weight"));
}

}  // namespace
}  // namespace sluice
