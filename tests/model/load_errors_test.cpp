// Checkpoints that are not what config.json says: each is refused with a message that names what is
// wrong, before anything is computed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/error.h"
#include "io/safetensors_writer.h"
#include "model/session.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Tensor {
  TensorInfo info;
  std::string bytes;
};
using Tensors = std::map<std::string, Tensor>;

class LoadErrors : public testing::Test {
 protected:
  // Copies a golden case as one shard, spoiled, and returns what loading it says.
  std::string load_spoiled(const std::string& name, const std::function<void(Tensors&)>& spoil) {
    write(name, spoil);
    return load();
  }

  void write(const std::string& name, const std::function<void(Tensors&)>& spoil) {
    const std::string golden = std::string(SLUICE_TEST_DATA "/goldens/") + name;
    const Checkpoint checkpoint = Checkpoint::open(golden);
    Tensors tensors;
    for (const TensorInfo& info : checkpoint.tensors()) {
      std::ifstream file(checkpoint.files()[info.file], std::ios::binary);
      file.seekg(static_cast<std::streamoff>(info.offset));
      std::string bytes(info.size_bytes, '\0');
      file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      tensors[info.name] = {info, std::move(bytes)};
    }
    spoil(tensors);
    std::vector<TensorInfo> infos;
    for (auto& [tensor_name, tensor] : tensors) {
      tensor.info.name = tensor_name;
      infos.push_back(tensor.info);
    }
    SafetensorsWriter writer(directory_.file("model.safetensors"), infos, {});
    for (const auto& [tensor_name, tensor] : tensors) {
      writer.write(std::as_bytes(std::span(tensor.bytes)));
    }
    writer.finish();
    std::filesystem::copy_file(golden + "/config.json", directory_.file("config.json"),
                               std::filesystem::copy_options::overwrite_existing);
  }

  std::string load() {
    try {
      Model::load(directory_.path().string(), {});
    } catch (const Error& error) {
      return error.what();
    }
    return "loaded";
  }

  const TemporaryDirectory directory_;
};

const char* const kQuery = "model.layers.1.self_attn.q_proj.weight";

TEST_F(LoadErrors, TheCopyItselfLoads) {
  EXPECT_EQ(load_spoiled("qwen3_moe", [](Tensors&) {}), "loaded");
  EXPECT_EQ(load_spoiled("tq3_qwen3_moe", [](Tensors&) {}), "loaded");
}

TEST_F(LoadErrors, AMissingTensorIsNamed) {
  for (const char* name :
       {kQuery, "model.norm.weight", "lm_head.weight", "model.embed_tokens.weight",
        "model.layers.0.mlp.gate.weight", "model.layers.2.mlp.experts.5.up_proj.weight"}) {
    EXPECT_THAT(load_spoiled("qwen3_moe", [&](Tensors& t) { t.erase(name); }), HasSubstr(name));
  }
  for (const char* name :
       {"model.layers.1.self_attn.q_proj.scales", "model.layers.1.self_attn.q_proj.signs",
        "model.layers.1.mlp.switch_mlp.down_proj.codebook"}) {
    EXPECT_THAT(load_spoiled("tq3_qwen3_moe", [&](Tensors& t) { t.erase(name); }), HasSubstr(name));
  }
}

// Every single one of a layer of each kind: a layer that keeps a state has many small tensors.
TEST_F(LoadErrors, AMissingOrRenamedTensorOfARecurrentModelIsNamed) {
  for (const auto& [golden, layers] :
       {std::pair("qwen3_5", "03"), std::pair("qwen3_next", "0"), std::pair("nemotron_h", "012")}) {
    std::vector<std::string> names;
    EXPECT_EQ(load_spoiled(golden,
                           [&](Tensors& tensors) {
                             for (const auto& [name, tensor] : tensors) names.push_back(name);
                           }),
              "loaded");
    for (const std::string& name : names) {
      if (name.find(".experts.") != name.npos) continue;  // tests/stream/expert_layout_test.cpp
      if (name.starts_with("mtp.") || name.starts_with("model.visual.")) continue;
      const size_t layer = name.find("layers.");
      if (layer != name.npos && std::string(layers).find(name[layer + 7]) == std::string::npos) {
        continue;
      }
      EXPECT_THAT(load_spoiled(golden, [&](Tensors& t) { t.erase(name); }), HasSubstr(name));
      const std::string renamed = name + "_";
      EXPECT_THAT(load_spoiled(golden, [&](Tensors& t) { t[renamed] = t[name]; }),
                  HasSubstr(renamed));
    }
  }
}

