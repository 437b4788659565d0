#include "stream/calibration_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "io/error.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using testing::HasSubstr;

const ExpertGrid kGrid{.layers = {1, 2, 5}, .experts = 4};

template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string pin_error(const std::string& text) {
  return error_of([&] { parse_pins(text, kGrid, "pin.json"); });
}

std::string perm_error(const std::string& text) {
  return error_of([&] { parse_permutation(text, kGrid, "perm.json"); });
}

TEST(Pins, AreReadInTheirOrderAndWrittenBack) {
  const std::vector<LayerExpert> pins = parse_pins(
      R"({"made_by": {"tool": [1]}, "pin": [[5, 3], [1, 0], [5, 0]]})", kGrid, "pin.json");
  EXPECT_EQ(pins, (std::vector<LayerExpert>{{5, 3}, {1, 0}, {5, 0}}));
  EXPECT_EQ(pins_text(pins), "{\"pin\": [[5, 3], [1, 0], [5, 0]]}\n");
  EXPECT_EQ(parse_pins(pins_text(pins), kGrid, "x"), pins);
  EXPECT_TRUE(parse_pins(pins_text({}), kGrid, "x").empty());
}

TEST(Pins, MayHaveNeighboursWithTheSameKeys) {
  const std::string text = R"({"a": {"x": 1}, "b": [{"x": 2}, {"x": 3}], "pin": [[5, 3]]})";
  EXPECT_EQ(parse_pins(text, kGrid, "pin.json"), (std::vector<LayerExpert>{{5, 3}}));
  EXPECT_THAT(pin_error(R"({"b": {"x": 1, "x": 2}, "pin": []})"), HasSubstr("\"x\" twice"));
}

TEST(Pins, OfAnotherModelSayWhatThisOneHas) {
  EXPECT_THAT(pin_error(R"({"pin": [[1, 0], [3, 0]]})"),
              testing::AllOf(HasSubstr("pin.json: \"pin\"[1]: layer 3"),
                             HasSubstr("3 layers from 1 to 5")));
  EXPECT_THAT(pin_error(R"({"pin": [[1, 4]]})"), HasSubstr("expert 4, but this model has"));
  EXPECT_THAT(pin_error(R"({"pin": [[4294967297, 0]]})"), HasSubstr("layer 4294967297"));
}

TEST(Pins, ThatAreDamagedSayWhere) {
  EXPECT_THAT(pin_error(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(pin_error("{\"pin\": [[1, 0]"), HasSubstr("not valid JSON"));
  EXPECT_THAT(pin_error("[[1, 0]]"), HasSubstr("the key \"pin\""));
  EXPECT_THAT(pin_error("{\"pins\": []}"), HasSubstr("the key \"pin\""));
  EXPECT_THAT(pin_error("{\"pin\": {}}"), HasSubstr("expected an array"));
  for (const char* pair : {"1", "[]", "[1]", "[1, 0, 0]", "[-1, 0]", "[1.0, 0]", "[\"1\", 0]"}) {
    EXPECT_THAT(pin_error(std::string("{\"pin\": [") + pair + "]}"),
                HasSubstr("expected [layer, expert]"))
        << pair;
  }
  EXPECT_THAT(pin_error(R"({"pin": [[1, "0"]]})"), HasSubstr("expected an expert's number"));
  EXPECT_THAT(pin_error(R"({"pin": [[1, 2], [2, 2], [1, 2]]})"),
              HasSubstr("\"pin\"[2]: layer 1, expert 2 is there twice"));
  EXPECT_THAT(pin_error(R"({"pin": [], "pin": []})"), HasSubstr("has \"pin\" twice"));
  EXPECT_THAT(pin_error("{\"pin\": " + std::string(100'000, '[')), HasSubstr("nested deeper"));
}

TEST(Permutations, AreReadAndWrittenBack) {
  const Permutation permutation = parse_permutation(
      R"({"perm": {"5": [3, 2, 1, 0], "1": [0, 1, 2, 3], "2": [1, 0, 3, 2]}})", kGrid, "perm.json");
  EXPECT_EQ(permutation.at(5), (std::vector<uint32_t>{3, 2, 1, 0}));
  EXPECT_EQ(parse_permutation(permutation_text(permutation), kGrid, "x"), permutation);
}

TEST(Permutations, MustBeWhole) {
  const auto with = [](const std::string& layer_5) {
    return R"({"perm": {"1": [0, 1, 2, 3], "2": [1, 0, 3, 2])" + layer_5 + "}}";
  };
  EXPECT_EQ(perm_error(with(R"(, "5": [0, 1, 2, 3])")), "no error");
  EXPECT_THAT(perm_error(with("")), HasSubstr("layer 5 is missing"));
  EXPECT_THAT(perm_error(with(R"(, "5": [0, 1, 2])")), HasSubstr("all 4 experts"));
  EXPECT_THAT(perm_error(with(R"(, "5": [0, 1, 2, 2])")), HasSubstr("expert 2 is there twice"));
  EXPECT_THAT(perm_error(with(R"(, "5": [0, 1, 2, 4])")), HasSubstr("expert 4"));
  EXPECT_THAT(perm_error(with(R"(, "5": 7)")), HasSubstr("all 4 experts"));
  EXPECT_THAT(perm_error(with(R"(, "4": [0, 1, 2, 3])")), HasSubstr("layer 4, but this model"));
  EXPECT_THAT(perm_error(with(R"(, "05": [0, 1, 2, 3])")), HasSubstr("expected a layer's number"));
  EXPECT_THAT(perm_error(with(R"(, "x": [0, 1, 2, 3])")), HasSubstr("expected a layer's number"));
  EXPECT_THAT(perm_error(with(R"(, "2": [0, 1, 2, 3])")), HasSubstr("has \"2\" twice"));
  EXPECT_THAT(perm_error(R"({"perm": []})"), HasSubstr("expected {\"layer\": [ids]}"));
}

TEST(CalibrationFiles, NameTheFileThatCannotBeRead) {
  const TemporaryDirectory directory;
  const std::string path = (directory.path() / "pin.json").string();
  EXPECT_THAT(error_of([&] { read_pins(path, kGrid); }), HasSubstr(path));
  std::ofstream(path) << "{\"pin\": [[2, 1]]}";
  EXPECT_EQ(read_pins(path, kGrid), (std::vector<LayerExpert>{{2, 1}}));
  EXPECT_THAT(error_of([&] { read_permutation(path, kGrid); }), HasSubstr(path + ": expected"));
}

}  // namespace
}  // namespace sluice
