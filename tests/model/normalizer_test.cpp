#include "model/normalizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "io/error.h"
#include "model/utf8.h"

namespace sluice {
namespace {

using nlohmann::json;

std::string normalize(const std::string& component, const std::string& text) {
  return Normalizer(json::parse(component), "test").apply(text);
}

TEST(Normalizer, UnicodeFormsComposeAndDecompose) {
  const std::string text = "e\u0301 é ﬁ 각 Å";  // the last is the Angstrom sign
  EXPECT_EQ(normalize(R"({"type":"NFC"})", text), "é é ﬁ 각 Å");
  EXPECT_EQ(normalize(R"({"type":"NFD"})", "é각"), "e\u0301\u1100\u1161\u11A8");
  EXPECT_EQ(normalize(R"({"type":"NFKC"})", "ﬁ①e\u0301"), "fi1é");
  EXPECT_EQ(normalize(R"({"type":"NFKD"})", "ﬁé"), "fie\u0301");
}

TEST(Normalizer, MarksAreOrderedByTheirClass) {
  EXPECT_EQ(normalize(R"({"type":"NFD"})", "a\u0301\u0323"), "a\u0323\u0301");
  EXPECT_EQ(normalize(R"({"type":"NFC"})", "a\u0301\u0323"), "\u1EA1\u0301");
  // Composites that Unicode excludes stay apart.
  EXPECT_EQ(normalize(R"({"type":"NFC"})", "\u0915\u093C"), "\u0915\u093C");
}

// Against the library's own normalization of whole texts, which is right but for its running time.
TEST(Normalizer, UnicodeFormsEqualTheLibrarysOnRandomText) {
  std::mt19937 random(1);
  const std::pair<UnicodeForm, int> forms[] = {
      {UnicodeForm::nfc, UTF8PROC_COMPOSE},
      {UnicodeForm::nfd, UTF8PROC_DECOMPOSE},
      {UnicodeForm::nfkc, UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
      {UnicodeForm::nfkd, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
  const std::pair<unsigned, unsigned> blocks[] = {
      {0x41, 0x5A},     {0xC0, 0x17F},    {0x300, 0x36F},   {0x5B0, 0x5C2},   {0x900, 0x97F},
      {0x1100, 0x11FF}, {0xAC00, 0xAC80}, {0x1E00, 0x1EFF}, {0xFB00, 0xFB4F}, {0x1D15E, 0x1D1C0}};
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (auto length = random() % 12; length > 0; --length) {
      const auto [low, high] = blocks[random() % std::size(blocks)];
      utf8_append(static_cast<char32_t>(low + random() % (high - low + 1)), text);
    }
    for (const auto& [form, options] : forms) {
      utf8proc_uint8_t* expected = nullptr;
      const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                       static_cast<utf8proc_ssize_t>(text.size()), &expected,
                                       static_cast<utf8proc_option_t>(UTF8PROC_STABLE | options));
      ASSERT_GE(length, 0);
      const std::string library(reinterpret_cast<char*>(expected), static_cast<size_t>(length));
      std::free(expected);
      ASSERT_EQ(normalized(text, form), library) << "seed 1, round " << round << ": " << text;
    }
  }
}

// 300,000 marks in the worst order for sorting by exchange of neighbours, which would take minutes.
TEST(Normalizer, AMegabyteOfMarksIsSorted) {
  std::string text = "a";
  std::string sorted = "a";
  for (int i = 0; i < 150'000; ++i) text += "\u0301";  // class 230
  for (int i = 0; i < 150'000; ++i) text += "\u0316";  // class 220
  for (int i = 0; i < 150'000; ++i) sorted += "\u0316";
  for (int i = 0; i < 150'000; ++i) sorted += "\u0301";
  EXPECT_TRUE(normalized(text, UnicodeForm::nfd) == sorted);
}

TEST(Normalizer, PrependAndReplaceWorkInSequence) {
  const std::string legacy = R"({"type":"Sequence","normalizers":[
      {"type":"Prepend","prepend":"▁"},
      {"type":"Replace","pattern":{"String":" "},"content":"▁"}]})";
  EXPECT_EQ(normalize(legacy, "a b"), "▁a▁b");
  EXPECT_EQ(normalize(legacy, ""), "");
}

TEST(Normalizer, ReplaceTakesRegularExpressionsAndItsContentLiterally) {
  EXPECT_EQ(
      normalize(R"({"type":"Replace","pattern":{"Regex":" {2,}"},"content":"$0"})", "a   b c"),
      "a$0b c");
  EXPECT_EQ(normalize(R"({"type":"Replace","pattern":{"String":"''"}})", "a''b"), "ab");
}

TEST(Normalizer, RulesThatGrowTextWithoutMeasureAreAnError) {
  json rules = json::array();
  for (int i = 0; i < 9; ++i) {
    rules.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}});
  }
  EXPECT_THROW(Normalizer(json{{"type", "Sequence"}, {"normalizers", rules}}, "test"), Error);
  rules.erase(0);
  EXPECT_EQ(Normalizer(json{{"type", "Sequence"}, {"normalizers", rules}}, "test").apply("a"),
            std::string(256, 'a'));
}

TEST(Normalizer, WhatItDoesNotKnowIsAnErrorNamingIt) {
  try {
    normalize(R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Precompiled"}]})", "a");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("test.normalizers[1]"));
    EXPECT_THAT(error.what(), testing::HasSubstr("\"Precompiled\""));
  }
}

}  // namespace
}  // namespace sluice
