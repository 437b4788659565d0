#include "tools/stop_filter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {
namespace {

// The text that comes out when the input is given in pieces of these sizes, repeated.
std::string filter(std::vector<std::string> stops, std::string_view text,
                   const std::vector<size_t>& sizes) {
  StopFilter filter(std::move(stops));
  std::string out;
  for (size_t i = 0; !text.empty(); ++i) {
    const std::string_view piece = text.substr(0, sizes[i % sizes.size()]);
    out += filter.push(piece);
    text.remove_prefix(piece.size());
  }
  return out + filter.finish();
}

TEST(StopFilter, PassesEverythingWithoutStops) {
  StopFilter filter({});
  EXPECT_EQ(filter.push("any text"), "any text");
  EXPECT_EQ(filter.finish(), "");
  EXPECT_FALSE(filter.stopped());
}

TEST(StopFilter, CutsAtTheStopAndDropsTheRest) {
  StopFilter filter({"END"});
  EXPECT_EQ(filter.push("one END two"), "one ");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("three"), "");
  EXPECT_EQ(filter.finish(), "");
}

TEST(StopFilter, HoldsBackWhatMayBecomeAStop) {
  StopFilter filter({"\n\nUser:"});
  EXPECT_EQ(filter.push("text\n"), "text");
  EXPECT_EQ(filter.push("\nUs"), "");
  EXPECT_EQ(filter.push("ually"), "\n\nUsually");
  EXPECT_EQ(filter.push("\n\nUser"), "");
  EXPECT_FALSE(filter.stopped());
  EXPECT_EQ(filter.push(":"), "");
  EXPECT_TRUE(filter.stopped());
}

TEST(StopFilter, GivesBackAnUnfinishedStopAtTheEnd) {
  StopFilter filter({"STOP"});
  EXPECT_EQ(filter.push("never STO"), "never ");
  EXPECT_EQ(filter.finish(), "STO");
  EXPECT_FALSE(filter.stopped());
}

TEST(StopFilter, FindsAStopThatOverlapsItsOwnBeginning) {
  EXPECT_EQ(filter({"aab"}, "aaab", {1}), "a");
  EXPECT_EQ(filter({"abab"}, "abaabab!", {1}), "aba");
}

TEST(StopFilter, TakesTheStopThatIsCompleteFirst) {
  EXPECT_EQ(filter({"abcd", "bc"}, "abcd", {4}), "a");
  EXPECT_EQ(filter({"abcd", "bc"}, "abcd", {1}), "a");
  EXPECT_EQ(filter({"bc", "abc"}, "xabc", {4}), "x");  // both end there: the longer one
}

// What the filter must do, said as plainly as possible: at every byte, does some stop end here?
std::string model(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 0; end <= text.size(); ++end) {
    const std::string_view head = std::string_view(text).substr(0, end);
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (head.ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

TEST(StopFilter, DoesNotDependOnHowTheTextIsSplit) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    std::mt19937 random(seed);
    const auto up_to = [&](size_t most) { return 1 + random() % most; };
    const auto letters = [&](size_t length) {
      std::string text(length, 'a');
      for (char& letter : text) letter = "abc"[random() % 3];
      return text;
    };
    std::vector<std::string> stops(up_to(3));
    for (std::string& stop : stops) stop = letters(up_to(5));
    const std::string text = letters(up_to(30));
    const std::vector<size_t> sizes = {up_to(4), up_to(4), up_to(4)};
    ASSERT_EQ(filter(stops, text, sizes), model(stops, text)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace sluice
