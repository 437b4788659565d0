// What config.json says of positions: rope in all its kinds, and sliding windows.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/model/config_cases.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(ConfigOfPositions, TheKeyThatIsAddedByHandWins) {
  const json saved =
      with(dense_config(), "rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}});
  const json stretched =
      with(saved, "rope_scaling",
           {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}});
  const RopeConfig rope = parse(stretched).rope;
  EXPECT_EQ(rope.scaling, RopeScaling::yarn);
  EXPECT_EQ(rope.factor, 4);
  EXPECT_EQ(rope.theta, 5e5);
}

TEST(ConfigOfPositions, ReadsBothGenerationsOfRopeKeys) {
  const json bare = without(without(dense_config(), "rope_theta"), "rope_scaling");
  const json newer = with(bare, "rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}});
  EXPECT_EQ(parse(newer).rope.theta, 5e5);
  EXPECT_EQ(parse(with(newer, "rope_theta", 7.0)).rope.theta, 5e5);
  const json older = with(with(bare, "rope_theta", 20000), "rope_scaling", {{"type", "default"}});
  EXPECT_EQ(parse(older).rope.theta, 20000.0);
}

TEST(ConfigOfPositions, RopeWithoutATypeIsTheDefault) {
  const json named = with(dense_config(), "rope_parameters", {{"rope_theta", 3e4}});
  EXPECT_EQ(parse(named).rope.scaling, RopeScaling::none);
  EXPECT_EQ(parse(named).rope.theta, 3e4);
  EXPECT_EQ(parse(with(dense_config(), "rope_scaling", json::object())).rope.scaling,
            RopeScaling::none);
  // An empty object takes nothing back.
  const json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}};
  EXPECT_EQ(
      parse(with(with(dense_config(), "rope_parameters", yarn), "rope_scaling", json::object()))
          .rope.scaling,
      RopeScaling::yarn);
}

TEST(ConfigOfPositions, TheOriginalLengthOutsideOfTheScalingWins) {
  const json yarn = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
  const json config = with(dense_config(), "rope_scaling", yarn);
  EXPECT_EQ(parse(config).rope.original_positions, 64u);
  EXPECT_EQ(parse(with(config, "original_max_position_embeddings", 128)).rope.original_positions,
            128u);
}

TEST(ConfigOfPositions, RefusesRopeThatItDoesNotKnow) {
  for (const char* key : {"type", "rope_type"}) {
    EXPECT_THAT(error_of(with(dense_config(), "rope_scaling", {{key, "mrope"}, {"factor", 4.0}})),
                AllOf(HasSubstr("DIR/config.json: rope_scaling"), HasSubstr("\"mrope\""),
                      HasSubstr("default, linear, dynamic, llama3, yarn, longrope")))
        << key;
  }
  EXPECT_THAT(error_of(with(dense_config(), "rope_scaling", {{"factor", 4.0}})),
              HasSubstr("rope_type is missing"));
  EXPECT_THAT(error_of(with(dense_config(), "rope_theta", 0)), HasSubstr("rope_theta is 0"));
}

