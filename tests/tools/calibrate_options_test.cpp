#include "tools/calibrate_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/error.h"
#include "tools/calibrate_collect.h"
#include "tools/program.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

CalibrateOptions options(std::vector<std::string> arguments) {
  ParsedCalibrateCommandLine parsed = parse_calibrate_options(std::move(arguments));
  EXPECT_TRUE(parsed.options.has_value()) << parsed.text;
  return parsed.options.value_or(CalibrateOptions{});
}

TEST(CalibrateOptions, OfEveryCommandAreRead) {
  const CalibrateOptions collect =
      options({"collect", "--model", "M", "--out", "t", "--prompts", "p", "--tokens", "9",
               "--cache-budget-gb", "1", "--threads", "2", "--policy", "lfru"});
  EXPECT_EQ(collect.command, CalibrateCommand::collect);
  EXPECT_EQ(collect.model, "M");
  EXPECT_EQ(collect.out, "t");
  EXPECT_EQ(collect.prompts, "p");
  EXPECT_EQ(collect.tokens, 9u);
  EXPECT_EQ(collect.model_options.threads, 2u);
  EXPECT_EQ(collect.model_options.cache_policy, "lfru");

  const CalibrateOptions merge = options({"merge", "a", "b", "--out", "c"});
  EXPECT_EQ(merge.command, CalibrateCommand::merge);
  EXPECT_THAT(merge.traces, ElementsAre("a", "b"));
  EXPECT_EQ(merge.out, "c");

  const CalibrateOptions analyze =
      options({"analyze", "a", "--pin-out", "p", "--pin-gb", "1.5", "--perm-out", "q"});
  EXPECT_EQ(analyze.command, CalibrateCommand::analyze);
  EXPECT_EQ(analyze.pin_gb, 1.5);
  EXPECT_EQ(analyze.pin_out, "p");
  EXPECT_EQ(analyze.perm_out, "q");

  const CalibrateOptions simulate =
      options({"simulate", "a", "b", "--policy", "lfru", "--policy", "lru", "--budget-gb", "0.5",
               "--budget-gb", "2", "--json", "j", "--pin-file", "p"});
  EXPECT_EQ(simulate.command, CalibrateCommand::simulate);
  EXPECT_THAT(simulate.traces, ElementsAre("a", "b"));
  EXPECT_THAT(simulate.policies, ElementsAre("lfru", "lru"));
  EXPECT_THAT(simulate.budgets, ElementsAre(500'000'000, 2'000'000'000));
  EXPECT_EQ(simulate.json, "j");
  EXPECT_EQ(simulate.model_options.pin_file, "p");

  const CalibrateOptions report = options({"report", "a", "--out", "r", "--model", "M"});
  EXPECT_EQ(report.command, CalibrateCommand::report);
  EXPECT_THAT(report.policies, ElementsAre("lru", "lfru"));
  EXPECT_EQ(report.model, "M");
}

TEST(CalibrateOptions, RefuseWhatIsWrong) {
  for (const std::vector<std::string>& wrong : std::vector<std::vector<std::string>>{
           {},
           {"collect"},
           {"collect", "--model", "M"},
           {"collect", "--model", "M", "--out", "t", "--tokens", "0"},
           {"merge", "--out", "t"},
           {"analyze", "t"},
           {"analyze", "t", "--pin-out", "p", "--pin-gb", "1", "--pin-share", "0.1"},
           {"analyze", "t", "--pin-out", "p", "--pin-share", "2"},
           {"simulate"},
           {"simulate", "t", "--policy", "clock"},
           {"simulate", "t", "--budget-gb", "much"},
           {"report", "t"},
           {"dance"}}) {
    const ParsedCalibrateCommandLine parsed = parse_calibrate_options(wrong);
    EXPECT_FALSE(parsed.options.has_value()) << testing::PrintToString(wrong);
    EXPECT_EQ(parsed.exit_status, kUsageExit);
    EXPECT_THAT(parsed.text, HasSubstr("stream-calibrate: "));
  }
}

TEST(CalibrateOptions, ExplainEveryCommandWithinTheScreen) {
  for (const std::vector<std::string>& asked :
       std::vector<std::vector<std::string>>{{"--help"},
                                             {"collect", "--help"},
                                             {"merge", "--help"},
                                             {"analyze", "--help"},
                                             {"simulate", "--help"},
                                             {"report", "--help"}}) {
    const ParsedCalibrateCommandLine help = parse_calibrate_options(asked);
    EXPECT_EQ(help.exit_status, 0);
    size_t column = 0;
    for (const char letter : help.text) {
      column = letter == '\n' ? 0 : column + 1;
      ASSERT_LE(column, 100u) << help.text;
    }
  }
}

TEST(Prompts, AreLinesOrJson) {
  EXPECT_THAT(parse_prompts("one\r\n\n  two \n{\"prompt\": \"a\\nb\", \"kind\": 3}", "p"),
              ElementsAre("one", "  two ", "a\nb"));
}

TEST(Prompts, SayWhichLineIsWrong) {
  const auto error_of = [](const std::string& text) -> std::string {
    try {
      parse_prompts(text, "p");
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(error_of("a\n{\"text\": \"b\"}"), HasSubstr("p: line 2: expected a JSON object"));
  EXPECT_THAT(error_of("{\"prompt\": 3}"), HasSubstr("p: line 1: expected"));
  EXPECT_THAT(error_of("{\"prompt\": \"\"}"), HasSubstr("an empty prompt"));
  EXPECT_THAT(error_of("{" + std::string(1000, '[')), HasSubstr("p: line 1: "));
  EXPECT_THAT(error_of("\xff\n"), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(error_of("\n \n"), HasSubstr("no prompts"));
}

TEST(Prompts, ThatAreBuiltInAreADozenOrMoreAndDiffer) {
  std::vector<std::string> prompts = built_in_prompts();
  EXPECT_EQ(prompts.size(), 20u);
  std::ranges::sort(prompts);
  EXPECT_EQ(std::ranges::adjacent_find(prompts), prompts.end());
}

}  // namespace
}  // namespace sluice
