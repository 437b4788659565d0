#include <nlohmann/json.hpp>

#include "io/error.h"
#include "model/json_object.h"
#include "model/utf8.h"
#include "tools/calibrate_collect.h"

namespace sluice {
namespace {

std::string prompt_of_json(std::string_view line, const std::string& where) {
  const nlohmann::json object = parse_json(line, where);
  if (!object.contains("prompt") || !object["prompt"].is_string()) {
    throw Error(where, ": expected a JSON object with a text under \"prompt\"");
  }
  return object["prompt"].get<std::string>();
}

}  // namespace

std::vector<std::string> built_in_prompts() {
  return {
      "Once upon a time, in a village by the sea, there lived a clockmaker who",
      "The detective put the letter down and looked at the rain on the window. \"You knew,\" she",
      "Dear Ms Alvarez,\n\nThank you for your application. We are pleased to",
      "Q: Why does ice float on water?\nA:",
      "The three branches of government in the United States are",
      "def merge_sorted(a, b):\n    \"\"\"Merges two sorted lists into one.\"\"\"\n",
      "#include <vector>\n\n// Returns the index of the largest element.\nsize_t argmax(",
      "SELECT customers.name, SUM(orders.total)\nFROM customers\n",
      "{\"name\": \"Ada\", \"born\": 1815, \"fields\": [",
      "Theorem. There are infinitely many primes.\nProof. Suppose",
      "If a train travels 240 km in 3 hours and then 100 km in 2 hours, its average speed is",
      "Solve for x: 3x + 7 = 22. First,",
      "Recipe: vegetable soup for four\n\nIngredients:\n-",
      "Ten ideas for a birthday party:\n1.",
      "Breaking news: scientists reported on Tuesday that",
      "User: My computer does not start any more. What should I do?\nAssistant:",
      "Il était une fois une petite fille qui habitait",
      "Die wichtigsten Städte in Deutschland sind",
      "从前有一座山，山上有一座",
      "Roses are red,\nViolets are blue,\n",
  };
}

std::vector<std::string> parse_prompts(std::string_view text, const std::string& path) {
  std::vector<std::string> prompts;
  for (uint64_t line_number = 1; !text.empty(); ++line_number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string where = path + ": line " + std::to_string(line_number);
    if (!utf8_valid(line)) throw Error(where, ": not valid UTF-8; convert the file");
    std::string prompt = line.starts_with('{') ? prompt_of_json(line, where) : std::string(line);
    if (prompt.empty()) throw Error(where, ": an empty prompt");
    prompts.push_back(std::move(prompt));
  }
  if (prompts.empty()) throw Error(path, ": no prompts; expected one a line");
  return prompts;
}

}  // namespace sluice