TEST(ConfigOfPositions, ReadsTheNumbersOfEveryRopeScaling) {
  const auto rope = [](json scaling, uint64_t original = 128) {
    scaling["original_max_position_embeddings"] = original;
    return parse(with(dense_config(), "rope_scaling", scaling));
  };
  const ModelConfig linear = rope({{"type", "linear"}, {"factor", 4}});
  EXPECT_EQ(linear.rope.scaling, RopeScaling::linear);
  EXPECT_EQ(linear.rope.factor, 4.0);
  EXPECT_EQ(linear.max_positions, 512u);
  const ModelConfig llama3 = rope({{"rope_type", "llama3"},
                                   {"factor", 8.0},
                                   {"low_freq_factor", 2.0},
                                   {"high_freq_factor", 5.0}});
  EXPECT_EQ(llama3.rope.scaling, RopeScaling::llama3);
  EXPECT_EQ(llama3.rope.original_positions, 128u);
  EXPECT_EQ(llama3.rope.low_frequency_factor, 2.0);
  EXPECT_EQ(llama3.rope.high_frequency_factor, 5.0);
  const ModelConfig yarn = rope({{"rope_type", "yarn"},
                                 {"factor", 40},
                                 {"beta_fast", 16},
                                 {"beta_slow", 2},
                                 {"mscale", 0.7},
                                 {"mscale_all_dim", 0.8},
                                 {"attention_factor", nullptr},
                                 {"truncate", false}});
  EXPECT_EQ(yarn.rope.scaling, RopeScaling::yarn);
  EXPECT_EQ(yarn.rope.beta_fast, 16.0);
  EXPECT_EQ(yarn.rope.beta_slow, 2.0);
  EXPECT_EQ(yarn.rope.mscale, 0.7);
  EXPECT_EQ(yarn.rope.mscale_all_dimensions, 0.8);
  EXPECT_FALSE(yarn.rope.attention_factor.has_value());
  EXPECT_FALSE(yarn.rope.truncate);
  EXPECT_EQ(yarn.max_positions, 128u * 40);                   // as far as it stretches
  EXPECT_EQ(rope({{"rope_type", "yarn"}}).rope.factor, 4.0);  // 512 of 128
  const ModelConfig dynamic = rope({{"rope_type", "dynamic"}, {"factor", 2.0}});
  EXPECT_EQ(dynamic.rope.original_positions, 512u);  // not what the file says was trained on
  EXPECT_EQ(dynamic.max_positions, 1024u);
  const std::vector<double> factors(16, 1.5);
  const ModelConfig longrope =
      rope({{"type", "longrope"}, {"short_factor", factors}, {"long_factor", factors}});
  EXPECT_EQ(longrope.rope.scaling, RopeScaling::longrope);
  EXPECT_EQ(longrope.rope.short_factors, factors);
  EXPECT_EQ(longrope.rope.long_factors, factors);
}

TEST(ConfigOfPositions, NamesWhatARopeScalingLacks) {
  const auto refused = [](const json& scaling) {
    return error_of(with(dense_config(), "rope_scaling", scaling));
  };
  EXPECT_THAT(refused({{"rope_type", "linear"}}), HasSubstr("factor is missing"));
  EXPECT_THAT(refused({{"rope_type", "linear"}, {"factor", 0}}), HasSubstr("factor is 0"));
  EXPECT_THAT(refused({{"rope_type", "linear"}, {"factor", 1e18}}), HasSubstr("factor is 1e+18"));
  json llama3 = {{"rope_type", "llama3"}, {"factor", 8}, {"high_freq_factor", 4}};
  EXPECT_THAT(refused(llama3), HasSubstr("low_freq_factor is missing"));
  llama3["low_freq_factor"] = 4;
  EXPECT_THAT(refused(llama3), HasSubstr("more than low_freq_factor"));
  json longrope = {{"rope_type", "longrope"}, {"factor", 2}, {"short_factor", {1, 2, 3}}};
  EXPECT_THAT(refused(longrope), HasSubstr("short_factor has 3 entries"));
  longrope["short_factor"][1] = "2";
  EXPECT_THAT(refused(longrope), HasSubstr("short_factor[1] is \"2\""));
  EXPECT_THAT(refused({{"rope_type", "yarn"}, {"factor", 4}, {"truncate", 1}}),
              HasSubstr("truncate is 1"));
  EXPECT_THAT(error_of(with(with(dense_config(), "rope_theta", 1), "rope_scaling",
                            {{"rope_type", "yarn"}, {"factor", 4}})),
              HasSubstr("yarn expects more than 1"));
}

TEST(ConfigOfPositions, TurnsAnEvenPartOfEachHead) {
  const json half = with(dense_config(), "partial_rotary_factor", 0.5);
  EXPECT_EQ(parse(half).rope.dimensions, 16u);
  const json newer = {{"rope_type", "default"}, {"partial_rotary_factor", 0.25}};
  EXPECT_EQ(parse(with(half, "rope_parameters", newer)).rope.dimensions, 8u);
  EXPECT_EQ(parse(with(dense_config(), "rotary_dim", 20)).rope.dimensions, 20u);
  EXPECT_THAT(error_of(with(dense_config(), "partial_rotary_factor", 0.01)),
              HasSubstr("turns 0 dimensions"));
  EXPECT_THAT(error_of(with(dense_config(), "rotary_dim", 7)), HasSubstr("turns 7 dimensions"));
  EXPECT_THAT(error_of(with(dense_config(), "rotary_dim", 33)), HasSubstr("rotary_dim is 33"));
  EXPECT_THAT(error_of(with(dense_config(), "partial_rotary_factor", 1.5)),
              HasSubstr("partial_rotary_factor is 1.5"));
}

