// Detokenizer and TokenDecoder: decoding token by token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "io/error.h"
#include "model/token_decoder.h"
#include "model/tokenizer.h"
#include "model/utf8.h"
#include "tests/model/tokenizer_cases.h"

namespace sluice {
namespace {

using nlohmann::json;
using testing::ElementsAre;

// What each token made certain, and last what finish() added.
std::vector<std::string> decode_parts(const std::string& component,
                                      const std::vector<std::string>& tokens) {
  const TokenDecoder decoder(json::parse(component), "test");
  TokenDecoder::Stream stream = decoder.stream();
  std::vector<std::string> parts;
  for (const std::string& token : tokens) {
    stream.push(token);
    parts.push_back(stream.take());
  }
  stream.finish();
  parts.push_back(stream.take());
  return parts;
}

std::string decode(const std::string& component, const std::vector<std::string>& tokens) {
  std::string text;
  for (const std::string& part : decode_parts(component, tokens)) text += part;
  return text;
}

constexpr const char* kSentencePiece = R"({"type":"Sequence","decoders":[
    {"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},
    {"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})";

TEST(TokenDecoder, ByteLevelHoldsACharacterBackUntilItIsWhole) {
  EXPECT_THAT(decode_parts(R"({"type":"ByteLevel"})", {"Ġa", "Ã", "©b", "ðŁ", "ĺ", "Ģ"}),
              ElementsAre(" a", "", "éb", "", "", "😀", ""));
}

TEST(TokenDecoder, ByteLevelReplacesWhatNeverBecomesACharacter) {
  EXPECT_THAT(decode_parts(R"({"type":"ByteLevel"})", {"ðŁ", "a", "Ģ", "Ã"}),
              ElementsAre("", "\uFFFDa", "\uFFFD", "", "\uFFFD"));
}

TEST(TokenDecoder, ByteLevelTakesTokensOutsideItsAlphabetAsTheyAre) {
  EXPECT_EQ(decode(R"({"type":"ByteLevel"})", {"Ġ", "<｜end▁of Ġ｜>"}), " <｜end▁of Ġ｜>");
}

TEST(TokenDecoder, SentencePieceLosesOnlyTheFirstSpace) {
  EXPECT_THAT(decode_parts(kSentencePiece, {"▁▁a", "▁b"}), ElementsAre(" a", " b", ""));
  EXPECT_EQ(decode(kSentencePiece, {}), "");
}

TEST(TokenDecoder, ByteFallbackTakesARowOfBytesTogether) {
  EXPECT_THAT(decode_parts(kSentencePiece, {"a", "<0xC3>", "<0xA9>", "b", "<0x0a>"}),
              ElementsAre("a", "", "", "éb", "", "\n"));
  // One broken byte breaks its whole row, character by character.
  EXPECT_EQ(decode(kSentencePiece, {"<0xC3>", "<0xA9>", "<0xFF>", "b"}), "\uFFFD\uFFFD\uFFFDb");
  EXPECT_EQ(decode(kSentencePiece, {"<0xC3>"}), "\uFFFD");
  EXPECT_EQ(decode(kSentencePiece, {"<0xG0>", "<0x410>", "<0x41"}), "<0xG0><0x410><0x41");
}

TEST(TokenDecoder, StripTakesFromBothEndsOfATokenAtMostWhatItSays) {
  const std::string strip = R"({"type":"Strip","content":"-","start":2,"stop":1})";
  EXPECT_EQ(decode(strip, {"---a---", "-b-c", "-", "----"}), "-a--b-c-");
  const std::string fused = R"({"type":"Sequence","decoders":[{"type":"Fuse"},)"
                            R"({"type":"Strip","content":"-","start":0,"stop":2}]})";
  EXPECT_THAT(decode_parts(fused, {"a-", "-", "-b", "---"}), ElementsAre("a", "", "---b", "-", ""));
}

TEST(TokenDecoder, MetaspaceDropsTheMarksOfTheFirstToken) {
  EXPECT_EQ(decode(R"({"type":"Metaspace","replacement":"▁"})", {"▁a▁b", "▁c"}), "ab c");
  EXPECT_EQ(
      decode(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"never"})", {"▁a", "▁c"}),
      " a c");
}

TEST(TokenDecoder, AReplaceBehindAFuseSeesTheWholeText) {
  EXPECT_EQ(decode(R"({"type":"Sequence","decoders":[{"type":"Fuse"},
      {"type":"Replace","pattern":{"Regex":"a+"},"content":"x"}]})",
                   {"ba", "a", "ac"}),
            "bxc");
}

TEST(TokenDecoder, WithoutADecoderTokensAreJoinedBySpaces) {
  EXPECT_EQ(decode("null", {"a", "", "b"}), "a  b");
  EXPECT_EQ(decode("null", {}), "");
}