TEST_F(LoadErrors, ATensorOfAnotherShapeOrTypeIsNamedWithWhatWasExpected) {
  const std::string transposed = load_spoiled("qwen3_moe", [](Tensors& t) {
    t[kQuery].info.shape = {32, 128};
  });
  EXPECT_THAT(transposed, AllOf(HasSubstr(kQuery), HasSubstr("[32, 128]"), HasSubstr("[64, 64]")));
  const std::string integers =
      load_spoiled("qwen3_moe", [](Tensors& t) { t[kQuery].info.dtype = DType::i16; });
  EXPECT_THAT(integers, AllOf(HasSubstr(kQuery), HasSubstr("I16"), HasSubstr("BF16")));
}

TEST_F(LoadErrors, ATensorThatNobodyAskedForIsNamed) {
  const std::string bias = "model.layers.1.self_attn.q_proj.bias";
  const auto add_bias = [&](Tensors& t) {
    t[bias] = {t[kQuery].info, std::string(128, '\0')};
    t[bias].info.shape = {64};
  };
  EXPECT_THAT(load_spoiled("qwen3_moe", add_bias), HasSubstr(bias));
}

TEST_F(LoadErrors, AQuantizationThatIsNotSupportedIsNamed) {
  const auto add = [](const std::string& suffix) {
    return [suffix](Tensors& t) {
      Tensor extra = t[kQuery];
      t["model.layers.1.self_attn.q_proj." + suffix] = std::move(extra);
    };
  };
  for (const char* suffix : {"weight_scale_inv", "scales", "qweight"}) {
    EXPECT_THAT(load_spoiled("qwen3_moe", add(suffix)),
                AllOf(HasSubstr(std::string("q_proj.") + suffix), HasSubstr("not supported")));
  }
}

TEST_F(LoadErrors, DamagedSignsAndCodebooksAreNamed) {
  const std::string signs = "model.layers.1.self_attn.q_proj.signs";
  EXPECT_THAT(load_spoiled("tq3_qwen3_moe", [&](Tensors& t) { t[signs].bytes[5] = '\x41'; }),
              AllOf(HasSubstr(signs), HasSubstr("damaged")));
  const std::string codebook = "model.layers.1.mlp.switch_mlp.down_proj.codebook";
  EXPECT_THAT(
      load_spoiled("tq3_qwen3_moe",
                   [&](Tensors& t) { std::swap(t[codebook].bytes[1], t[codebook].bytes[15]); }),
      AllOf(HasSubstr(codebook), HasSubstr("ascending")));
}

TEST_F(LoadErrors, WhatAFamilyAddsIsNamedWhenItIsMissing) {
  const std::initializer_list<std::pair<const char*, const char*>> parts = {
      {"glm4_moe", "model.layers.1.mlp.gate.e_score_correction_bias"},
      {"glm4_moe", "model.layers.2.mlp.shared_experts.up_proj.weight"},
      {"glm4_moe", "model.layers.0.mlp.down_proj.weight"},
      {"glm4_moe", "model.layers.0.self_attn.k_proj.bias"},
      {"minimax_m2", "model.layers.1.block_sparse_moe.e_score_correction_bias"},
      {"minimax_m2", "model.layers.1.self_attn.q_norm.weight"},
      {"mixtral", "model.layers.2.block_sparse_moe.experts.7.w2.weight"},
      {"olmoe", "model.layers.0.self_attn.k_norm.weight"},
      {"qwen2", "model.layers.0.self_attn.v_proj.bias"},
      {"qwen2_moe", "model.layers.1.mlp.shared_expert_gate.weight"},
      {"qwen2_moe", "model.layers.1.mlp.shared_expert.gate_proj.weight"},
      {"llama", "model.layers.2.mlp.up_proj.weight"},
      {"deepseek_v2", "model.layers.0.self_attn.q_a_proj.weight"},
      {"deepseek_v2", "model.layers.1.self_attn.q_a_layernorm.weight"},
      {"deepseek_v2_lite", "model.layers.0.self_attn.q_proj.weight"},
      {"deepseek_v3", "model.layers.2.self_attn.kv_a_proj_with_mqa.weight"},
      {"deepseek_v3", "model.layers.2.self_attn.kv_a_layernorm.weight"},
      {"deepseek_v3", "model.layers.0.self_attn.kv_b_proj.weight"},
      {"deepseek_v3", "model.layers.1.mlp.gate.e_score_correction_bias"},
      {"deepseek_v32", "model.layers.0.self_attn.indexer.k_norm.bias"},
      {"deepseek_v32", "model.layers.1.self_attn.indexer.wk.weight"},
      {"deepseek_v32", "model.layers.2.self_attn.indexer.weights_proj.weight"}};
  for (const auto& part : parts) {
    const std::string name = part.second;
    EXPECT_THAT(load_spoiled(part.first, [&](Tensors& t) { ASSERT_EQ(t.erase(name), 1u) << name; }),
                HasSubstr(name))
        << part.first;
  }
}

