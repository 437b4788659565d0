#include "stream/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "io/error.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TraceFacts facts() {
  return {.model_type = "qwen3_moe",
          .grid = {.layers = {0, 2}, .experts = 8},
          .experts_per_token = 2,
          .expert_bytes = 1000,
          .slot_bytes = 4096};
}

const char* const kFactsLine =
    R"({"sluice_trace":1,"model_type":"qwen3_moe","layers":[0,2],"experts":8,)"
    R"("experts_per_token":2,"expert_bytes":1000,"slot_bytes":4096})"
    "\n";

std::string parse_error(const std::string& text) {
  try {
    parse_trace(text, "t.jsonl");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(Trace, OfThePlainFormIsRead) {
  const Trace trace = parse_trace("[0, [7, 1]]\n[2,[3]]\r\n\n[40, [5, 6, 0]]", "t");
  ASSERT_EQ(trace.size(), 3u);
  EXPECT_EQ(trace.demands(), 6u);
  EXPECT_FALSE(trace.facts.has_value());
  EXPECT_EQ(trace[0].layer, 0u);
  EXPECT_THAT(trace[0].experts, ElementsAre(7, 1));
  EXPECT_THAT(trace[1].experts, ElementsAre(3));
  EXPECT_EQ(trace[2].layer, 40u);
  EXPECT_THAT(trace[2].experts, ElementsAre(5, 6, 0));
  EXPECT_EQ(parse_trace("", "t").size(), 0u);
}

TEST(Trace, CarriesTheFactsOfItsModel) {
  const std::string text = std::string(kFactsLine) + "[0,[1,2]]\n[2,[7,0]]\n";
  const Trace trace = parse_trace(text, "t");
  ASSERT_TRUE(trace.facts.has_value());
  EXPECT_EQ(*trace.facts, facts());
  EXPECT_EQ(trace_text(trace), text);
}

TEST(Trace, ThatIsDamagedSaysInWhichLine) {
  for (const char* line :
       {"[0]", "[0, 1]", "[0, []]", "[0, [1], 2]", "3", "null", "\"x\"", "[0, [1]", "[[[[[[["}) {
    EXPECT_THAT(parse_error("[0, [1]]\n" + std::string(line) + "\n"),
                testing::AllOf(HasSubstr("t.jsonl: line 2: "), HasSubstr("[layer, [expert, ...]]")))
        << line;
  }
  EXPECT_THAT(parse_error("[-1, [1]]"), HasSubstr("expected a layer from 0"));
  EXPECT_THAT(parse_error("[1, [1.5]]"), HasSubstr("expected an expert from 0"));
  EXPECT_THAT(parse_error("[1, [[1]]]"), HasSubstr("expected an expert from 0"));
  EXPECT_THAT(parse_error("[1, [4, 2, 4]]"), HasSubstr("an expert is there twice"));
  EXPECT_THAT(parse_error("[1, [2000000]]"), HasSubstr("expected an expert from 0"));
  EXPECT_THAT(parse_error(std::string(kMaxTraceLineBytes + 1, ' ')), HasSubstr("longer"));
}

TEST(Trace, MustFitTheFactsItBeginsWith) {
  EXPECT_THAT(parse_error(std::string(kFactsLine) + "[1,[0]]"), HasSubstr("layer 1 is none"));
  EXPECT_THAT(parse_error(std::string(kFactsLine) + "[0,[8]]"), HasSubstr("from 0 to 7"));
  EXPECT_THAT(parse_error("[0,[1]]\n" + std::string(kFactsLine)), HasSubstr("after the first"));
  EXPECT_THAT(parse_error(std::string(kFactsLine) + kFactsLine), HasSubstr("after the first"));
  EXPECT_THAT(parse_error("{}"), HasSubstr("lack \"sluice_trace\""));
  std::string line = kFactsLine;
  EXPECT_THAT(parse_error(line.replace(line.find("[0,2]"), 5, "[2,0]")), HasSubstr("ascending"));
  line = kFactsLine;
  EXPECT_THAT(parse_error(line.replace(line.find(":8,"), 3, ":0,")), HasSubstr("\"experts\""));
}

TEST(TraceFile, IsReadInPieces) {
  const TemporaryDirectory directory;
  const std::string path = (directory.path() / "t.jsonl").string();
  std::string text;
  for (uint32_t i = 0; text.size() < 3'000'000; ++i) {
    text += "[" + std::to_string(i % 48) + ", [" + std::to_string(i % 100) + ", 100, 101]]\n";
  }
  std::ofstream(path) << text;
  const Trace trace = read_trace(path);
  const Trace whole = parse_trace(text, path);
  EXPECT_EQ(trace.size(), whole.size());
  EXPECT_EQ(trace_text(trace), trace_text(whole));
  std::ofstream(path) << std::string(3'000'000, '[');
  EXPECT_THROW(read_trace(path), Error);
}

TEST(TraceWriter, LeavesWholeLinesAtEveryFlush) {
  const TemporaryDirectory directory;
  const std::string path = (directory.path() / "t.jsonl").string();
  TraceWriter writer(path, facts());
  EXPECT_EQ(text_of(path), kFactsLine);
  writer.add(0, std::vector<uint32_t>{4, 1});
  writer.add(2, std::vector<uint32_t>{0, 7});
  EXPECT_EQ(text_of(path), kFactsLine);
  writer.flush();
  EXPECT_EQ(text_of(path), std::string(kFactsLine) + "[0,[4,1]]\n[2,[0,7]]\n");
  EXPECT_EQ(trace_text(read_trace(path)), text_of(path));
}

TEST(TraceWriter, NamesWhatItCannotWrite) {
  EXPECT_THROW(TraceWriter("/nonexistent/t.jsonl", facts()), Error);
  try {
    TraceWriter("/dev/full", facts());
    FAIL() << "wrote to a full device";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("/dev/full: the trace cannot be written"));
  }
}

}  // namespace
}  // namespace sluice
