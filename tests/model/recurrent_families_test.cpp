// The families whose layers keep a state of constant size: what they read of config.json, what they
// refuse, how their tensors may be named, and what a session does with the state.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "io/error.h"
#include "model/families.h"
#include "model/model_impl.h"
#include "tests/io/simulated_queue.h"
#include "tests/model/config_cases.h"
#include "tests/model/golden_case.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

json text_config() {
  return json::parse(R"({
    "num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 257, "max_position_embeddings": 512,
    "linear_conv_kernel_dim": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16,
    "linear_num_value_heads": 4, "linear_value_head_dim": 8, "eos_token_id": 2})");
}

json nested(const json& text) {
  return {{"model_type", "qwen3_5"}, {"text_config", text}, {"tie_word_embeddings", true}};
}

json nemotron() {
  return json::parse(R"({
    "model_type": "nemotron_h", "hidden_size": 64, "intermediate_size": 96,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 257,
    "max_position_embeddings": 512, "hybrid_override_pattern": "ME*-", "conv_kernel": 4,
    "n_groups": 2, "ssm_state_size": 16, "mamba_num_heads": 8, "mamba_head_dim": 8,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 64, "layer_norm_epsilon": 1e-4, "rms_norm_eps": 1e-6})");
}

TEST(RecurrentFamilies, ATextModelsKeysMayBeNestedOrNot) {
  json flat = text_config();
  flat["model_type"] = "qwen3_5_text";
  for (const json& config : {nested(text_config()), flat}) {
    const ModelConfig parsed = parse(config);
    EXPECT_EQ(parsed.model_type, "qwen3_5");
    EXPECT_EQ(parsed.hidden, 64u);
    EXPECT_THAT(parsed.eos_ids, ElementsAre(2u));
    EXPECT_TRUE(parsed.attention_gate);
    EXPECT_EQ(parsed.rope.dimensions, 4u);  // a quarter of a head
    EXPECT_THAT(parsed.mixers, ElementsAre(Mixer::recurrent, Mixer::recurrent, Mixer::recurrent,
                                           Mixer::attention));
    EXPECT_EQ(parsed.recurrent.channels(), 2u * 2 * 16 + 4 * 8);
  }
  EXPECT_TRUE(parse(nested(text_config())).tied_embeddings);
  EXPECT_THAT(error_of(nested(without(text_config(), "hidden_size"))),
              HasSubstr("text_config: hidden_size is missing"));
  EXPECT_THAT(error_of(nested(5)), HasSubstr("text_config is 5"));
}

TEST(RecurrentFamilies, LayersAreOfTheTypesThatAreListed) {
  const json types = {"full_attention", "linear_attention", "full_attention", "full_attention"};
  EXPECT_THAT(parse(nested(with(text_config(), "layer_types", types))).mixers,
              ElementsAre(Mixer::attention, Mixer::recurrent, Mixer::attention, Mixer::attention));
  EXPECT_THAT(parse(nested(with(text_config(), "full_attention_interval", 1))).mixers,
              Each(Mixer::attention));
  EXPECT_THAT(error_of(nested(with(text_config(), "layer_types", {"linear_attention"}))),
              HasSubstr("layer_types has 1 entries"));
  const json sliding = {"sliding_attention", "linear_attention", "full_attention", "mamba"};
  EXPECT_THAT(error_of(nested(with(text_config(), "layer_types", sliding))),
              AllOf(HasSubstr("layer_types[0]"), HasSubstr("linear_attention")));
}

