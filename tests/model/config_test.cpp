#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "io/error.h"
#include "model/json_object.h"
#include "tests/model/config_cases.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Config, ReadsADenseModel) {
  const ModelConfig config = parse(dense_config());
  EXPECT_EQ(config.model_type, "qwen3");
  EXPECT_EQ(config.layers, 4u);
  EXPECT_EQ(config.hidden, 64u);
  EXPECT_EQ(config.intermediate, 96u);
  EXPECT_EQ(config.heads, 4u);
  EXPECT_EQ(config.kv_heads, 2u);
  EXPECT_EQ(config.head_dim, 32u);
  EXPECT_EQ(config.vocabulary, 257u);
  EXPECT_EQ(config.max_positions, 512u);
  EXPECT_EQ(config.rms_epsilon, 1e-5f);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_TRUE(config.attention_bias);
  EXPECT_EQ(config.rope.scaling, RopeScaling::none);
  EXPECT_EQ(config.rope.dimensions, 32u);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_THAT(config.layer_window, ElementsAre(0u, 0u, 0u, 0u));
  EXPECT_EQ(config.experts, 0u);
  EXPECT_THAT(config.moe_layer, ElementsAre(false, false, false, false));
  EXPECT_THAT(config.eos_ids, ElementsAre(2u));
  EXPECT_FALSE(config.turboquant.present);
}

TEST(Config, ReadsAMixtureOfExperts) {
  const ModelConfig config = parse(moe_config());
  EXPECT_EQ(config.experts, 8u);
  EXPECT_EQ(config.experts_per_token, 2u);
  EXPECT_EQ(config.expert_intermediate, 32u);
  EXPECT_TRUE(config.router.normalize);
  EXPECT_THAT(config.moe_layer, ElementsAre(true, true, true, true));
  EXPECT_EQ(config.intermediate, 0u);  // no dense layer uses it
}

TEST(Config, FillsInWhatIsAbsentOrNull) {
  json text = dense_config();
  for (const char* key :
       {"num_key_value_heads", "head_dim", "rms_norm_eps", "tie_word_embeddings", "attention_bias",
        "hidden_act", "rope_theta", "eos_token_id", "use_sliding_window", "layer_types"}) {
    text[key] = nullptr;
    const ModelConfig null = parse(text);
    text.erase(key);
    const ModelConfig absent = parse(text);
    EXPECT_EQ(null.head_dim, absent.head_dim) << key;
    EXPECT_EQ(null.kv_heads, absent.kv_heads) << key;
    EXPECT_EQ(null.rms_epsilon, absent.rms_epsilon) << key;
    EXPECT_EQ(null.tied_embeddings, absent.tied_embeddings) << key;
    EXPECT_EQ(null.attention_bias, absent.attention_bias) << key;
    EXPECT_EQ(null.rope.theta, absent.rope.theta) << key;
    EXPECT_EQ(null.eos_ids, absent.eos_ids) << key;
    EXPECT_EQ(null.layer_window, absent.layer_window) << key;
  }
  const ModelConfig config = parse(text);
  EXPECT_EQ(config.kv_heads, 4u);
  EXPECT_EQ(config.head_dim, 16u);  // hidden / heads
  EXPECT_EQ(config.rms_epsilon, 1e-6f);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_THAT(config.eos_ids, IsEmpty());
  EXPECT_FALSE(parse(without(moe_config(), "norm_topk_prob")).router.normalize);
}

TEST(Config, KnowsTheExpertCountByItsThreeNames) {
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    EXPECT_EQ(parse(with(without(moe_config(), "num_experts"), key, 16)).experts, 16u) << key;
  }
  EXPECT_EQ(parse(with(moe_config(), "num_local_experts", 8)).experts, 8u);
  EXPECT_THAT(error_of(with(moe_config(), "num_local_experts", 9)),
              AllOf(HasSubstr("num_experts is 8"), HasSubstr("num_local_experts is 9")));
  EXPECT_THAT(error_of(without(moe_config(), "num_experts")),
              HasSubstr("num_experts (or num_local_experts, n_routed_experts) is missing"));
}

