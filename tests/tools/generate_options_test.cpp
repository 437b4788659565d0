#include "tools/generate_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "tools/program.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// With the two arguments that must be there.
ParsedCommandLine parse(std::initializer_list<std::string> more) {
  std::vector<std::string> arguments = {"--model", "DIR", "--prompt", "text"};
  arguments.insert(arguments.end(), more);
  return parse_generate_options(std::move(arguments));
}

GenerateOptions options(std::initializer_list<std::string> more) {
  ParsedCommandLine parsed = parse(more);
  EXPECT_TRUE(parsed.options.has_value()) << parsed.text;
  return parsed.options.value_or(GenerateOptions{});
}

TEST(GenerateOptions, NeedAModelAndAPromptAlone) {
  const GenerateOptions defaults = options({});
  EXPECT_EQ(defaults.model, "DIR");
  EXPECT_EQ(defaults.prompt, "text");
  EXPECT_EQ(defaults.max_tokens, 256u);
  EXPECT_FALSE(defaults.temperature.has_value());
  EXPECT_FALSE(defaults.seed.has_value());
  EXPECT_EQ(defaults.model_options.budget.kind, BudgetRequest::Kind::automatic);
  EXPECT_EQ(defaults.model_options.context, 0u);
  EXPECT_EQ(defaults.model_options.compute, Compute::int16);
}

TEST(GenerateOptions, AreAllRead) {
  const GenerateOptions read = options({"--max-tokens",
                                        "9",
                                        "--min-tokens",
                                        "3",
                                        "--temp",
                                        "0.5",
                                        "--top-k",
                                        "40",
                                        "--top-p",
                                        "0.9",
                                        "--min-p",
                                        "0.1",
                                        "--repeat-penalty",
                                        "1.2",
                                        "--repeat-last-n",
                                        "32",
                                        "--seed",
                                        "18446744073709551615",
                                        "--stop",
                                        "a",
                                        "--stop",
                                        "b c",
                                        "--cache-budget-gb",
                                        "0.25",
                                        "--context",
                                        "100",
                                        "--threads",
                                        "3",
                                        "--io-backend",
                                        "pread",
                                        "--io-depth",
                                        "4",
                                        "--io-bounce",
                                        "on",
                                        "--lookahead",
                                        "5",
                                        "--compute",
                                        "f32",
                                        "--prefill-chunk",
                                        "64",
                                        "--policy",
                                        "lfru",
                                        "--pin-file",
                                        "pin.json",
                                        "--no-hotlist",
                                        "--trace",
                                        "trace.jsonl",
                                        "--trace-prefill",
                                        "--ignore-eos",
                                        "--print-ids",
                                        "--dump-logits",
                                        "l",
                                        "--stats-json",
                                        "s"});
  EXPECT_EQ(read.max_tokens, 9u);
  EXPECT_EQ(read.min_tokens, 3u);
  EXPECT_EQ(read.temperature, 0.5f);
  EXPECT_EQ(read.top_k, 40u);
  EXPECT_EQ(read.top_p, 0.9f);
  EXPECT_EQ(read.min_p, 0.1f);
  EXPECT_EQ(read.repetition_penalty, 1.2f);
  EXPECT_EQ(read.repeat_last_n, 32u);
  EXPECT_EQ(read.seed, 18446744073709551615u);
  EXPECT_THAT(read.stops, ElementsAre("a", "b c"));
  EXPECT_EQ(read.model_options.budget.bytes, 250'000'000u);
  EXPECT_EQ(read.model_options.context, 100u);
  EXPECT_EQ(read.model_options.threads, 3u);
  EXPECT_EQ(read.model_options.io_backend, ReadBackend::pread);
  EXPECT_EQ(read.model_options.io_depth, 4u);
  EXPECT_EQ(read.model_options.bounce, Bounce::on);
  EXPECT_EQ(read.model_options.look_ahead, 5u);
  EXPECT_EQ(read.model_options.compute, Compute::f32);
  EXPECT_EQ(read.model_options.prefill_chunk, 64u);
  EXPECT_EQ(read.model_options.cache_policy, "lfru");
  EXPECT_EQ(read.model_options.pin_file, "pin.json");
  EXPECT_TRUE(read.model_options.no_hotlist);
  EXPECT_EQ(read.model_options.trace_file, "trace.jsonl");
  EXPECT_TRUE(read.model_options.trace_prefill);
  EXPECT_TRUE(read.ignore_eos);
  EXPECT_TRUE(read.print_ids);
  EXPECT_EQ(read.dump_logits, "l");
  EXPECT_EQ(read.stats_json, "s");
}