TEST(RecurrentFamilies, SizesThatDoNotFitAreRefusedByName) {
  const auto refused = [](const char* key, const json& value) {
    return error_of(nested(with(text_config(), key, value)));
  };
  EXPECT_THAT(refused("linear_conv_kernel_dim", 1), HasSubstr("kernel of 1"));
  EXPECT_THAT(refused("linear_conv_kernel_dim", 65), HasSubstr("kernel of 65"));
  EXPECT_THAT(refused("linear_num_key_heads", 3), HasSubstr("3 key heads"));
  EXPECT_THAT(refused("linear_num_key_heads", 0), HasSubstr("linear_num_key_heads is 0"));
  EXPECT_THAT(refused("linear_num_value_heads", 1000000000000000000),
              HasSubstr("linear_num_value_heads is"));
  EXPECT_THAT(refused("linear_value_head_dim", 1 << 20), HasSubstr("over the limit"));
  EXPECT_THAT(refused("linear_key_head_dim", -16), HasSubstr("linear_key_head_dim is -16"));
  EXPECT_THAT(error_of(nested(without(text_config(), "linear_num_value_heads"))),
              HasSubstr("linear_num_value_heads is missing"));
}

TEST(RecurrentFamilies, NemotronsLayersFollowThePattern) {
  const ModelConfig config = parse(nemotron());
  EXPECT_THAT(config.mixers,
              ElementsAre(Mixer::recurrent, Mixer::none, Mixer::attention, Mixer::none));
  EXPECT_THAT(config.moe_layer, ElementsAre(false, true, false, false));
  EXPECT_EQ(config.rms_epsilon, 1e-4f);
  EXPECT_EQ(config.shared_intermediate, 64u);
  EXPECT_EQ(config.expert_width(), 64u);
  EXPECT_EQ(parse(with(nemotron(), "moe_latent_size", 16)).expert_width(), 16u);
  json words = without(nemotron(), "hybrid_override_pattern");
  words["layers_block_type"] = {"mamba", "moe", "attention", "mlp"};
  EXPECT_EQ(parse(words).mixers, config.mixers);
  EXPECT_EQ(parse(words).moe_layer, config.moe_layer);
  // Of a pattern without experts nothing is asked about them.
  EXPECT_EQ(parse(without(with(nemotron(), "hybrid_override_pattern", "M-*-"), "n_routed_experts"))
                .experts,
            0u);
}

TEST(RecurrentFamilies, NemotronRefusesPatternsAndNumbersThatDoNotFit) {
  const auto refused = [](const char* key, const json& value) {
    return error_of(with(nemotron(), key, value));
  };
  EXPECT_THAT(refused("hybrid_override_pattern", "MX*-"), HasSubstr("\"X\" for layer 1"));
  EXPECT_THAT(refused("hybrid_override_pattern", ""), HasSubstr("names 0 layers"));
  EXPECT_THAT(refused("hybrid_override_pattern", std::string(5000, 'M')), HasSubstr("5000 layers"));
  EXPECT_THAT(refused("num_hidden_layers", 5), HasSubstr("num_hidden_layers is 5"));
  EXPECT_THAT(refused("layers_block_type", {"mamba"}), HasSubstr("different layers"));
  EXPECT_THAT(refused("layers_block_type", {"mamba", "rnn"}), HasSubstr("layers_block_type[1]"));
  EXPECT_THAT(refused("n_groups", 3), HasSubstr("3 key heads (groups)"));
  EXPECT_THAT(refused("mlp_hidden_act", "silu"), HasSubstr("mlp_hidden_act is \"silu\""));
  EXPECT_THAT(refused("sliding_window", 512), HasSubstr("sliding_window is 512"));
  EXPECT_THAT(refused("time_step_limit", {1.0, 0.5}), HasSubstr("time_step_limit"));
  EXPECT_THAT(refused("moe_latent_size", 0), HasSubstr("moe_latent_size is 0"));
  EXPECT_THAT(refused("n_shared_experts", 2), HasSubstr("n_shared_experts is 2"));
}

TEST(RecurrentFamilies, AnEndlessTimeStepIsReadAsPythonWritesIt) {
  for (const char* infinity : {"Infinity", "{\"__float__\": \"Infinity\"}", "\"Infinity\""}) {
    std::string text = nemotron().dump();
    text.insert(1, std::string("\"time_step_limit\": [0.25, ") + infinity +
                       "], \"note\": \"say \\\"NaN\\\" and Infinity\",");
    const ModelConfig config = parse_config(text, "DIR/config.json");
    EXPECT_EQ(config.recurrent.least_step, 0.25) << infinity;
    EXPECT_GT(config.recurrent.most_step, 1e300) << infinity;
  }
  std::string text = nemotron().dump();
  text.insert(1, "\"routed_scaling_factor\": Infinity,");
  EXPECT_THROW(parse_config(text, "DIR/config.json"), Error);
}