TEST(Config, PlacesExpertsEverySparseStepButInListedLayers) {
  const json every_second = with(moe_config(), "decoder_sparse_step", 2);
  EXPECT_THAT(parse(every_second).moe_layer, ElementsAre(false, true, false, true));
  EXPECT_THAT(parse(with(every_second, "mlp_only_layers", {1})).moe_layer,
              ElementsAre(false, false, false, true));
  EXPECT_EQ(parse(every_second).intermediate, 96u);
  EXPECT_THAT(error_of(without(every_second, "intermediate_size")),
              HasSubstr("intermediate_size is missing"));
  EXPECT_THAT(error_of(with(moe_config(), "mlp_only_layers", {4})),
              AllOf(HasSubstr("mlp_only_layers[0] is 4"), HasSubstr("from 0 to 3")));
  EXPECT_THAT(error_of(with(moe_config(), "decoder_sparse_step", 5)),
              HasSubstr("leave no layer with experts"));
}

TEST(Config, TakesEndTokensAsANumberOrAList) {
  EXPECT_THAT(parse(with(dense_config(), "eos_token_id", {5, 256})).eos_ids, ElementsAre(5u, 256u));
  EXPECT_THAT(error_of(with(dense_config(), "eos_token_id", 257)),
              AllOf(HasSubstr("eos_token_id is 257"), HasSubstr("from 0 to 256")));
  EXPECT_THAT(error_of(with(dense_config(), "eos_token_id", {1, "2"})),
              HasSubstr("eos_token_id[1] is \"2\""));
  EXPECT_THAT(error_of(with(dense_config(), "eos_token_id", json(json::array_t(257, json(0))))),
              HasSubstr("expected an array of at most 256 values"));
}

TEST(Config, ReadsTurboQuantOfEitherKey) {
  const json block = {{"mode", "turboquant"}, {"bits", 3}, {"use_qjl", false}};
  for (const char* key : {"quantization", "quantization_config"}) {
    const ModelConfig config = parse(with(moe_config(), key, block));
    EXPECT_TRUE(config.turboquant.present) << key;
    EXPECT_TRUE(config.turboquant.rotated) << key;
  }
  const json plain = with(moe_config(), "quantization", with(block, "rotation", "none"));
  EXPECT_FALSE(parse(plain).turboquant.rotated);
  const auto refused = [&](const char* key, const json& value) {
    return error_of(with(moe_config(), "quantization", with(block, key, value)));
  };
  EXPECT_THAT(refused("use_qjl", true), HasSubstr("use_qjl is true"));
  EXPECT_THAT(refused("fuse_rotations", true), HasSubstr("fuse_rotations is true"));
  EXPECT_THAT(refused("rotation", "givens"), HasSubstr("rotation is \"givens\""));
}

TEST(Config, TakesFormatsWhoseTensorsDescribeThemselves) {
  for (const json& block :
       {json{{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}, {"fmt", "e4m3"}},
        json{{"quant_method", "mxfp4"}, {"modules_to_not_convert", {"lm_head"}}},
        json{{"group_size", 64}, {"bits", 4}}, json{{"mode", "affine"}, {"bits", 6}},
        json{{"mode", "mxfp4"}, {"group_size", 32}}}) {
    for (const char* key : {"quantization", "quantization_config"}) {
      EXPECT_FALSE(parse(with(moe_config(), key, block)).turboquant.present);
    }
  }
}

TEST(Config, NamesTheQuantizationItDoesNotKnow) {
  const auto refused = [](const json& block) {
    return error_of(with(moe_config(), "quantization_config", block));
  };
  EXPECT_THAT(refused({{"quant_method", "awq"}}), HasSubstr("\"awq\""));
  EXPECT_THAT(refused({{"quant_method", "gptq"}, {"mode", "turboquant"}}), HasSubstr("\"gptq\""));
  EXPECT_THAT(refused({{"group_size", 16}, {"bits", 4}, {"mode", "nvfp4"}}), HasSubstr("nvfp4"));
  const json fp8 = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  EXPECT_THAT(refused({{"quant_method", "fp8"}}), HasSubstr("weight_block_size"));
  EXPECT_THAT(refused(with(fp8, "fmt", "e5m2")), HasSubstr("fmt is \"e5m2\""));
  EXPECT_THAT(refused(with(fp8, "activation_scheme", "static")), HasSubstr("\"static\""));
  EXPECT_THAT(refused("int4"), HasSubstr("quantization_config is \"int4\""));
}

