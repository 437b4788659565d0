#include "model/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "io/error.h"
#include "model/utf8.h"
#include "tests/model/tokenizer_cases.h"

namespace sluice {
namespace {

using nlohmann::json;
using test::EncodingCase;
using testing::ElementsAre;
using testing::HasSubstr;

// A tokenizer of the letters a, b, c (0, 1, 2), a space (3) and "ab" (4), and its added tokens.
json toy(const json& added_tokens = json::array()) {
  return {{"version", "1.0"},
          {"truncation", {{"max_length", 1}}},
          {"padding", nullptr},
          {"added_tokens", added_tokens},
          {"normalizer", nullptr},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", {{"type", "Fuse"}}},
          {"model",
           {{"type", "BPE"},
            {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {" ", 3}, {"ab", 4}}},
            {"merges", {"a b"}}}}};
}

Tokenizer parse(const json& file) { return Tokenizer::parse(file.dump(), "toy/tokenizer.json"); }

std::vector<uint32_t> encode(const json& file, const std::string& text) {
  return parse(file).encode(text, false);
}

std::string parse_error(const std::string& file) {
  try {
    Tokenizer::parse(file, "toy/tokenizer.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void expect_reference(const std::filesystem::path& directory) {
  const Tokenizer tokenizer = Tokenizer::load(directory);
  const std::vector<EncodingCase> cases = test::encoding_cases(directory);
  ASSERT_GT(cases.size(), 100u) << directory;
  for (const EncodingCase& expected : cases) {
    SCOPED_TRACE(testing::PrintToString(expected.text));
    EXPECT_EQ(tokenizer.encode(expected.text, false), expected.ids);
    EXPECT_EQ(tokenizer.encode(expected.text, true), expected.ids_with_special);
    EXPECT_EQ(tokenizer.decode(expected.ids, false), expected.decoded);
    EXPECT_EQ(tokenizer.decode(expected.ids, true), expected.decoded_skip);
  }
}

class SmallTokenizers : public testing::TestWithParam<std::string> {};
TEST_P(SmallTokenizers, EncodeAndDecodeAsTheReferenceDoes) {
  expect_reference(test::small_tokenizer(GetParam()));
}
INSTANTIATE_TEST_SUITE_P(, SmallTokenizers, testing::ValuesIn(test::kSmallTokenizers),
                         [](const auto& test) { return test.param; });

class PublishedTokenizers : public testing::TestWithParam<std::string> {};
TEST_P(PublishedTokenizers, EncodeAndDecodeAsTheReferenceDoes) {
  const auto directory = test::published_tokenizer(GetParam());
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << directory << " is not there";
  expect_reference(directory);
}
INSTANTIATE_TEST_SUITE_P(, PublishedTokenizers, testing::ValuesIn(test::kPublishedTokenizers),
                         [](const auto& test) { return test.param; });

TEST(Tokenizer, MergesAreTextsOrPairsAndMayStandBeforeTheVocabulary) {
  const std::string head = R"({"model":{"merges":)";
  const std::string tail = R"(,"vocab":{"a":0,"b":1,"ab":2,"a ":3," ":4}}})";
  const std::vector<uint32_t> merged = {2};
  EXPECT_EQ(Tokenizer::parse(head + R"(["#version: 0.2","a b"])" + tail, "t").encode("ab", false),
            merged);
  EXPECT_EQ(Tokenizer::parse(head + R"([["a","b"]])" + tail, "t").encode("ab", false), merged);
  EXPECT_THAT(Tokenizer::parse(head + R"([["a"," "]])" + tail, "t").encode("a b", false),
              ElementsAre(3, 1));
}

TEST(Tokenizer, AddedTokensAreCutOutFirstAndTheLongestWins) {
  const json file =
      toy({{{"id", 5}, {"content", "<b>"}, {"special", true}},
           {{"id", 6}, {"content", "<b><"}, {"special", false}, {"normalized", false}}});
  EXPECT_THAT(encode(file, "a<b>b"), ElementsAre(0, 5, 1));
  EXPECT_THAT(encode(file, "<b><b>"), ElementsAre(6, 1));
  const Tokenizer tokenizer = parse(file);
  EXPECT_EQ(tokenizer.vocabulary(), 7u);
  EXPECT_EQ(tokenizer.id_of("<b>"), 5u);
  EXPECT_EQ(tokenizer.id_of("ab"), 4u);
  EXPECT_EQ(tokenizer.id_of("abc"), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(5));
  EXPECT_FALSE(tokenizer.is_special(6));
  EXPECT_FALSE(tokenizer.is_special(0));
  const std::vector<uint32_t> ids = {0, 5, 6, 99, 4};
  EXPECT_EQ(tokenizer.decode(ids, false), "a<b><b><ab");
  EXPECT_EQ(tokenizer.decode(ids, true), "a<b><ab");
}

TEST(Tokenizer, AddedTokensMayTakeWhiteSpaceAlong) {
  EXPECT_THAT(encode(toy({{{"id", 5}, {"content", "X"}, {"lstrip", true}, {"special", true}}}),
                     "a  \u00A0X b"),
              ElementsAre(0, 5, 3, 1));
  EXPECT_THAT(encode(toy({{{"id", 5}, {"content", "X"}, {"rstrip", true}, {"special", true}}}),
                     "a X \u3000\nb X "),
              ElementsAre(0, 3, 5, 1, 3, 5));
  EXPECT_THAT(encode(toy({{{"id", 5},
                           {"content", "X"},
                           {"lstrip", true},
                           {"rstrip", true},
                           {"special", true}}}),
                     " X  X a"),
              ElementsAre(5, 5, 0));
}

TEST(Tokenizer, SingleWordTokensAreNotFoundInsideWords) {
  const json file = toy({{{"id", 5}, {"content", "X"}, {"single_word", true}, {"special", true}}});
  EXPECT_THAT(encode(file, "X aX Xa X"), ElementsAre(5, 3, 0, 3, 0, 3, 5));
  EXPECT_THAT(encode(file, "éX"), testing::IsEmpty());  // é and X are no tokens of the vocabulary
  EXPECT_THAT(encode(file, "«X»"), ElementsAre(5));
}

TEST(Tokenizer, NormalizedAddedTokensAreFoundInNormalizedText) {
  json file = toy({{{"id", 5}, {"content", "B"}, {"normalized", true}, {"special", false}},
                   {{"id", 6}, {"content", "B!"}, {"normalized", false}, {"special", false}}});
  file["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "B"}}}, {"content", "b"}};
  EXPECT_THAT(encode(file, "aBb"), ElementsAre(0, 5, 5));
  EXPECT_THAT(encode(file, "B!b!"), ElementsAre(6, 5));
}

// As the reference numbers them: see AddedTokens.
TEST(Tokenizer, AddedTokensOfAVocabularyWithHolesAreNumberedBehindItsCount) {
  json file = toy({{{"id", 0}, {"content", "<s>"}, {"special", true}},
                   {{"id", 1}, {"content", "b"}, {"special", true}}});
  file["model"]["vocab"] = {{"a", 7}, {"b", 8}, {"ab", 9}};
  const Tokenizer tokenizer = parse(file);
  EXPECT_THAT(tokenizer.encode("<s>ab", false), ElementsAre(3, 7, 8));
  EXPECT_EQ(tokenizer.vocabulary(), 10u);
}

TEST(Tokenizer, TemplatesAddTheirTokensOnlyOnRequest) {
  json file = toy({{{"id", 5}, {"content", "<s>"}, {"special", true}},
                   {{"id", 6}, {"content", "</s>"}, {"special", true}}});
  const auto special = [](const char* name) { return json{{"SpecialToken", {{"id", name}}}}; };
  file["post_processor"] = {
      {"type", "Sequence"},
      {"processors",
       {{{"type", "ByteLevel"}},
        {{"type", "TemplateProcessing"},
         {"single", {special("<s>"), {{"Sequence", {{"id", "A"}}}}, special("</s>")}},
         {"special_tokens", {{"<s>", {{"ids", {5}}}}, {"</s>", {{"ids", {6, 5}}}}}}}}}};
  const Tokenizer tokenizer = parse(file);
  EXPECT_THAT(tokenizer.encode("ab", false), ElementsAre(4));
  EXPECT_THAT(tokenizer.encode("ab", true), ElementsAre(5, 4, 6, 5));
  EXPECT_THAT(tokenizer.encode("", true), ElementsAre(5, 6, 5));
}

TEST(Tokenizer, TextThatIsNoUtf8IsRepairedFirst) {
  const Tokenizer tokenizer = Tokenizer::load(test::small_tokenizer("small_gpt2"));
  for (const std::string text : {"\xFF", "a\xE2\x82", "\xC0\xAF", "\xED\xA0\x80z"}) {
    EXPECT_EQ(tokenizer.encode(text, false), tokenizer.encode(utf8_repaired(text), false));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false), false), utf8_repaired(text));
  }
}

TEST(Tokenizer, LongTextsOfEveryKindAreEncoded) {
  const Tokenizer tokenizer = Tokenizer::load(test::small_tokenizer("small_o200k"));
  for (const std::string part :
       {" ", "a", "A", "\n", "1", "\u0301", "字", "<|im_", "<|im_end|>", "!"}) {
    std::string text;
    while (text.size() < 500'000) text += part;
    EXPECT_TRUE(tokenizer.decode(tokenizer.encode(text, false), false) == text) << part;
  }
}

TEST(Tokenizer, ManyThreadsMayEncodeAndDecodeAtOnce) {
  const Tokenizer tokenizer = Tokenizer::load(test::small_tokenizer("small_qwen2"));
  const std::string text = "Several threads, one tokenizer: 12345 e\u0301 😀 <|im_end|>";
  const std::vector<uint32_t> ids = tokenizer.encode(text, true);
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        right +=
            tokenizer.encode(text, true) == ids &&
            tokenizer.decode(ids, false) == "Several threads, one tokenizer: 12345 é 😀 <|im_end|>";
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 200);
}

TEST(Tokenizer, AMissingFileIsAnErrorWithItsPath) {
  try {
    Tokenizer::load("no/such/model");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("no/such/model/tokenizer.json"));
    EXPECT_THAT(error.what(), HasSubstr("No such file"));
  }
}

TEST(Tokenizer, DamagedFilesAreErrorsThatSayWhatIsWrong) {
  const auto with_model = [](const std::string& model) { return R"({"model":)" + model + "}"; };
  const std::string vocab = R"("vocab":{"a":0,"b":1,"ab":2})";
  const std::pair<std::string, const char*> cases[] = {
      {"", "not JSON at byte"},
      {"[]", "model"},
      {"{}", "model"},
      {"{\"model\":3}", "expected a JSON object"},
      {R"({"model":{)", "not JSON at byte"},
      {with_model(R"({"vocab":{"a":0}} x)"), "not JSON at byte"},
      {with_model("{\"vocab\":{\"\xFF\":0}}"), "not JSON at byte"},
      {with_model(R"({"merges":[]})"), "vocab is absent or empty"},
      {with_model(R"({"vocab":{}})"), "vocab is absent or empty"},
      {with_model(R"({"vocab":[["a",0.5]]})"), "model.vocab is not an object"},
      {with_model(R"({"vocab":null})"), "model.vocab is not an object"},
      {with_model(R"({"vocab":{"a":-1}})"), "\"a\" is a number below 0"},
      {with_model(R"({"vocab":{"a":1.0}})"), "\"a\" is a fraction"},
      {with_model(R"({"vocab":{"a":16777216}})"), "\"a\" is a number that is too large"},
      {with_model(R"({"vocab":{"a":99999999999999999999999}})"), "too large"},
      {with_model(R"({"vocab":{"a":"0"}})"), "\"a\" is a string"},
      {with_model(R"({"vocab":{"a":{"b":0}}})"), "\"a\" is an object"},
      {with_model(R"({"vocab":{"a":[0]}})"), "\"a\" is an array"},
      {with_model(R"({"vocab":{"a":0,"b":0}})"), "id 0 is given twice"},
      {with_model(R"({"vocab":{"a":0,"a":1}})"), "token \"a\" is given twice"},
      {with_model("{" + vocab + R"(,"merges":{}})"), "model.merges is not an array"},
      {with_model("{" + vocab + R"(,"merges":["a b","ab"]})"), "model.merges[1] is neither"},
      {with_model("{" + vocab + R"(,"merges":["a b c"]})"), "model.merges[0] is neither"},
      {with_model("{" + vocab + R"(,"merges":[["a"]]})"), "model.merges[0] is neither"},
      {with_model("{" + vocab + R"(,"merges":[["a","b","c"]]})"), "model.merges[0] is neither"},
      {with_model("{" + vocab + R"(,"merges":[["a",["b"]]]})"), "model.merges[0] is neither"},
      {with_model("{" + vocab + R"(,"merges":[3]})"), "model.merges[0] is neither"},
      {with_model("{" + vocab + R"(,"merges":["a x"]})"), "needs the token \"x\""},
      {with_model("{" + vocab + R"(,"merges":["b a"]})"), "needs the token \"ba\""},
      {with_model("{" + vocab + R"(,"type":"Unigram"})"), "\"Unigram\""},
      {with_model("{" + vocab + R"(,"dropout":0.1})"), "dropout"},
      {with_model("{" + vocab + R"(,"end_of_word_suffix":"</w>"})"), "end_of_word_suffix"},
      {with_model("{" + vocab + R"(,"ignore_merges":1})"), "ignore_merges"},
      {R"({"a":)" + std::string(100'000, '[') + std::string(100'000, ']') + "}", "nested deeper"},
  };
  for (const auto& [file, message] : cases) {
    const std::string error = parse_error(file);
    EXPECT_THAT(error, HasSubstr(message)) << file.substr(0, 100);
    EXPECT_THAT(error, testing::StartsWith("toy/tokenizer.json: ")) << file.substr(0, 100);
  }
}

TEST(Tokenizer, DamagedComponentsAreErrorsThatSayWhatIsWrong) {
  const json bad_template = {{"type", "TemplateProcessing"},
                             {"single", {{{"SpecialToken", {{"id", "<s>"}}}}}}};
  json far_template = bad_template;
  far_template["single"].push_back({{"Sequence", {{"id", "A"}}}});
  far_template["special_tokens"] = {{"<s>", {{"ids", {5}}}}};
  json second_text = bad_template;
  second_text["single"] = {{{"Sequence", {{"id", "B"}}}}};
  const std::tuple<const char*, json, const char*> cases[] = {
      {"added_tokens", 3, "not an array"},
      {"added_tokens", {{{"content", "x"}}}, "id"},
      {"added_tokens", {{{"id", -1}, {"content", "x"}}}, "id is -1"},
      {"added_tokens", {{{"id", 1u << 24}, {"content", "x"}}}, "16777216"},
      {"added_tokens", {{{"id", 5}, {"content", 7}}}, "content"},
      {"added_tokens", {{{"id", 5}, {"content", std::string(2000, 'x')}}}, "limit"},
      {"added_tokens",
       {{{"id", 5}, {"content", "x"}}, {{"id", 5}, {"content", "y"}}},
       "given twice"},
      {"added_tokens",
       {{{"id", 5}, {"content", "x"}}, {{"id", 6}, {"content", "x"}}},
       "given twice"},
      {"normalizer", {{"type", "BertNormalizer"}}, "\"BertNormalizer\""},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}, "\"BertPreTokenizer\""},
      {"post_processor", {{"type", "BertProcessing"}}, "\"BertProcessing\""},
      {"post_processor", bad_template, "does not tell the ids of \"<s>\""},
      {"post_processor", far_template, "adds the id 5"},
      {"post_processor", second_text, "expected \"A\""},
      {"post_processor", {{"type", "TemplateProcessing"}, {"single", json::array()}}, "no place"},
      {"decoder", {{"type", "CTC"}}, "\"CTC\""},
      {"decoder", "ByteLevel", "expected a JSON object"},
  };
  for (const auto& [key, value, message] : cases) {
    json file = toy();
    file[key] = value;
    const std::string error = parse_error(file.dump());
    EXPECT_THAT(error, HasSubstr(message)) << value;
    EXPECT_THAT(error, HasSubstr(std::string("toy/tokenizer.json: ") + key)) << value;
  }
}

}  // namespace
}  // namespace sluice