TEST(RecurrentFamilies, TensorsThatAreNotOfTheTextModelMayBeIgnored) {
  const ModelConfig qwen = parse(nested(text_config()));
  for (const char* name : {"model.visual.blocks.0.norm1.weight", "mtp.fc.weight"}) {
    EXPECT_TRUE(may_ignore_tensor(qwen, name)) << name;
  }
  for (const char* name : {"model.language_model.visual.weight", "visual", "model.layers.4.x"}) {
    EXPECT_FALSE(may_ignore_tensor(qwen, name)) << name;
  }
  EXPECT_TRUE(may_ignore_tensor(parse(nemotron()), "mtp.layers.0.norm.weight"));
  EXPECT_FALSE(may_ignore_tensor(parse(nemotron()), "model.visual.x"));
}

class RecurrentSession : public testing::TestWithParam<std::string> {
 protected:
  static ModelOptions options() {
    ModelOptions options;
    options.threads = 2;
    options.budget.kind = BudgetRequest::Kind::all;
    return options;
  }
  GoldenCase golden_{GetParam()};
};

TEST_P(RecurrentSession, ForgetsItsStateWhenItIsReset) {
  Model model = Model::load(golden_.directory, options());
  EXPECT_GT(model.plan().state_bytes, 0u);
  Session session(model);
  const std::vector<float> first = prefill_logits(session, golden_.ids);
  session.reset();
  EXPECT_TRUE(same_bits(prefill_logits(session, golden_.ids), first));
}

TEST_P(RecurrentSession, RefusesToGoOnAfterACallThatWasAbandoned) {
  Model model = Model::load(golden_.directory, options());
  Session session(model);
  const std::vector<float> expected = prefill_logits(session, golden_.ids);
  session.reset();
  int asked = 0;
  EXPECT_TRUE(session.prefill(golden_.ids, {}, [&] { return ++asked > 2; }).empty());
  try {
    session.prefill(golden_.ids);
    FAIL() << "computed on with a torn state";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("reset the session"));
  }
  session.reset();
  EXPECT_TRUE(same_bits(prefill_logits(session, golden_.ids), expected));
}

INSTANTIATE_TEST_SUITE_P(Cases, RecurrentSession,
                         testing::Values("qwen3_5", "qwen3_next", "nemotron_h_dense", "nemotron_h"),
                         [](const auto& test) { return test.param; });

TEST(RecurrentFaults, AReadErrorLeavesASessionThatMustBeReset) {
  const GoldenCase golden("qwen3_next");
  ModelOptions options;
  options.threads = 2;
  options.budget.kind = BudgetRequest::Kind::all;
  options.budget = {.kind = BudgetRequest::Kind::fixed,
                    .bytes = Model::load(golden.directory, options).plan().floor_bytes};
  SimulatedQueue* queue = nullptr;
  options.make_queue = [&queue] {
    auto simulated = std::make_unique<SimulatedQueue>();
    queue = simulated.get();
    return simulated;
  };
  Model model = Model::load(golden.directory, options);
  Session session(model);
  for (const DirectFile& file : model.impl().files) {
    queue->fail_range(file, 0, file.size_bytes(), EIO);
  }
  EXPECT_THROW(session.prefill(golden.ids), Error);
  queue->clear_failures();
  EXPECT_THROW(session.prefill(golden.ids), Error);
  session.reset();
  const std::vector<float> logits = prefill_logits(session, golden.ids);
  Session fresh(model);
  EXPECT_TRUE(same_bits(logits, prefill_logits(fresh, golden.ids)));
}

}  // namespace
}  // namespace sluice
