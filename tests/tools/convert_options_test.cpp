// The command line of stream-convert.

#include "tools/convert_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice {
namespace {

ParsedConvert parse(std::vector<std::string> further) {
  std::vector<std::string> arguments = {"--model", "in", "--out", "out"};
  arguments.insert(arguments.end(), further.begin(), further.end());
  return parse_convert_options(arguments);
}

TEST(ConvertOptionsTest, DefaultsAreThreeBitsInRecordsWithinTwoGigabytes) {
  const ParsedConvert parsed = parse({});
  ASSERT_TRUE(parsed.command);
  const ConvertOptions& options = parsed.command->options;
  EXPECT_EQ(options.model, "in");
  EXPECT_EQ(options.out, "out");
  EXPECT_EQ(options.settings.bits, 3u);
  EXPECT_EQ(options.settings.group, 64u);
  EXPECT_EQ(options.settings.layout, ConvertLayout::records);
  EXPECT_FALSE(options.settings.attn_bits || options.settings.expert_bits);
  EXPECT_EQ(options.memory_bytes, 2'000'000'000u);
  EXPECT_FALSE(options.verify || parsed.command->report);
}

TEST(ConvertOptionsTest, EveryOptionReachesItsSetting) {
  const ParsedConvert parsed = parse({"--bits",
                                      "8",
                                      "--attn-bits",
                                      "4",
                                      "--expert-bits",
                                      "3",
                                      "--expert-down-bits",
                                      "2",
                                      "--group-size",
                                      "128",
                                      "--layout",
                                      "mlx",
                                      "--keep-head",
                                      "--shard-gb",
                                      "0.5",
                                      "--threads",
                                      "3",
                                      "--memory-gb",
                                      "1.5",
                                      "--report",
                                      "r.json"});
  ASSERT_TRUE(parsed.command) << parsed.end.text;
  const ConvertOptions& options = parsed.command->options;
  EXPECT_EQ(options.settings.text(),
            "bits 8, attn-bits 4, expert-bits 3, expert-down-bits 2, group-size 128, layout mlx, "
            "keep-head, shards of 500000000 bytes");
  EXPECT_EQ(options.threads, 3u);
  EXPECT_EQ(options.memory_bytes, 1'500'000'000u);
  EXPECT_EQ(parsed.command->report, "r.json");
}

TEST(ConvertOptionsTest, VerifiesRecordsAndRefusesToVerifyWhereThereAreNone) {
  const ParsedConvert records = parse({"--verify"});
  ASSERT_TRUE(records.command);
  EXPECT_TRUE(records.command->options.verify);
  const ParsedConvert stacked = parse({"--verify", "--layout", "mlx"});
  EXPECT_FALSE(stacked.command);
  EXPECT_NE(stacked.end.text.find("has none"), std::string::npos) << stacked.end.text;
  EXPECT_EQ(stacked.end.exit_status, 2);
}

TEST(ConvertOptionsTest, WrongValuesSayWhatWasExpected) {
  const std::vector<std::vector<std::string>> wrong = {
      {"--bits", "5"},          {"--expert-down-bits", "x"}, {"--group-size", "48"},
      {"--layout", "records,"}, {"--threads", "0"},          {"--memory-gb", "nan"},
      {"--shard-gb", "0"}};
  for (const std::vector<std::string>& arguments : wrong) {
    const ParsedConvert parsed = parse(arguments);
    EXPECT_FALSE(parsed.command) << arguments[0];
    EXPECT_EQ(parsed.end.exit_status, kUsageExit) << arguments[0];
    EXPECT_THAT(parsed.end.text, testing::HasSubstr(arguments[0]));
    EXPECT_THAT(parsed.end.text, testing::HasSubstr("expected"));
  }
}

}  // namespace
}  // namespace sluice