TEST(TokenDecoder, WhatItDoesNotKnowIsAnErrorNamingIt) {
  const auto error_of = [](const std::string& component) -> std::string {
    try {
      decode(component, {"a"});
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  using testing::HasSubstr;
  EXPECT_THAT(error_of(R"({"type":"WordPiece"})"), HasSubstr("\"WordPiece\""));
  EXPECT_THAT(error_of(R"({"type":"Strip","content":"ab","start":1,"stop":0})"),
              HasSubstr("one character"));
  EXPECT_THAT(error_of(R"({"type":"Strip","content":"a","start":-1,"stop":0})"),
              HasSubstr("start"));
  EXPECT_THAT(error_of(R"({"type":"Metaspace"})"), HasSubstr("replacement"));
  json many{{"type", "Sequence"}, {"decoders", json::array()}};
  for (int i = 0; i < 100'000; ++i) many["decoders"].push_back({{"type", "Fuse"}});
  EXPECT_THAT(error_of(many.dump()), HasSubstr("more than 64 decoders"));
}

// What push() gives, id by id, each part being whole characters.
std::string stream(const Tokenizer& tokenizer, const std::vector<uint32_t>& ids, bool skip) {
  Detokenizer detokenizer(tokenizer, skip);
  std::string text;
  for (const uint32_t id : ids) {
    const std::string part = detokenizer.push(id);
    EXPECT_TRUE(utf8_valid(part)) << testing::PrintToString(part);
    text += part;
  }
  return text + detokenizer.finish();
}

void expect_streams_as_reference(const std::filesystem::path& directory) {
  const Tokenizer tokenizer = Tokenizer::load(directory);
  const auto cases = test::encoding_cases(directory);
  ASSERT_GT(cases.size(), 100u) << directory;
  for (const auto& expected : cases) {
    EXPECT_EQ(stream(tokenizer, expected.ids, false), expected.decoded);
    EXPECT_EQ(stream(tokenizer, expected.ids, true), expected.decoded_skip);
  }
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<uint32_t> ids(random() % 30);
    // The first ids of a vocabulary hold its bytes; some ids are no tokens.
    for (uint32_t& id : ids) {
      id = static_cast<uint32_t>(random() % (random() % 2 == 0 ? 300 : tokenizer.vocabulary() + 9));
    }
    EXPECT_EQ(stream(tokenizer, ids, true), tokenizer.decode(ids, true)) << "round " << round;
    EXPECT_TRUE(utf8_valid(tokenizer.decode(ids, false))) << "round " << round;
  }
}

class SmallTokenizers : public testing::TestWithParam<std::string> {};
TEST_P(SmallTokenizers, StreamTheReferencesTextInWholeCharacters) {
  expect_streams_as_reference(test::small_tokenizer(GetParam()));
}
INSTANTIATE_TEST_SUITE_P(, SmallTokenizers, testing::ValuesIn(test::kSmallTokenizers),
                         [](const auto& test) { return test.param; });

class PublishedTokenizers : public testing::TestWithParam<std::string> {};
TEST_P(PublishedTokenizers, StreamTheReferencesTextInWholeCharacters) {
  const auto directory = test::published_tokenizer(GetParam());
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << directory << " is not there";
  expect_streams_as_reference(directory);
}
INSTANTIATE_TEST_SUITE_P(, PublishedTokenizers, testing::ValuesIn(test::kPublishedTokenizers),
                         [](const auto& test) { return test.param; });

TEST(Detokenizer, ByteLevelTextIsCertainWithTheTokenThatCompletesIt) {
  const Tokenizer tokenizer = Tokenizer::load(test::small_tokenizer("small_gpt2"));
  Detokenizer detokenizer(tokenizer, false);
  std::string text;
  const std::vector<uint32_t> ids = tokenizer.encode("né 😀!", false);
  for (const uint32_t id : ids) text += detokenizer.push(id);
  EXPECT_EQ(text, "né 😀!");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, OutlivesAMoveOfItsTokenizer) {
  Tokenizer tokenizer = Tokenizer::load(test::small_tokenizer("small_gpt2"));
  Detokenizer detokenizer(tokenizer, true);
  const Tokenizer moved = std::move(tokenizer);
  EXPECT_EQ(detokenizer.push(moved.encode("a", false).at(0)), "a");
}

TEST(Utf8Repair, EqualsRepairOfTheWholeWhereverItIsCut) {
  std::mt19937 random(1);
  const std::string bytes = "a\x80\xBF\xC2\xC0\xE0\xA0\xED\x9F\xF0\x90\xF4\x8F\xF5\xFF\xE2\x82\xAC";
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (auto length = random() % 12; length > 0; --length) text += bytes[random() % bytes.size()];
    const std::string whole = utf8_repaired(text);
    ASSERT_TRUE(utf8_valid(whole));
    Utf8Repair repair;
    std::string parts;
    for (const char byte : text) {
      repair.push({&byte, 1}, parts);
      ASSERT_TRUE(utf8_valid(parts));
    }
    repair.finish(parts);
    ASSERT_EQ(parts, whole);
  }
}

TEST(Utf8Repair, ReplacesEachMaximalBrokenPartOnce) {
  EXPECT_EQ(utf8_repaired("a\xE2\x82z"), "a\uFFFDz");
  EXPECT_EQ(utf8_repaired("\xE2\x82"), "\uFFFD");
  EXPECT_EQ(utf8_repaired("\xF0\x9F\x98\xE2\x82\xAC"), "\uFFFD€");
  EXPECT_EQ(utf8_repaired("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");            // a surrogate
  EXPECT_EQ(utf8_repaired("\xC0\xAF"), "\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(utf8_repaired("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // past U+10FFFF
  EXPECT_EQ(utf8_repaired("\U0010FFFF\u0000é"), std::string("\U0010FFFF"));
}

}  // namespace
}  // namespace sluice
