#include "tools/evaluate_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/error.h"
#include "tests/io/temporary_directory.h"
#include "tools/program.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

EvaluateOptions parsed(std::vector<std::string> arguments) {
  const ParsedEvaluateOptions result = parse_evaluate_options(std::move(arguments));
  EXPECT_TRUE(result.options.has_value()) << result.text;
  return result.options.value_or(EvaluateOptions());
}

std::string refused(std::vector<std::string> arguments) {
  const ParsedEvaluateOptions result = parse_evaluate_options(std::move(arguments));
  EXPECT_FALSE(result.options.has_value());
  EXPECT_EQ(result.exit_status, kUsageExit);
  return result.text;
}

TEST(EvaluateOptions, HaveTheConventionsDefaults) {
  const EvaluateOptions options = parsed({"--model", "a/b", "--file", "t"});
  EXPECT_EQ(options.windows.context, 512u);
  EXPECT_EQ(options.model_options.context, 512u);
  EXPECT_EQ(options.windows.stride, 0u);
  EXPECT_EQ(options.windows.most, 0u);
  EXPECT_THAT(options.computes, ElementsAre(Compute::int16));
  EXPECT_EQ(options.reference_compute, Compute::f32);
  EXPECT_FALSE(options.reference.has_value());
}

TEST(EvaluateOptions, TakeSeveralModelsFilesAndSettings) {
  const EvaluateOptions options = parsed({"--model",
                                          "x=/m/one",
                                          "--model",
                                          "/m/two/",
                                          "--file",
                                          "a",
                                          "--file",
                                          "b",
                                          "--compute",
                                          "f32,int16",
                                          "--reference",
                                          "/m/ref",
                                          "--context",
                                          "256",
                                          "--stride",
                                          "64",
                                          "--max-windows",
                                          "9",
                                          "--cache-budget-gb",
                                          "2"});
  ASSERT_EQ(options.models.size(), 2u);
  EXPECT_EQ(options.models[0].label, "x");
  EXPECT_EQ(options.models[0].directory, "/m/one");
  EXPECT_EQ(options.models[1].label, "two");
  EXPECT_EQ(options.models[1].directory, "/m/two/");
  EXPECT_THAT(options.files, ElementsAre("a", "b"));
  EXPECT_THAT(options.computes, ElementsAre(Compute::f32, Compute::int16));
  EXPECT_EQ(options.reference->label, "ref");
  EXPECT_EQ(options.windows.context, 256u);
  EXPECT_EQ(options.windows.stride, 64u);
  EXPECT_EQ(options.windows.most, 9u);
  EXPECT_EQ(options.model_options.budget.bytes, 2'000'000'000u);
}

TEST(EvaluateOptions, RefuseWhatCannotBeMeasured) {
  EXPECT_THAT(refused({"--file", "t"}), HasSubstr("--model is required"));
  EXPECT_THAT(refused({"--model", "m"}), HasSubstr("--file is required"));
  const auto with = [](std::string option, std::string value) {
    return std::vector<std::string>{"--model",       "m", "--file", "t", std::move(option),
                                    std::move(value)};
  };
  EXPECT_THAT(refused(with("--compute", "int16,")), HasSubstr("expected int16, f32"));
  EXPECT_THAT(refused(with("--compute", "f32,f32")), HasSubstr("expected int16, f32"));
  EXPECT_THAT(refused(with("--stride", "512")), HasSubstr("stride"));
  EXPECT_THAT(refused(with("--context", "3")), HasSubstr("too short"));
  EXPECT_THAT(refused(with("--max-windows", "0")), HasSubstr("expected an integer"));
  EXPECT_THAT(refused(with("--model", "=m")), HasSubstr("LABEL=DIRECTORY"));
}

TEST(EvaluateOptions, ADirectoryThatExistsMayHaveAnEqualsSign) {
  const TemporaryDirectory temporary;
  const std::string directory = temporary.file("a=b");
  std::filesystem::create_directory(directory);
  EXPECT_EQ(parse_labelled_model(directory).directory, directory);
  EXPECT_EQ(parse_labelled_model(directory).label, "a=b");
  EXPECT_THROW(parse_labelled_model(""), Error);
  EXPECT_THROW(parse_labelled_model("a="), Error);
}

TEST(EvaluateOptions, HelpStatesTheConvention) {
  const ParsedEvaluateOptions result = parse_evaluate_options({"--help"});
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.text, HasSubstr("llama.cpp"));
  EXPECT_THAT(result.text, HasSubstr("context - context/2 - 1"));
}

}  // namespace
}  // namespace sluice