TEST(GenerateOptions, LookAheadByThemselvesUnlessToldHowFar) {
  EXPECT_EQ(options({}).model_options.look_ahead, std::nullopt);
  EXPECT_EQ(options({"--lookahead", "auto"}).model_options.look_ahead, std::nullopt);
  EXPECT_EQ(options({"--lookahead", "off"}).model_options.look_ahead, 0u);
}

TEST(GenerateOptions, HaveSecondNames) {
  const GenerateOptions read = options({"--temperature", "0", "--repetition-penalty", "1.1"});
  EXPECT_EQ(read.temperature, 0.0f);
  EXPECT_EQ(read.repetition_penalty, 1.1f);
}

TEST(GenerateOptions, TakeTextsThatLookLikeOptionsOrLists) {
  EXPECT_THAT(options({"--stop", "[a,b]", "--stop", "a,b"}).stops, ElementsAre("[a,b]", "a,b"));
  for (const char* prompt : {"--what?", "[1, 2]", "", "\"quoted\"", " spaced ", "%x"}) {
    const ParsedCommandLine parsed = parse_generate_options({"--model", "DIR", "--prompt", prompt});
    ASSERT_TRUE(parsed.options.has_value()) << parsed.text;
    EXPECT_EQ(parsed.options->prompt, prompt);
  }
}

TEST(GenerateOptions, RefuseWrongValuesWithWhatWasExpected) {
  const std::initializer_list<std::pair<const char*, const char*>> wrong = {
      {"--max-tokens", "-1"},     {"--max-tokens", "1e3"},    {"--top-k", "2.5"},
      {"--top-p", "1.01"},        {"--top-p", "nan"},         {"--min-p", "-0.1"},
      {"--temp", "inf"},          {"--temp", "warm"},         {"--repeat-penalty", "0"},
      {"--seed", "-1"},           {"--context", "0"},         {"--threads", "0"},
      {"--io-backend", "aio"},    {"--io-depth", "5000"},     {"--compute", "f16"},
      {"--prefill-chunk", "0"},   {"--policy", "fifo"},       {"--cache-budget-gb", "lots"},
      {"--io-bounce", "maybe"},   {"--lookahead", "some"},    {"--lookahead", "-1"},
      {"--cache-budget-gb", "0"}, {"--top-k", "99999999999"}, {"--stop", ""}};
  for (const auto& [option, value] : wrong) {
    const ParsedCommandLine parsed = parse({option, value});
    EXPECT_FALSE(parsed.options.has_value()) << option << " " << value;
    EXPECT_EQ(parsed.exit_status, kUsageExit) << option << " " << value;
    EXPECT_THAT(parsed.text, AllOf(HasSubstr("stream-generate: "), HasSubstr(option),
                                   HasSubstr("expected"), HasSubstr("--help")));
  }
}

TEST(GenerateOptions, NeedExactlyOnePrompt) {
  EXPECT_EQ(parse_generate_options({"--model", "DIR"}).exit_status, kUsageExit);
  EXPECT_EQ(parse({"--prompt-ids", "1"}).exit_status, kUsageExit);
  EXPECT_EQ(parse({"--prompt-file", "-"}).exit_status, kUsageExit);
  EXPECT_TRUE(parse_generate_options({"--model", "D", "--prompt-file", "-"}).options.has_value());
  EXPECT_TRUE(parse_generate_options({"--model", "D", "--prompt-ids", "1 2"}).options.has_value());
}

TEST(GenerateOptions, RefuseWhatDoesNotGoTogetherOrIsUnknown) {
  EXPECT_EQ(parse({"--min-tokens", "257"}).exit_status, kUsageExit);
  EXPECT_EQ(parse({"--max-tokens"}).exit_status, kUsageExit);
  EXPECT_EQ(parse({"--no-such-option"}).exit_status, kUsageExit);
  EXPECT_EQ(parse({"stray"}).exit_status, kUsageExit);
  EXPECT_EQ(parse_generate_options({}).exit_status, kUsageExit);
}

