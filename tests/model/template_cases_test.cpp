// Templates against what the reference makes of them, character for character: those of
// tests/data/chat_templates, and published ones in the directory that SLUICE_PUBLISHED_TEMPLATES
// names, or beside the repository.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/model/template_fixture.h"

namespace sluice {
namespace {

using json = nlohmann::ordered_json;
using test::outcome_of_template;
namespace fs = std::filesystem;

const fs::path kSmall = fs::path(SLUICE_TEST_DATA) / "chat_templates";

fs::path published() {
  const char* directory = std::getenv("SLUICE_PUBLISHED_TEMPLATES");
  if (directory != nullptr) return directory;
  return fs::path(SLUICE_TEST_DATA) / "../../../shared/chat_templates";
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<json> read_lines(const fs::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::vector<json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
  return lines;
}

std::string expected(const json& line) {
  if (line.contains("fails")) return "fails";
  if (line.contains("raises")) return "raises: " + line["raises"].get<std::string>();
  return "renders: " + line["rendered"].get<std::string>();
}

// Every template of a directory that has renderings beside it. Returns how many cases there were.
size_t check_directory(const fs::path& directory) {
  std::vector<fs::path> templates;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".jinja") templates.push_back(entry.path());
  }
  std::ranges::sort(templates);
  size_t cases = 0;
  for (fs::path path : templates) {
    const std::string source = read(path);
    const std::vector<json> lines = read_lines(path.replace_extension(".jsonl"));
    EXPECT_FALSE(lines.empty()) << path;
    for (size_t i = 0; i < lines.size(); ++i) {
      EXPECT_EQ(outcome_of_template(source, lines[i]["inputs"].dump()), expected(lines[i]))
          << path << ", line " << i + 1;
    }
    cases += lines.size();
  }
  return cases;
}

TEST(TemplateCases, SmallTemplatesAreRenderedAsTheReferenceDoes) {
  EXPECT_EQ(check_directory(kSmall), 64u);
}

TEST(TemplateCases, EveryConstructMeansWhatItDoesInTheReference) {
  const std::string variables = read(kSmall / "constructs.json");
  const std::vector<json> lines = read_lines(kSmall / "constructs.jsonl");
  EXPECT_GT(lines.size(), 600u);
  for (const json& line : lines) {
    const std::string source = line["template"].get<std::string>();
    EXPECT_EQ(outcome_of_template(source, variables), expected(line)) << source;
  }
}

TEST(TemplateCases, PublishedTemplatesAreRenderedAsTheReferenceDoes) {
  if (!fs::is_directory(published())) {
    GTEST_SKIP() << published() << " is not here; SLUICE_PUBLISHED_TEMPLATES may name it";
  }
  const size_t cases = check_directory(published());
  EXPECT_GT(cases, 0u);
  RecordProperty("cases", static_cast<int>(cases));
  std::printf("%zu renderings of published templates\n", cases);
}

}  // namespace
}  // namespace sluice