TEST(ConfigOfPositions, PlacesAWindowInTheLayersThatHaveOne) {
  json config = with(dense_config(), "sliding_window", 16);
  config.erase("layer_types");
  EXPECT_THAT(parse(config).layer_window, Each(0u));  // use_sliding_window is false
  config["use_sliding_window"] = true;
  EXPECT_THAT(parse(config).layer_window, Each(0u));  // from layer 28 on, unless told otherwise
  config["max_window_layers"] = 0;
  EXPECT_THAT(parse(config).layer_window, Each(16u));
  config["max_window_layers"] = 3;
  EXPECT_THAT(parse(config).layer_window, ElementsAre(0u, 0u, 0u, 16u));
  config["layer_types"] = {"full_attention", "sliding_attention", "sliding_attention",
                           "full_attention"};
  EXPECT_THAT(parse(config).layer_window, ElementsAre(0u, 16u, 16u, 0u));
  config["use_sliding_window"] = false;
  EXPECT_THAT(error_of(config), AllOf(HasSubstr("layer_types[1]"), HasSubstr("sliding_window")));
  config["layer_types"][1] = "linear_attention";
  EXPECT_THAT(error_of(config), AllOf(HasSubstr("layer_types[1]"), HasSubstr("linear_attention")));
  config["layer_types"] = {"full_attention"};
  EXPECT_THAT(error_of(config), HasSubstr("layer_types has 1 entries"));
}

TEST(ConfigOfPositions, AWindowThatIsNotNamedIsTheFamilysAndNullIsNone) {
  json config = with(with(dense_config(), "use_sliding_window", true), "max_window_layers", 0);
  config.erase("layer_types");
  EXPECT_THAT(parse(config).layer_window, Each(0u));  // null
  config.erase("sliding_window");
  EXPECT_THAT(parse(config).layer_window, Each(4096u));
  config["model_type"] = "qwen2";
  EXPECT_THAT(parse(config).layer_window, Each(4096u));
  config["model_type"] = "mistral";
  EXPECT_THAT(parse(config).layer_window, Each(4096u));
  config["model_type"] = "llama";
  EXPECT_THAT(parse(config).layer_window, Each(0u));
}

TEST(ConfigOfPositions, WindowsOfQwenMoeModelsFollowTheirOwnRules) {
  json config = with(with(moe_config(), "use_sliding_window", true), "sliding_window", 16);
  config.erase("layer_types");
  EXPECT_THAT(parse(config).layer_window, Each(16u));
  config["model_type"] = "qwen2_moe";
  config["shared_expert_intermediate_size"] = 32;
  EXPECT_THAT(parse(config).layer_window, ElementsAre(16u, 0u, 16u, 0u));
  config["max_window_layers"] = 2;
  EXPECT_THAT(parse(config).layer_window, ElementsAre(16u, 0u, 0u, 0u));
  config["use_sliding_window"] = false;
  EXPECT_THAT(parse(config).layer_window, Each(0u));
}

TEST(ConfigOfPositions, GptOssSlidesInEveryOtherLayer) {
  json config = with(moe_config(), "model_type", "gpt_oss");
  config.erase("layer_types");
  config["sliding_window"] = 16;
  EXPECT_THAT(parse(config).layer_window, ElementsAre(16u, 0u, 16u, 0u));
  config.erase("sliding_window");
  EXPECT_THAT(parse(config).layer_window, ElementsAre(128u, 0u, 128u, 0u));
  config["swiglu_limit"] = 7.0;
  EXPECT_THAT(parse(config).layer_window, ElementsAre(128u, 0u, 128u, 0u));
  config["swiglu_limit"] = 10.0;
  EXPECT_THAT(error_of(config), HasSubstr("swiglu_limit is 10"));
}

}  // namespace
}  // namespace sluice
