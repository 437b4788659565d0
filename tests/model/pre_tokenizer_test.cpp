#include "model/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/error.h"

namespace sluice {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> words(const std::string& component, const std::string& text,
                               bool from_start = true) {
  const PreTokenizer pre_tokenizer(json::parse(component), "test");
  const Words result = pre_tokenizer.split(text, from_start);
  std::vector<std::string> list;
  for (const auto [begin, end] : result.spans) {
    list.push_back(result.text.substr(begin, end - begin));
  }
  return list;
}

std::string split(const std::string& behavior, bool invert = false) {
  return json{
      {"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", invert}}
      .dump();
}

TEST(PreTokenizer, WithoutOneTheTextIsOneWord) {
  EXPECT_THAT(words("null", "a b"), ElementsAre("a b"));
  EXPECT_THAT(words("null", ""), IsEmpty());
}

TEST(PreTokenizer, SplitPutsMatchesWhereItsBehaviorSays) {
  const std::string text = "the-final--countdown";
  EXPECT_THAT(words(split("Isolated"), text),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(words(split("Contiguous"), text),
              ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(words(split("Removed"), text), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(words(split("MergedWithPrevious"), text),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(words(split("MergedWithNext"), text),
              ElementsAre("the", "-final", "-", "-countdown"));
}

TEST(PreTokenizer, SplitAtTheEdgesOfTheTextMakesNoEmptyWords) {
  EXPECT_THAT(words(split("Removed"), "--"), IsEmpty());
  EXPECT_THAT(words(split("MergedWithPrevious"), "-a-"), ElementsAre("-", "a-"));
  EXPECT_THAT(words(split("MergedWithNext"), "-a-"), ElementsAre("-a", "-"));
}

TEST(PreTokenizer, InvertedSplitMatchesTheGaps) {
  EXPECT_THAT(words(split("Removed", true), "ab-c--d"), ElementsAre("-", "-", "-"));
  EXPECT_THAT(words(split("MergedWithPrevious", true), "a-b"), ElementsAre("a", "-b"));
}

TEST(PreTokenizer, DigitsAreIsolatedOneByOneOrTogether) {
  EXPECT_THAT(words(R"({"type":"Digits","individual_digits":true})", "a12b"),
              ElementsAre("a", "1", "2", "b"));
  EXPECT_THAT(words(R"({"type":"Digits","individual_digits":false})", "a12b٣½"),
              ElementsAre("a", "12", "b", "٣½"));
}

TEST(PreTokenizer, ByteLevelSplitsByItsOwnPatternAndWritesBytesAsCharacters) {
  EXPECT_THAT(words(R"({"type":"ByteLevel","add_prefix_space":false})", "I'm 12\n é"),
              ElementsAre("I", "'m", "Ġ12", "Ċ", "ĠÃ©"));
  EXPECT_THAT(words(R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})", "a b"),
              ElementsAre("aĠb"));
}

TEST(PreTokenizer, ByteLevelPutsASpaceBeforeTextThatHasNone) {
  EXPECT_THAT(words(R"({"type":"ByteLevel"})", "a b"), ElementsAre("Ġa", "Ġb"));
  EXPECT_THAT(words(R"({"type":"ByteLevel"})", " a"), ElementsAre("Ġa"));
  // The reference asks for each word, whatever made it.
  EXPECT_THAT(words(R"({"type":"Sequence","pretokenizers":[
      {"type":"Split","pattern":{"String":"-"},"behavior":"Removed","invert":false},
      {"type":"ByteLevel","add_prefix_space":true,"use_regex":false}]})",
                    "a-b"),
              ElementsAre("Ġa", "Ġb"));
}

TEST(PreTokenizer, MetaspacePrependsByItsScheme) {
  const auto metaspace = [](const std::string& scheme, bool split_words) {
    return json{{"type", "Metaspace"},
                {"replacement", "▁"},
                {"prepend_scheme", scheme},
                {"split", split_words}}
        .dump();
  };
  EXPECT_THAT(words(metaspace("always", true), "a  b"), ElementsAre("▁a", "▁", "▁b"));
  EXPECT_THAT(words(metaspace("always", false), "a b"), ElementsAre("▁a▁b"));
  EXPECT_THAT(words(metaspace("always", false), " a"), ElementsAre("▁a"));
  EXPECT_THAT(words(metaspace("never", false), "a b"), ElementsAre("a▁b"));
  EXPECT_THAT(words(metaspace("first", false), "a b", true), ElementsAre("▁a▁b"));
  EXPECT_THAT(words(metaspace("first", false), "a b", false), ElementsAre("a▁b"));
}

TEST(PreTokenizer, MetaspaceUnderstandsOlderFiles) {
  EXPECT_THAT(words(R"({"type":"Metaspace","replacement":"▁","add_prefix_space":true})", "a b"),
              ElementsAre("▁a", "▁b"));
  EXPECT_THAT(words(R"({"type":"Metaspace","replacement":"_","add_prefix_space":false})", "a b"),
              ElementsAre("a", "_b"));
}

TEST(PreTokenizer, MetaspaceFirstMeansTheFirstWordOfTheInputOnly) {
  EXPECT_THAT(words(R"({"type":"Sequence","pretokenizers":[
      {"type":"Split","pattern":{"Regex":"\\d"},"behavior":"Removed","invert":false},
      {"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false}]})",
                    "a1b"),
              ElementsAre("▁a", "b"));
}

TEST(PreTokenizer, WhatItDoesNotKnowIsAnErrorNamingIt) {
  const auto error_of = [](const std::string& component) -> std::string {
    try {
      words(component, "a");
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  using testing::HasSubstr;
  EXPECT_THAT(error_of(R"({"type":"Whitespace"})"), HasSubstr("\"Whitespace\""));
  EXPECT_THAT(error_of(split("Sideways")), HasSubstr("\"Sideways\""));
  EXPECT_THAT(error_of(R"({"type":"Split","pattern":{},"behavior":"Isolated"})"),
              HasSubstr("pattern is neither"));
  EXPECT_THAT(error_of(R"({"type":"Metaspace","replacement":"ab"})"), HasSubstr("one character"));
  EXPECT_THAT(error_of(R"({"type":"Metaspace","prepend_scheme":"last"})"), HasSubstr("\"last\""));
  EXPECT_THAT(error_of(R"({"type":"Sequence"})"), HasSubstr("not an array"));
  EXPECT_THAT(error_of(R"({"type":"Sequence","pretokenizers":[{"type":"Nope"}]})"),
              HasSubstr("test.pretokenizers[0]"));
  EXPECT_THAT(error_of("[]"), HasSubstr("expected a JSON object"));
}

}  // namespace
}  // namespace sluice
