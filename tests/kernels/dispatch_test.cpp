// Which table is picked, and what SLUICE_ISA does. Each case of the variable needs a process of its
// own, since the choice is made once: death tests run in the "threadsafe" style, which starts one.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>

#include "kernels/kernels.h"

namespace sluice::kernels {
namespace {

constexpr Isa kIsas[] = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::amx};
constexpr const char* kNames[] = {"scalar", "avx2", "avx512", "amx"};

class DispatchDeathTest : public testing::Test {
 protected:
  DispatchDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  [[noreturn]] static void pick(const char* isa) {
    if (isa == nullptr) {
      unsetenv("SLUICE_ISA");
    } else {
      setenv("SLUICE_ISA", isa, 1);
    }
    std::fprintf(stderr, "picked %s", table().name);
    std::exit(0);
  }
};

TEST(Dispatch, GivesEachSupportedTableUnderItsName) {
  EXPECT_TRUE(supported(Isa::scalar));
  for (size_t i = 0; i < std::size(kIsas); ++i) {
    if (!supported(kIsas[i])) continue;
    EXPECT_EQ(table(kIsas[i]).isa, kIsas[i]);
    EXPECT_STREQ(table(kIsas[i]).name, kNames[i]);
  }
}

TEST(Dispatch, Avx512ImpliesAvx2) {
  if (!supported(Isa::avx512)) GTEST_SKIP() << "this processor or compiler lacks avx512";
  EXPECT_TRUE(supported(Isa::avx2));
}

TEST(Dispatch, AmxImpliesAvx512) {
  if (!supported(Isa::amx)) GTEST_SKIP() << "this processor or compiler lacks amx";
  EXPECT_TRUE(supported(Isa::avx512));
}

TEST_F(DispatchDeathTest, PicksTheBestTableWhenNothingIsAsked) {
  const char* best = "";
  for (size_t i = 0; i < std::size(kIsas); ++i) {
    if (supported(kIsas[i])) best = kNames[i];
  }
  const std::string expected = std::string("picked ") + best;
  EXPECT_EXIT(pick(nullptr), testing::ExitedWithCode(0), expected);
  EXPECT_EXIT(pick(""), testing::ExitedWithCode(0), expected);
}

TEST_F(DispatchDeathTest, PicksTheTableThatIsNamed) {
  for (size_t i = 0; i < std::size(kIsas); ++i) {
    if (!supported(kIsas[i])) {
      EXPECT_EXIT(pick(kNames[i]), testing::ExitedWithCode(2), "this processor lacks it");
      continue;
    }
    EXPECT_EXIT(pick(kNames[i]), testing::ExitedWithCode(0), std::string("picked ") + kNames[i]);
  }
}

TEST_F(DispatchDeathTest, EndsWithAMessageForAnUnknownName) {
  EXPECT_EXIT(pick("AVX2"), testing::ExitedWithCode(2),
              "SLUICE_ISA=AVX2: no such table; expected scalar, avx2, avx512 or amx");
}

}  // namespace
}  // namespace sluice::kernels
