// A written model directory: whole under its name, or not there; what a killed run leaves is no
// model.

#include "model/model_directory_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "io/checkpoint.h"
#include "io/error.h"
#include "io/safetensors_writer.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using Unfinished = ModelDirectoryWriter::Unfinished;

void write_shard(const fs::path& path, const std::string& tensor) {
  TensorInfo info;
  info.name = tensor;
  info.dtype = DType::u8;
  info.shape = {3};
  SafetensorsWriter writer(path.string(), {info}, {});
  writer.write(std::as_bytes(std::span("abc", 3)));
  writer.finish();
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// A directory as a killed process leaves it.
void leave_unfinished(const fs::path& out) {
  ModelDirectoryWriter writer(out, Unfinished::resume);
  write_shard(writer.directory() / "model-00001-of-00002.safetensors", "a");
  std::ofstream(writer.directory() / "model-00002-of-00002.safetensors.7-0.partial") << "half";
}

TEST(ModelDirectoryWriter, FinishedDirectoryHasItsNameAndAnIndexOfItsShards) {
  const TemporaryDirectory directory;
  const fs::path out = directory.path() / "out";
  ModelDirectoryWriter writer(out, Unfinished::start_over);
  write_shard(writer.directory() / "model-00001-of-00001.safetensors", "b");
  write_shard(writer.directory() / "experts-00001-of-00001.safetensors", "a");
  EXPECT_FALSE(fs::exists(out));
  writer.finish("{\"x\": 1}");

  EXPECT_THAT(directory.names(), testing::ElementsAre("out"));
  std::ifstream index_file(out / "model.safetensors.index.json");
  const auto index = nlohmann::json::parse(index_file);
  EXPECT_EQ(index["weight_map"]["a"], "experts-00001-of-00001.safetensors");
  EXPECT_EQ(index["weight_map"]["b"], "model-00001-of-00001.safetensors");
  EXPECT_EQ(index["metadata"]["total_size"], 6);
  EXPECT_EQ(Checkpoint::open(out).tensors().size(), 2);
  EXPECT_EQ(read_text_file((out / "config.json").string(), 100), "{\"x\": 1}");
  EXPECT_FALSE(fs::exists(out / ".sluice-unfinished"));
}

TEST(ModelDirectoryWriter, SideFilesAreCopiedAndWeightsAreNot) {
  const TemporaryDirectory directory;
  const fs::path source = directory.path() / "source";
  fs::create_directories(source / "folder");
  for (const char* name : {"tokenizer.json", "LICENSE", "config.json", "model.safetensors",
                           "model.safetensors.index.json", "pytorch_model.bin", ".gitattributes",
                           "hot_experts.json"}) {
    std::ofstream(source / name) << "content of " << name;
  }
  fs::create_symlink(source / "tokenizer.json", source / "linked.json");
  ModelDirectoryWriter writer(directory.path() / "out", Unfinished::start_over);
  writer.copy_side_files(source, {"hot_experts.json"});

  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(writer.directory())) {
    names.push_back(entry.path().filename());
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre(".sluice-unfinished", "tokenizer.json",
                                                   "LICENSE", "linked.json"));
  EXPECT_FALSE(fs::is_symlink(writer.directory() / "linked.json"));
  EXPECT_EQ(read_text_file((writer.directory() / "linked.json").string(), 100),
            "content of tokenizer.json");
}

TEST(ModelDirectoryWriter, AnExistingTargetIsRefusedAndUntouched) {
  const TemporaryDirectory directory;
  fs::create_directory(directory.path() / "out");
  std::ofstream(directory.path() / "out" / "precious") << "x";
  const std::string error =
      error_of([&] { ModelDirectoryWriter(directory.path() / "out/", Unfinished::start_over); });
  EXPECT_THAT(error, testing::HasSubstr("exists already"));
  EXPECT_THAT(directory.names(), testing::ElementsAre("out"));
  EXPECT_TRUE(fs::exists(directory.path() / "out" / "precious"));
}

TEST(ModelDirectoryWriter, ATargetThatAppearsMeanwhileIsNotOverwritten) {
  const TemporaryDirectory directory;
  const fs::path out = directory.path() / "out";
  {
    ModelDirectoryWriter writer(out, Unfinished::start_over);
    write_shard(writer.directory() / "model.safetensors", "a");
    fs::create_directory(out);
    EXPECT_THAT(error_of([&] { writer.finish("{}"); }), testing::HasSubstr("exists already"));
  }
  EXPECT_THAT(directory.names(), testing::ElementsAre("out"));
  EXPECT_TRUE(fs::is_empty(out));
}

