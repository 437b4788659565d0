#include "io/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/error.h"
#include "io/safetensors_writer.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kIndex = "model.safetensors.index.json";

// A shard of tensors of 4 bytes each, with its own name as metadata.
void write_shard(const TemporaryDirectory& directory, const std::string& name,
                 const std::vector<std::string>& tensors) {
  std::vector<TensorInfo> infos;
  for (const std::string& tensor : tensors) {
    infos.push_back({.name = tensor, .dtype = DType::u8, .shape = {4}});
  }
  SafetensorsWriter writer(directory.file(name), infos, {.metadata = {{"shard", name}}});
  writer.write(std::vector<std::byte>(4 * tensors.size()));
  writer.finish();
}

std::string refusal(const TemporaryDirectory& directory) {
  try {
    Checkpoint::open(directory.path());
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "was accepted";
  return "";
}

class CheckpointTest : public ::testing::Test {
 protected:
  void write_index(const std::string& weight_map) {
    directory_.write(
        kIndex, R"({"metadata":{"total_size":[1,{"x":null}]},"weight_map":)" + weight_map + "}");
  }
  void write_two_shards() {
    write_shard(directory_, "model-1.safetensors", {"a", "b"});
    write_shard(directory_, "model-2.safetensors", {"c"});
  }
  TemporaryDirectory directory_;
};

TEST_F(CheckpointTest, WithoutAnIndexAllShardsAreReadInTheOrderOfTheirNames) {
  write_shard(directory_, "b.safetensors", {"z"});
  write_shard(directory_, "a.safetensors", {"y", "x"});
  directory_.write("c.safetensors.17-0.partial", std::string_view("half"));
  directory_.write("config.json", std::string_view("{}"));
  const Checkpoint checkpoint = Checkpoint::open(directory_.path());
  EXPECT_THAT(checkpoint.files(),
              ElementsAre(directory_.file("a.safetensors"), directory_.file("b.safetensors")));
  std::vector<std::string> names;
  for (const TensorInfo& tensor : checkpoint.tensors()) names.push_back(tensor.name);
  EXPECT_THAT(names, ElementsAre("y", "x", "z"));
  EXPECT_EQ(checkpoint.at("z").file, 1u);
  EXPECT_EQ(checkpoint.at("x").file, 0u);
  EXPECT_EQ(checkpoint.metadata(1).at("shard"), "b.safetensors");
  EXPECT_EQ(checkpoint.file_bytes()[0],
            std::filesystem::file_size(directory_.file("a.safetensors")));
  EXPECT_EQ(checkpoint.directory(), directory_.path());
}

TEST_F(CheckpointTest, FindIsNullAndAtThrowsForANameThatIsNotThere) {
  write_two_shards();
  const Checkpoint checkpoint = Checkpoint::open(directory_.path());
  EXPECT_EQ(checkpoint.find("absent"), nullptr);
  try {
    checkpoint.at("absent");
    FAIL() << "was found";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr("absent"), HasSubstr(directory_.path().string())));
  }
}

TEST_F(CheckpointTest, NamesAreFoundAfterItMoved) {
  write_two_shards();
  std::optional<Checkpoint> first = Checkpoint::open(directory_.path());
  const Checkpoint second = std::move(*first);
  first.reset();
  EXPECT_EQ(second.at("c").name, "c");
}

TEST_F(CheckpointTest, AnIndexSaysWhichShardsBelongToTheModel) {
  write_two_shards();
  write_shard(directory_, "other.safetensors", {"a"});
  write_index(R"({"a":"model-1.safetensors","b":"model-1.safetensors","c":"model-2.safetensors"})");
  const Checkpoint checkpoint = Checkpoint::open(directory_.path());
  EXPECT_EQ(checkpoint.files().size(), 2u);
  EXPECT_EQ(checkpoint.tensors().size(), 3u);
}

TEST_F(CheckpointTest, TensorsThatTheIndexDoesNotNameAreIndexedAllTheSame) {
  write_two_shards();
  write_index(R"({"a":"model-1.safetensors","c":"model-2.safetensors"})");
  EXPECT_NE(Checkpoint::open(directory_.path()).find("b"), nullptr);
}

TEST_F(CheckpointTest, ShardsAndIndexMayBeSymlinks) {
  std::filesystem::create_directory(directory_.file("blobs"));
  std::filesystem::create_directory(directory_.file("snapshot"));
  write_shard(directory_, "blobs/0123", {"a"});
  directory_.write("blobs/4567", std::string_view(R"({"weight_map":{"a":"model.safetensors"}})"));
  std::filesystem::create_symlink("../blobs/0123", directory_.file("snapshot/model.safetensors"));
  EXPECT_NE(Checkpoint::open(directory_.file("snapshot")).find("a"), nullptr);
  std::filesystem::create_symlink("../blobs/4567",
                                  directory_.file("snapshot/model.safetensors.index.json"));
  EXPECT_NE(Checkpoint::open(directory_.file("snapshot")).find("a"), nullptr);
}