// What one family computes with would be left out by its neighbour.
TEST_F(LoadErrors, WhatAnotherFamilyHasIsNamedWhenItIsTooMuch) {
  const std::initializer_list<std::pair<const char*, const char*>> parts = {
      {"deepseek_v2_lite", "model.layers.0.self_attn.q_a_proj.weight"},
      {"deepseek_v2", "model.layers.1.mlp.gate.e_score_correction_bias"},
      {"deepseek_v3", "model.layers.1.self_attn.indexer.wk.weight"},
      {"deepseek_v32", "model.layers.1.self_attn.kv_b_proj.bias"},
      {"deepseek_v32", "model.layers.3.self_attn.kv_b_proj.weight"}};
  for (const auto& part : parts) {
    const std::string name = part.second;
    const auto add = [&](Tensors& t) {
      Tensor copy = t["model.layers.1.self_attn.kv_a_layernorm.weight"];
      t[name] = std::move(copy);
    };
    EXPECT_THAT(load_spoiled(part.first, add), HasSubstr(name)) << part.first;
  }
}

// A norm over all heads is no norm per head, and the other way round.
TEST_F(LoadErrors, ANormOfAnotherWidthIsNamed) {
  const std::string norm = "model.layers.0.self_attn.q_norm.weight";
  for (const char* family : {"olmoe", "glm4_moe"}) {
    const auto widen = [&](Tensors& t) {
      t[norm].bytes.resize(2 * 32);
      t[norm].info.shape = {32};
    };
    EXPECT_THAT(load_spoiled(family, widen), AllOf(HasSubstr(norm), HasSubstr("[32]"))) << family;
  }
}

TEST_F(LoadErrors, LayersForDraftingMayBeThereOrNot) {
  const auto add = [](const std::string& name) {
    return [name](Tensors& t) {
      Tensor copy = t["model.layers.1.mlp.experts.3.up_proj.weight"];
      t[name] = std::move(copy);
    };
  };
  EXPECT_EQ(load_spoiled("glm4_moe", add("model.layers.3.mlp.experts.3.up_proj.weight")), "loaded");
  EXPECT_EQ(load_spoiled("deepseek_v3", add("model.layers.3.self_attn.kv_b_proj.weight")),
            "loaded");
  const std::string beyond = "model.layers.4.mlp.experts.3.up_proj.weight";
  EXPECT_THAT(load_spoiled("glm4_moe", add(beyond)), HasSubstr(beyond));
}

TEST_F(LoadErrors, QuantizedEmbeddingsAreRefusedAsSuch) {
  for (const auto& [suffix, message] :
       {std::pair{"scales", "tensor model.embed_tokens.scales"},
        {"weight_scale_inv", "tensor model.embed_tokens.weight_scale_inv"},
        {"codebook", "tensor model.embed_tokens.codebook: embeddings quantized like this"}}) {
    const std::string name = std::string("model.embed_tokens.") + suffix;
    const auto add = [&](Tensors& t) {
      Tensor copy = t[kQuery];
      t[name] = std::move(copy);
    };
    EXPECT_THAT(load_spoiled("qwen3_moe", add),
                AllOf(HasSubstr(message), HasSubstr("not supported")));
  }
}

TEST_F(LoadErrors, AShardCutShortIsRefusedWhereverItWasCut) {
  write("qwen3_moe", [](Tensors&) {});
  const std::string shard = directory_.file("model.safetensors");
  const uint64_t size = std::filesystem::file_size(shard);
  for (uint64_t cut = size - 1; cut > 0; cut = cut * 2 / 3) {
    std::filesystem::resize_file(shard, cut);
    EXPECT_THAT(load(), HasSubstr("model.safetensors")) << "cut to " << cut;
  }
}

TEST_F(LoadErrors, AnUnreadableDirectoryIsNamed) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read every directory";
  write("qwen3_moe", [](Tensors&) {});
  std::filesystem::permissions(directory_.path(), std::filesystem::perms::none);
  EXPECT_THAT(load(), HasSubstr(directory_.path().string()));
  std::filesystem::permissions(directory_.path(), std::filesystem::perms::owner_all);
}

}  // namespace
}  // namespace sluice