TEST(Config, NamesKnownModelTypesWhenItMeetsAnother) {
  EXPECT_THAT(error_of(with(dense_config(), "model_type", "gpt2")),
              AllOf(HasSubstr("DIR/config.json"), HasSubstr("\"gpt2\""),
                    HasSubstr("qwen2_moe, qwen3_moe")));
  EXPECT_THAT(error_of(without(dense_config(), "model_type")), HasSubstr("model_type is missing"));
}

TEST(Config, RefusesShapesThatDoNotFit) {
  EXPECT_THAT(error_of(with(dense_config(), "head_dim", 15)), HasSubstr("head_dim is 15"));
  EXPECT_THAT(error_of(with(dense_config(), "num_key_value_heads", 3)),
              AllOf(HasSubstr("num_key_value_heads is 3"), HasSubstr("divisor")));
  EXPECT_THAT(error_of(with(without(dense_config(), "head_dim"), "hidden_size", 66)),
              HasSubstr("head_dim is missing"));
  EXPECT_THAT(error_of(with(dense_config(), "head_dim", kMaxWidth / 2)), HasSubstr("limit"));
  EXPECT_THAT(error_of(with(moe_config(), "num_experts_per_tok", 9)),
              AllOf(HasSubstr("num_experts_per_tok is 9"), HasSubstr("from 1 to 8")));
  EXPECT_THAT(error_of(with(dense_config(), "hidden_act", "relu")), HasSubstr("\"relu\""));
}

// Every count that must exist, with everything that is no count of that kind.
TEST(Config, RefusesAbsurdCountsByName) {
  const json absurd = {0,   -1,  1e18, 1000000000000000000, 2.5,
                       3.0, "4", true, json::array(),       json::object()};
  for (const char* key :
       {"num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
        "head_dim", "vocab_size", "max_position_embeddings", "num_experts", "num_experts_per_tok",
        "moe_intermediate_size", "decoder_sparse_step"}) {
    for (const json& value : absurd) {
      EXPECT_THAT(error_of(with(moe_config(), key, value)),
                  AllOf(HasSubstr("DIR/config.json: " + std::string(key) + " is "),
                        HasSubstr("expected an integer from 1 to")))
          << key << " = " << value;
    }
  }
}

TEST(Config, RefusesOtherTypesByName) {
  const std::initializer_list<std::pair<const char*, json>> wrong = {
      {"rms_norm_eps", "1e-6"},    {"rms_norm_eps", -1.0},   {"tie_word_embeddings", 1},
      {"attention_bias", "false"}, {"hidden_act", 3},        {"rope_theta", "big"},
      {"rope_scaling", "default"}, {"rope_scaling", {1, 2}}, {"use_sliding_window", 0},
      {"layer_types", "full"},     {"layer_types", {1, 2}},  {"model_type", 3},
      {"norm_topk_prob", "yes"},   {"mlp_only_layers", 2},   {"mlp_only_layers", {-1}},
      {"quantization", {1, 2, 3}}, {"eos_token_id", "</s>"}, {"eos_token_id", -1}};
  for (const auto& [key, value] : wrong) {
    EXPECT_THAT(error_of(with(moe_config(), key, value)),
                AllOf(HasSubstr(std::string("DIR/config.json: ") + key), HasSubstr("expected")))
        << key << " = " << value;
  }
}

TEST(Config, RefusesWhatIsNoObject) {
  for (const char* text : {"", "[]", "3", "null", "{", "{\"model_type\": \"qwen3\"", "{} {}",
                           "{\"a\": NaN}", "\xff\xfe"}) {
    EXPECT_THROW(parse_config(text, "config.json"), Error) << text;
  }
}