TEST(ModelDirectoryWriter, DyingUnfinishedLeavesNothing) {
  const TemporaryDirectory directory;
  {
    ModelDirectoryWriter writer(directory.path() / "out", Unfinished::start_over);
    write_shard(writer.directory() / "model.safetensors", "a");
  }
  EXPECT_TRUE(directory.names().empty());
}

TEST(ModelDirectoryWriter, WhatAKilledRunLeftIsNoModelAndStartingOverRemovesIt) {
  const TemporaryDirectory directory;
  const fs::path out = directory.path() / "out";
  leave_unfinished(out);
  EXPECT_FALSE(fs::exists(directory.path() / "out.unfinished" / "config.json"));
  ModelDirectoryWriter writer(out, Unfinished::start_over);
  EXPECT_FALSE(writer.resumed());
  EXPECT_FALSE(fs::exists(writer.directory() / "model-00001-of-00002.safetensors"));
}

TEST(ModelDirectoryWriter, ResumingKeepsFinishedShardsAlone) {
  const TemporaryDirectory directory;
  const fs::path out = directory.path() / "out";
  leave_unfinished(out);
  ModelDirectoryWriter writer(out, Unfinished::resume);
  EXPECT_TRUE(writer.resumed());
  EXPECT_TRUE(fs::exists(writer.directory() / "model-00001-of-00002.safetensors"));
  EXPECT_EQ(Checkpoint::open(writer.directory()).files().size(), 1);
  EXPECT_FALSE(fs::exists(writer.directory() / "model-00002-of-00002.safetensors.7-0.partial"));
}

TEST(ModelDirectoryWriter, AnEmptyDirectoryOfAKilledRunIsTakenOver) {
  const TemporaryDirectory directory;
  fs::create_directory(directory.path() / "out.unfinished");
  ModelDirectoryWriter writer(directory.path() / "out", Unfinished::start_over);
  write_shard(writer.directory() / "model.safetensors", "a");
  writer.finish("{}");
  EXPECT_THAT(directory.names(), testing::ElementsAre("out"));
}

TEST(ModelDirectoryWriter, TwoAtOnceAreRefused) {
  const TemporaryDirectory directory;
  const fs::path out = directory.path() / "out";
  const ModelDirectoryWriter first(out, Unfinished::start_over);
  EXPECT_THAT(error_of([&] { ModelDirectoryWriter(out, Unfinished::start_over); }),
              testing::HasSubstr("another process"));
}

TEST(ModelDirectoryWriter, ADirectoryOfSomebodyElseIsNotRemoved) {
  const TemporaryDirectory directory;
  fs::create_directory(directory.path() / "out.unfinished");
  std::ofstream(directory.path() / "out.unfinished" / "precious") << "x";
  EXPECT_THAT(
      error_of([&] { ModelDirectoryWriter(directory.path() / "out", Unfinished::start_over); }),
      testing::HasSubstr("not left by Sluice"));
  EXPECT_TRUE(fs::exists(directory.path() / "out.unfinished" / "precious"));
}

TEST(ModelDirectoryWriter, AMissingParentIsNamed) {
  EXPECT_THAT(error_of([] { ModelDirectoryWriter("/nowhere/out", Unfinished::start_over); }),
              testing::HasSubstr("/nowhere/out.unfinished"));
}

TEST(RequireFreeSpace, SaysWhatIsMissing) {
  require_free_space(fs::temp_directory_path(), 1);
  EXPECT_THAT(error_of([] { require_free_space(fs::temp_directory_path(), uint64_t{1} << 62); }),
              testing::HasSubstr("4.61 EB"));
}

TEST(PlanShards, FillsUpToTheLimitAndNeverSplitsAnItem) {
  using Sizes = std::vector<uint64_t>;
  EXPECT_THAT(plan_shards(Sizes{}, 10), testing::IsEmpty());
  EXPECT_THAT(plan_shards(Sizes{4, 6, 1, 9, 1}, 10), testing::ElementsAre(0, 2, 4));
  EXPECT_THAT(plan_shards(Sizes{40, 1, 40}, 10), testing::ElementsAre(0, 1, 2));
  EXPECT_EQ(shard_name("experts", 1, 7), "experts-00002-of-00007.safetensors");
}

}  // namespace
}  // namespace sluice
