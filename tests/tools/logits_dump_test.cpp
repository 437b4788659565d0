#include "tools/logits_dump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "io/error.h"
#include "io/safetensors.h"

namespace sluice {
namespace {

using testing::ElementsAre;

class LogitsDumpFile : public testing::Test {
 protected:
  LogitsDumpFile()
      : directory_(testing::TempDir() + "sluice_logits_" + std::to_string(::getpid())),
        path_((directory_ / "logits.safetensors").string()) {
    std::filesystem::create_directories(directory_);
  }
  ~LogitsDumpFile() override { std::filesystem::remove_all(directory_); }

  template <class Number>
  std::vector<Number> read(const TensorInfo& tensor) const {
    std::ifstream file(path_, std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    std::vector<Number> numbers(tensor.size_bytes / sizeof(Number));
    std::memcpy(numbers.data(), bytes.data() + tensor.offset, tensor.size_bytes);
    return numbers;
  }

  std::filesystem::path directory_;
  std::string path_;
};

TEST_F(LogitsDumpFile, HoldsEveryPositionsLogitsAndId) {
  LogitsDump dump(path_, 3);
  const std::vector<float> first = {0.5f, -1.0f, 2.0f};
  const std::vector<float> second = {3.0f, 4.0f, -0.0f};
  dump.add(7, first);
  dump.add(4'000'000'000, second);
  dump.finish();
  const SafetensorsHeader header = read_safetensors_header(path_);
  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].name, "logits");
  EXPECT_EQ(header.tensors[0].dtype, DType::f32);
  EXPECT_THAT(header.tensors[0].shape, ElementsAre(2u, 3u));
  EXPECT_THAT(read<float>(header.tensors[0]), ElementsAre(0.5f, -1.0f, 2.0f, 3.0f, 4.0f, -0.0f));
  EXPECT_EQ(header.tensors[1].name, "token_ids");
  EXPECT_EQ(header.tensors[1].dtype, DType::i64);
  EXPECT_THAT(read<int64_t>(header.tensors[1]), ElementsAre(7, 4'000'000'000));
}

TEST_F(LogitsDumpFile, LeavesNothingBehindUnlessFinished) {
  {
    LogitsDump dump(path_, 1);
    const std::vector<float> logits = {1.0f};
    dump.add(0, logits);
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(LogitsDumpFile, SaysWhenItCannotBeCreated) {
  EXPECT_THROW(LogitsDump((directory_ / "nowhere" / "x").string(), 1), Error);
}

}  // namespace
}  // namespace sluice
