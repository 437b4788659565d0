// tokenizer.model against the reference's encodings: of vocabularies whose tokenizer.json came from
// a SentencePiece model, that model is put together again: a piece scores as the first merge that
// makes it ranks.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "io/error.h"
#include "model/tokenizer.h"
#include "tests/io/temporary_directory.h"
#include "tests/model/tokenizer_cases.h"

namespace sluice {
namespace {

using nlohmann::json;
using test::EncodingCase;

// The fields of sentencepiece_model.proto that matter, in Protocol Buffers' wire format.
class Message {
 public:
  Message& number(uint32_t field, uint64_t value) {
    varint(field << 3);
    varint(value);
    return *this;
  }
  Message& real(uint32_t field, float value) {
    varint(field << 3 | 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (uint32_t shift = 0; shift < 32; shift += 8) {
      bytes_ += static_cast<char>(bits >> shift & 0xff);
    }
    return *this;
  }
  Message& text(uint32_t field, const std::string& value) {
    varint(field << 3 | 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value > 127; value >>= 7) bytes_ += static_cast<char>((value & 127) | 128);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

enum Type : uint64_t { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };

struct Piece {
  std::string text;
  float score = 0;
  Type type = kNormal;
};

std::string model_of(const std::vector<Piece>& pieces) {
  Message model;
  for (const Piece& piece : pieces) {
    model.text(1, Message().text(1, piece.text).real(2, piece.score).number(3, piece.type).bytes());
  }
  constexpr uint64_t kBpe = 2;
  const auto is_byte = [](const Piece& piece) { return piece.type == kByte; };
  model.text(2, Message()
                    .number(3, kBpe)
                    .number(35, std::ranges::any_of(pieces, is_byte) ? 1 : 0)
                    .number(40, 0)
                    .number(41, 1)
                    .number(42, 2)
                    .bytes());
  model.text(3, Message().text(1, "identity").number(3, 1).number(4, 0).number(5, 1).bytes());
  return model.bytes();
}

// "left right"
std::string without_space(std::string merge) { return merge.erase(merge.find(' '), 1); }

std::vector<Piece> pieces_of(const json& tokenizer) {
  std::vector<Piece> pieces(tokenizer["model"]["vocab"].size());
  for (const auto& [text, id] : tokenizer["model"]["vocab"].items()) {
    Piece& piece = pieces.at(id.get<size_t>());
    piece = {.text = text, .score = -1e9f};
    if (text == "<unk>") piece.type = kUnknown;
    if (text == "<s>" || text == "</s>") piece.type = kControl;
    if (text.size() == 6 && text.starts_with("<0x")) piece.type = kByte;
  }
  float rank = 0;
  for (const json& merge : tokenizer["model"]["merges"]) {
    const std::string text = merge.is_array()
                                 ? merge[0].get<std::string>() + merge[1].get<std::string>()
                                 : without_space(merge.get<std::string>());
    float& score = pieces.at(tokenizer["model"]["vocab"][text].get<size_t>()).score;
    score = std::max(score, -rank++);
  }
  return pieces;
}

void expect_reference(const std::filesystem::path& directory) {
  const json file = json::parse(test::read_file(directory / "tokenizer.json"));
  const Tokenizer tokenizer =
      Tokenizer::parse_sentencepiece(model_of(pieces_of(file)), "tokenizer.model", "{}", "config");
  const std::vector<EncodingCase> cases = test::encoding_cases(directory);
  ASSERT_GT(cases.size(), 100u);
  for (const EncodingCase& expected : cases) {
    SCOPED_TRACE(testing::PrintToString(expected.text));
    EXPECT_EQ(tokenizer.encode(expected.text, false), expected.ids);
    EXPECT_EQ(tokenizer.encode(expected.text, true), expected.ids_with_special);
    EXPECT_EQ(tokenizer.decode(expected.ids, false), expected.decoded);
    EXPECT_EQ(tokenizer.decode(expected.ids, true), expected.decoded_skip);
    Detokenizer stream(tokenizer, false);
    std::string text;
    for (const uint32_t id : expected.ids) text += stream.push(id);
    EXPECT_EQ(text + stream.finish(), expected.decoded);
  }
}

TEST(SentencePiece, EncodesAndDecodesAsTheReferenceDoes) {
  expect_reference(test::small_tokenizer("small_spm_legacy"));
}

TEST(SentencePiece, EncodesAndDecodesAPublishedVocabularyAsTheReferenceDoes) {
  const auto directory = test::published_tokenizer("llama2");
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << directory << " is not there";
  expect_reference(directory);
}

std::vector<Piece> toy() {
  std::vector<Piece> pieces = {{"<unk>", 0, kUnknown}, {"<s>", 0, kControl}, {"</s>", 0, kControl}};
  for (const char* text : {"▁", "a", "b", "ab", "▁ab"}) {
    pieces.push_back({text, -static_cast<float>(pieces.size())});
  }
  return pieces;
}

std::vector<uint32_t> encode(const json& config, const std::string& text) {
  return Tokenizer::parse_sentencepiece(model_of(toy()), "m", config.dump(), "c")
      .encode(text, true);
}

TEST(SentencePiece, PutsInFrontAndBehindWhatTheConfigurationSays) {
  using Ids = std::vector<uint32_t>;
  EXPECT_EQ(encode(json::object(), "ab"), (Ids{1, 7}));
  EXPECT_EQ(encode({{"add_bos_token", false}}, "ab"), (Ids{7}));
  EXPECT_EQ(encode({{"add_eos_token", true}}, "ab"), (Ids{1, 7, 2}));
}

TEST(SentencePiece, CutsOutControlTokensAndAddedOnes) {
  const json config = {
      {"add_bos_token", false},
      {"added_tokens_decoder",
       {{"1", {{"content", "<s>"}, {"special", true}}},
        {"8", {{"content", "<|call|>"}, {"special", true}, {"normalized", false}}}}}};
  EXPECT_EQ(encode(config, "ab<s>ab<|call|>"), (std::vector<uint32_t>{7, 1, 7, 8}));
  const Tokenizer tokenizer =
      Tokenizer::parse_sentencepiece(model_of(toy()), "m", config.dump(), "c");
  EXPECT_EQ(tokenizer.vocabulary(), 9u);
  EXPECT_TRUE(tokenizer.is_special(8));
  EXPECT_EQ(tokenizer.id_of("<|call|>"), 8u);
  EXPECT_EQ(tokenizer.id_of("ab"), 6u);
  EXPECT_EQ(tokenizer.decode(std::vector<uint32_t>{7, 8, 4}, true), "aba");
}

TEST(SentencePiece, ServesWhereThereIsNoTokenizerJson) {
  const TemporaryDirectory directory;
  std::ofstream(directory.path() / "tokenizer.model", std::ios::binary) << model_of(toy());
  EXPECT_EQ(Tokenizer::load(directory.path()).encode("ab", true), (std::vector<uint32_t>{1, 7}));
  std::ofstream(directory.path() / "tokenizer_config.json") << R"({"add_bos_token": false})";
  EXPECT_EQ(Tokenizer::load(directory.path()).encode("ab", true), (std::vector<uint32_t>{7}));
}

std::string error_of(const std::string& model, const std::string& config) {
  try {
    Tokenizer::parse_sentencepiece(model, "DIR/tokenizer.model", config, "DIR/config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(SentencePiece, DamagedFilesAreErrorsThatNameThem) {
  const std::string good = model_of(toy());
  EXPECT_NE(error_of("", "{}").find("DIR/tokenizer.model"), std::string::npos);
  EXPECT_NE(error_of("{\"a\": 1}", "{}").find("DIR/tokenizer.model"), std::string::npos);
  std::vector<Piece> twice = toy();
  twice.push_back(twice.back());
  EXPECT_NE(error_of(model_of(twice), "{}").find("DIR/tokenizer.model"), std::string::npos);
  for (const std::string& text : {std::string(), std::string("a\0b", 3), std::string(5000, 'a')}) {
    std::vector<Piece> bad = toy();
    bad[4].text = text;
    EXPECT_NE(error_of(model_of(bad), "{}").find("tokenizer.model: piece 4"), std::string::npos);
  }
  for (const char* config : {"", "[1]", R"({"added_tokens_decoder": 3})",
                             R"({"added_tokens_decoder": {"x": {"content": "y"}}})",
                             R"({"added_tokens_decoder": {"99999999": {"content": "y"}}})",
                             R"({"add_bos_token": "yes"})"}) {
    EXPECT_NE(error_of(good, config).find("DIR/config.json"), std::string::npos) << config;
  }
  for (size_t bytes = 1; bytes < good.size(); ++bytes) {
    const std::string message = error_of(good.substr(0, bytes), "{}");
    if (message == "no error") continue;  // cut between two messages
    EXPECT_NE(message.find("DIR/tokenizer.model"), std::string::npos) << message;
  }
}

// A trie of 256 units, all of whose children and values are within, and a text of none.
TEST(SentencePiece, CharacterMapsMustStayWithinThemselves) {
  const auto error_with = [](uint32_t unit) {
    std::string map = {'\0', '\4', '\0', '\0'};  // 1024 bytes
    for (uint32_t i = 0; i < 256; ++i) {
      const uint32_t value = i == 7 ? unit : 0;
      for (uint32_t shift = 0; shift < 32; shift += 8) {
        map += static_cast<char>(value >> shift & 0xff);
      }
    }
    map += '\0';
    return error_of(model_of(toy()) + Message().text(3, Message().text(2, map).bytes()).bytes(),
                    "{}");
  };
  const std::string outside = "points outside of itself";
  EXPECT_EQ(error_with(0).find(outside), std::string::npos);
  EXPECT_NE(error_with(1u << 18).find(outside), std::string::npos);  // children from 256 on
  EXPECT_NE(error_with(0x80000001).find(outside), std::string::npos);
}

}  // namespace
}  // namespace sluice