TEST(GenerateOptions, SayWhatGoesToTheChatTemplate) {
  EXPECT_TRUE(options({}).chat_template);
  EXPECT_FALSE(options({}).system.has_value());
  const GenerateOptions chat =
      options({"--system", "", "--chat-template-kwargs", R"({"enable_thinking": false})"});
  EXPECT_EQ(chat.system, "");
  EXPECT_EQ(chat.template_variables, R"({"enable_thinking": false})");
  EXPECT_FALSE(options({"--no-chat-template"}).chat_template);
}

TEST(GenerateOptions, RefuseChatOptionsThatNothingUses) {
  EXPECT_EQ(parse({"--system", "a", "--no-chat-template"}).exit_status, kUsageExit);
  EXPECT_EQ(parse({"--chat-template-kwargs", "{}", "--no-chat-template"}).exit_status, kUsageExit);
  const std::vector<std::string> ids = {"--model", "D", "--prompt-ids", "1", "--system", "a"};
  EXPECT_EQ(parse_generate_options(ids).exit_status, kUsageExit);
  for (const char* wrong : {"{", "[]", "1", "{\"a\": }"}) {
    const ParsedCommandLine parsed = parse({"--chat-template-kwargs", wrong});
    EXPECT_EQ(parsed.exit_status, kUsageExit) << wrong;
    EXPECT_THAT(parsed.text, HasSubstr("--chat-template-kwargs")) << wrong;
  }
}

TEST(GenerateOptions, ExplainThemselves) {
  const ParsedCommandLine help = parse_generate_options({"--help"});
  EXPECT_FALSE(help.options.has_value());
  EXPECT_EQ(help.exit_status, 0);
  EXPECT_THAT(help.text, AllOf(HasSubstr("--cache-budget-gb"), HasSubstr("Example:")));
  size_t column = 0;
  for (const char letter : help.text) {
    column = letter == '\n' ? 0 : column + 1;
    ASSERT_LE(column, 100u) << help.text;
  }
  EXPECT_EQ(parse_generate_options({"--version"}).text,
            std::string("stream-generate ") + version() + "\n");
}

TEST(Sampling, PrefersTheCommandLineThenTheModelThenDefaults) {
  const GenerationConfig empty;
  const SamplingOptions built_in = resolve_sampling(options({}), empty, 7);
  EXPECT_EQ(built_in.temperature, 0.7f);
  EXPECT_EQ(built_in.top_p, 0.95f);
  EXPECT_EQ(built_in.top_k, 0u);
  EXPECT_EQ(built_in.min_p, 0.0f);
  EXPECT_EQ(built_in.repetition_penalty, 1.0f);
  EXPECT_EQ(built_in.penalty_window, 64u);
  EXPECT_EQ(built_in.seed, 7u);

  GenerationConfig model;
  model.temperature = 0.6f;
  model.top_k = 20;
  model.top_p = 0.8f;
  model.min_p = 0.02f;
  model.repetition_penalty = 1.05f;
  const SamplingOptions of_model = resolve_sampling(options({}), model, 0);
  EXPECT_EQ(of_model.temperature, 0.6f);
  EXPECT_EQ(of_model.top_k, 20u);
  EXPECT_EQ(of_model.top_p, 0.8f);
  EXPECT_EQ(of_model.min_p, 0.02f);
  EXPECT_EQ(of_model.repetition_penalty, 1.05f);

  const SamplingOptions mixed =
      resolve_sampling(options({"--temp", "0", "--top-k", "0", "--top-p", "1"}), model, 0);
  EXPECT_EQ(mixed.temperature, 0.0f);
  EXPECT_EQ(mixed.top_k, 0u);
  EXPECT_EQ(mixed.top_p, 1.0f);
  EXPECT_EQ(mixed.min_p, 0.02f);
}

TEST(Sampling, IsGreedyWhereTheModelSaysSoUnlessATemperatureIsGiven) {
  GenerationConfig model;
  model.do_sample = false;
  model.temperature = 0.6f;
  EXPECT_EQ(resolve_sampling(options({}), model, 0).temperature, 0.0f);
  EXPECT_EQ(resolve_sampling(options({"--temp", "1"}), model, 0).temperature, 1.0f);
  model.do_sample = true;
  EXPECT_EQ(resolve_sampling(options({}), model, 0).temperature, 0.6f);
}

}  // namespace
}  // namespace sluice