TEST(Config, SurvivesDeepNestingAndLongTexts) {
  const std::string deep = "{\"a\": " + std::string(1'000'000, '[');
  EXPECT_THROW(parse_config(deep, "config.json"), Error);
  const std::string at_limit = "{\"a\": " + std::string(kMaxConfigDepth - 1, '[') +
                               std::string(kMaxConfigDepth - 1, ']') + "}";
  EXPECT_THROW(
      {
        try {
          parse_config(at_limit, "config.json");
        } catch (const Error& error) {
          EXPECT_THAT(error.what(), HasSubstr("model_type is missing"));
          throw;
        }
      },
      Error);
  const std::string long_value(1'000'000, 'x');
  // Beside the value, which is cut, that message names all families.
  const size_t families = error_of(with(dense_config(), "model_type", "x")).size();
  EXPECT_LT(error_of(with(dense_config(), "model_type", long_value)).size(), families + 100);
  EXPECT_LT(error_of(with(dense_config(), "hidden_size", long_value)).size(), 300u);
}

TEST(Config, LetsTheLastOfDuplicateKeysCount) {
  std::string text = dense_config().dump();
  text.insert(1, "\"vocab_size\": 999,");
  EXPECT_EQ(parse_config(text, "config.json").vocabulary, 257u);
}

class ConfigFile : public testing::Test {
 protected:
  ConfigFile() : directory_(testing::TempDir() + "sluice_config_" + std::to_string(::getpid())) {
    std::filesystem::create_directories(directory_);
  }
  ~ConfigFile() override { std::filesystem::remove_all(directory_); }
  void write(const char* name, const std::string& text) {
    std::ofstream(directory_ / name, std::ios::binary) << text;
  }
  std::filesystem::path directory_;
};

TEST_F(ConfigFile, IsReadFromTheModelDirectory) {
  write("config.json", moe_config().dump());
  EXPECT_EQ(read_config(directory_).experts, 8u);
}

TEST_F(ConfigFile, MustExistAndBeAFile) {
  EXPECT_THROW(read_config(directory_), Error);
  EXPECT_THROW(read_config(directory_ / "nowhere"), Error);
  std::filesystem::create_directory(directory_ / "config.json");
  EXPECT_THROW(read_config(directory_), Error);
}

TEST_F(ConfigFile, MayNotBeHuge) {
  write("config.json", "");
  std::filesystem::resize_file(directory_ / "config.json", kMaxConfigBytes + 1);
  EXPECT_THROW(read_config(directory_), Error);
}

TEST_F(ConfigFile, OfGenerationIsOptional) {
  const GenerationConfig config = read_generation_config(directory_);
  EXPECT_FALSE(config.temperature.has_value());
  EXPECT_FALSE(config.do_sample.has_value());
  EXPECT_THAT(config.eos_ids, IsEmpty());
}

TEST(GenerationConfig, ReadsSamplingAndEndTokens) {
  const GenerationConfig config = parse_generation_config(
      R"({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05,
          "repetition_penalty": 1.1, "eos_token_id": [151645, 151643], "pad_token_id": -1})",
      "generation_config.json");
  EXPECT_EQ(config.do_sample, true);
  EXPECT_EQ(config.temperature, 0.6f);
  EXPECT_EQ(config.top_k, 20u);
  EXPECT_EQ(config.top_p, 0.95f);
  EXPECT_EQ(config.min_p, 0.05f);
  EXPECT_EQ(config.repetition_penalty, 1.1f);
  EXPECT_THAT(config.eos_ids, ElementsAre(151645u, 151643u));
}

TEST(GenerationConfig, RefusesValuesOutOfRangeByName) {
  for (const char* text :
       {R"({"temperature": -0.1})", R"({"temperature": "hot"})", R"({"top_k": -1})",
        R"({"top_k": 2.5})", R"({"top_p": 1.5})", R"({"min_p": -1})", R"({"do_sample": 1})",
        R"({"repetition_penalty": 0})", R"({"eos_token_id": -2})", "[]"}) {
    EXPECT_THROW(parse_generation_config(text, "generation_config.json"), Error) << text;
  }
}

}  // namespace
}  // namespace sluice