TEST_F(CheckpointTest, ABrokenSymlinkIsAnErrorNotAnAbsence) {
  write_two_shards();
  std::filesystem::create_symlink("nowhere", directory_.file("model-3.safetensors"));
  EXPECT_THAT(refusal(directory_), HasSubstr("model-3.safetensors"));
  std::filesystem::remove(directory_.file("model-3.safetensors"));
  std::filesystem::create_symlink("nowhere", directory_.file(kIndex));
  EXPECT_THAT(refusal(directory_), HasSubstr(kIndex));
}

TEST_F(CheckpointTest, AMissingShardIsNamed) {
  write_two_shards();
  write_index(R"({"a":"model-1.safetensors","d":"model-3.safetensors"})");
  EXPECT_THAT(refusal(directory_),
              testing::AllOf(HasSubstr("model-3.safetensors"), HasSubstr("missing")));
}

TEST_F(CheckpointTest, ANameInTwoShardsIsRefused) {
  write_two_shards();
  write_shard(directory_, "model-3.safetensors", {"d", "b"});
  EXPECT_THAT(refusal(directory_),
              testing::AllOf(HasSubstr("tensor \"b\""), HasSubstr("model-1.safetensors"),
                             HasSubstr("model-3.safetensors")));
  write_index(R"({"b":"model-1.safetensors","d":"model-3.safetensors"})");
  EXPECT_THAT(refusal(directory_), HasSubstr("tensor \"b\""));
}

TEST_F(CheckpointTest, AnIndexThatNamesATensorWhichIsNotThereIsRefused) {
  write_two_shards();
  write_index(R"({"a":"model-1.safetensors","d":"model-2.safetensors"})");
  EXPECT_THAT(refusal(directory_), testing::AllOf(HasSubstr("tensor \"d\""), HasSubstr("nowhere")));
}

TEST_F(CheckpointTest, AnIndexThatPutsATensorInTheWrongShardIsRefused) {
  write_two_shards();
  write_index(R"({"a":"model-2.safetensors","b":"model-1.safetensors"})");
  EXPECT_THAT(refusal(directory_),
              testing::AllOf(HasSubstr("tensor \"a\""), HasSubstr("model-1.safetensors")));
}

TEST_F(CheckpointTest, AnIndexCannotNameFilesOutsideTheDirectory) {
  write_two_shards();
  for (const std::string name : {"", ".", "..", "../model-1.safetensors", "/etc/passwd", "sub/x",
                                 "model-1.safetensors\\u0000.txt"}) {
    write_index(R"({"a":")" + name + R"("})");
    EXPECT_THAT(refusal(directory_), HasSubstr("plain name")) << name;
  }
}

TEST_F(CheckpointTest, DamagedIndexesAreRefused) {
  write_two_shards();
  const std::string nested = R"({"metadata":)" + std::string(1'000'000, '[');
  for (const std::string index :
       {"", "{", "[]", "7", "{}", R"({"weight_map":1})", R"({"weight_map":[]})",
        R"({"weight_map":{}})", R"({"weight_map":{"a":1}})", R"({"weight_map":{"a":["x"]}})",
        R"({"weight_map":{"a":{}}})", R"({"weight_map":{"a":"model-1.safetensors"}} x)",
        R"({"weight_map":{"a":"model-1.safetensors","a":"model-1.safetensors"}})",
        R"({"weight_map":{"a":"model-1.safetensors"},"weight_map":{"b":"model-1.safetensors"}})",
        R"({"other":{"weight_map":{"a":"model-1.safetensors"}}})", nested.c_str()}) {
    directory_.write(kIndex, std::string_view(index));
    EXPECT_THAT(refusal(directory_), HasSubstr(kIndex)) << index.substr(0, 100);
  }
}

TEST_F(CheckpointTest, AnIndexBeyondTheLimitIsRefusedUnread) {
  write_two_shards();
  std::filesystem::resize_file(directory_.write(kIndex, std::string_view()), uint64_t{1} << 40);
  EXPECT_THAT(refusal(directory_), HasSubstr("bytes, more than"));
}

TEST_F(CheckpointTest, ADirectoryWithoutShardsOrNoDirectoryIsRefused) {
  EXPECT_THAT(refusal(directory_), HasSubstr("model directory"));
  EXPECT_THROW(Checkpoint::open(directory_.file("absent")), Error);
  EXPECT_THROW(Checkpoint::open(directory_.write("file", std::string_view("x"))), Error);
}

TEST_F(CheckpointTest, ADamagedShardIsNamed) {
  write_two_shards();
  std::filesystem::resize_file(directory_.file("model-2.safetensors"), 20);
  EXPECT_THAT(refusal(directory_), HasSubstr("model-2.safetensors"));
}

}  // namespace
}  // namespace sluice
