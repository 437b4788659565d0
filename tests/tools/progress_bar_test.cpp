#include "tools/progress_bar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr ProgressBar::Clock::time_point kStart{};

struct Screen {
  std::vector<std::string> writes;
  ProgressBar bar;
  Screen(ProgressBar::Unit unit, bool terminal)
      : bar({.label = "loading", .unit = unit, .terminal = terminal, .start = kStart},
            [this](std::string_view text) { writes.emplace_back(text); }) {}
};

TEST(ProgressBar, ShowsNothingForShortSteps) {
  for (const bool terminal : {false, true}) {
    Screen screen(ProgressBar::Unit::bytes, terminal);
    screen.bar.update(500, 1000, kStart + 500ms);
    screen.bar.update(1000, 1000, kStart + 999ms);
    screen.bar.finish();
    EXPECT_THAT(screen.writes, IsEmpty());
  }
}

TEST(ProgressBar, OnATerminalDrawsABarWithRateAndTimeLeft) {
  Screen screen(ProgressBar::Unit::bytes, true);
  screen.bar.update(1'000'000'000, 4'000'000'000, kStart + 2s);
  EXPECT_THAT(screen.writes,
              ElementsAre("\rloading [======                  ] 1.00 GB of 4.00 GB, 500 MB/s, "
                          "6 s left\x1b[K"));
}

TEST(ProgressBar, OnATerminalIsRedrawnAtMostTenTimesASecond) {
  Screen screen(ProgressBar::Unit::bytes, true);
  for (uint64_t ms = 0; ms < 3000; ++ms) {
    screen.bar.update(ms, 3001, kStart + std::chrono::milliseconds(ms));
  }
  EXPECT_EQ(screen.writes.size(), 20u);  // in the two seconds after the first
  screen.bar.update(3001, 3001, kStart + 3000ms);
  EXPECT_EQ(screen.writes.size(), 21u);  // the end is always shown
}

TEST(ProgressBar, OnATerminalIsErasedOnceAtTheEnd) {
  Screen screen(ProgressBar::Unit::bytes, true);
  screen.bar.update(1, 2, kStart + 2s);
  screen.bar.finish();
  screen.bar.finish();
  ASSERT_EQ(screen.writes.size(), 2u);
  EXPECT_EQ(screen.writes.back(), "\r\x1b[K");
}

TEST(ProgressBar, ElsewhereWritesAtMostALineForATenth) {
  Screen screen(ProgressBar::Unit::tokens, false);
  for (uint64_t done = 0; done <= 1000; ++done) {
    screen.bar.update(done, 1000, kStart + 1s + std::chrono::milliseconds(done));
  }
  ASSERT_EQ(screen.writes.size(), 10u);
  EXPECT_THAT(screen.writes[4], StartsWith("loading: 50 %, 500 of 1000 tokens, 333/s, 2 s left"));
  EXPECT_THAT(screen.writes.back(), HasSubstr("100 %"));
  for (const std::string& line : screen.writes) EXPECT_THAT(line, EndsWith("\n"));
}

TEST(ProgressBar, SurvivesOddNumbers) {
  for (const bool terminal : {false, true}) {
    Screen screen(ProgressBar::Unit::bytes, terminal);
    screen.bar.update(0, 0, kStart + 5s);
    screen.bar.update(0, 10, kStart + 5s);
    screen.bar.update(20, 10, kStart + 6s);
    EXPECT_THAT(screen.writes.back(), HasSubstr("10 B of 10 B"));
  }
}

}  // namespace
}  // namespace sluice
