// Converting a checkpoint several times larger than --memory-gb stays within it.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "tests/io/temporary_directory.h"
#include "tests/model/synthetic_checkpoint.h"

namespace sluice {
namespace {

constexpr uint64_t kMemoryBytes = 60'000'000;

TEST(ConvertMemory, StaysWithinMemoryGbWhateverTheSizeOfTheModel) {
#if defined(SLUICE_SANITIZED)
  GTEST_SKIP() << "a sanitizer's own memory hides the program's";
#endif
  const TemporaryDirectory directory;
  const std::string model = directory.file("model");
  // 48 MB of embeddings and head each, 106 MB of experts.
  write_synthetic_checkpoint(model, {.layers = 3,
                                     .hidden = 768,
                                     .heads = 8,
                                     .kv_heads = 2,
                                     .head_dim = 64,
                                     .vocabulary = 32000,
                                     .experts = 30,
                                     .experts_per_token = 2,
                                     .expert_intermediate = 256});
  ASSERT_GT(std::filesystem::file_size(model + "/model.safetensors"), 3 * kMemoryBytes);
  const std::string out = directory.file("out");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::execl(SLUICE_CONVERT, "stream-convert", "--model", model.c_str(), "--out", out.c_str(),
            "--memory-gb", "0.06", "--threads", "2", nullptr);
    ::_exit(127);
  }
  int status = 0;
  struct rusage usage {};
  ASSERT_EQ(::wait4(child, &status, 0, &usage), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_TRUE(std::filesystem::exists(out + "/config.json"));
  EXPECT_LE(static_cast<uint64_t>(usage.ru_maxrss) * 1024, kMemoryBytes);
}

}  // namespace
}  // namespace sluice
