// stream-generate's logits, dumped by the program itself, are the same file to the byte under every
// instruction set, budget, back end and thread count.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "kernels/kernels.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

class Identity : public testing::Test {
 protected:
  // The dump of one run with these extra settings ("SLUICE_ISA=scalar") and flags.
  std::string dump(const std::string& model, const std::string& environment,
                   const std::string& flags) {
    const std::string file = directory_ + "/dump.safetensors";
    const std::string command = "env " + environment + " " SLUICE_GENERATE " --model '" + model +
                                "' --prompt-ids 5,17,40,99,23,7,150,201,3,8,64,128 --temp 0" +
                                " --max-tokens 6 --ignore-eos --print-ids --dump-logits '" + file +
                                "' " + flags + " > '" + directory_ + "/out' 2> '" + directory_ +
                                "/err'";
    const int status = std::system(command.c_str());
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << command << "\n" << read("err");
    return read("dump.safetensors");
  }

  std::string read(const std::string& name) const {
    std::ifstream file(directory_ + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const TemporaryDirectory temporary_;
  const std::string directory_ = temporary_.path().string();
};

TEST_F(Identity, EveryInstructionSetGivesTheSameDump) {
  for (const char* model :
       {SLUICE_DEMO_MODEL, SLUICE_TEST_DATA "/goldens/qwen3_moe",
        SLUICE_TEST_DATA "/goldens/tq3a_tq2e_qwen3_moe",
        SLUICE_TEST_DATA "/goldens/tq3_qwen3_moe_h20_h28",
        SLUICE_TEST_DATA "/goldens/tq3_qwen3_5_moe", SLUICE_TEST_DATA "/goldens/nemotron_h"}) {
    for (const char* compute : {"int16", "f32"}) {
      const std::string flags = std::string("--cache-budget-gb all --compute ") + compute;
      const std::string expected = dump(model, "SLUICE_ISA=scalar", flags);
      ASSERT_FALSE(expected.empty());
      for (const auto& [isa, name] :
           {std::pair(kernels::Isa::avx2, "avx2"), std::pair(kernels::Isa::avx512, "avx512"),
            std::pair(kernels::Isa::amx, "amx")}) {
        if (!kernels::supported(isa)) {
          std::fprintf(stderr, "skipped: this processor does not run %s\n", name);
          continue;
        }
        EXPECT_TRUE(dump(model, std::string("SLUICE_ISA=") + name, flags) == expected)
            << model << " " << compute << " " << name;
      }
    }
  }
}

TEST_F(Identity, BudgetsBackEndsThreadsAndChunksGiveTheSameDump) {
  const std::string expected = dump(SLUICE_DEMO_MODEL, "", "--cache-budget-gb all --threads 1");
  ASSERT_FALSE(expected.empty());
  for (const char* flags : {"--cache-budget-gb 0.001 --threads 2 --io-backend pread --io-depth 1",
                            "--cache-budget-gb 0.005 --threads 3 --io-depth 64",
                            "--cache-budget-gb 0.011 --threads 2 --prefill-chunk 5"}) {
    EXPECT_TRUE(dump(SLUICE_DEMO_MODEL, "", flags) == expected) << flags;
  }
}

}  // namespace
}  // namespace sluice
