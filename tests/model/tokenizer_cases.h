// The expected encodings of the tokenizers under test, each a line of a directory's
// encodings.jsonl. Small tokenizers lie in tests/data; published ones are looked for in the
// directory that SLUICE_PUBLISHED_TOKENIZERS names, or beside the repository.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace sluice::test {

struct EncodingCase {
  std::string text;
  std::vector<uint32_t> ids;
  std::vector<uint32_t> ids_with_special;
  std::string decoded;       // of ids
  std::string decoded_skip;  // without special tokens
};

inline const std::vector<std::string> kSmallTokenizers = {
    "small_gpt2",      "small_qwen2",      "small_llama3",       "small_o200k",
    "small_deepseek3", "small_spm_legacy", "small_spm_metaspace"};
inline const std::vector<std::string> kPublishedTokenizers = {
    "qwen3", "llama3", "gpt_oss", "deepseek_v3", "llama2", "mistral01", "mistral03"};

inline std::filesystem::path small_tokenizer(const std::string& name) {
  return std::filesystem::path(SLUICE_TEST_DATA) / "tokenizers" / name;
}

inline std::filesystem::path published_tokenizer(const std::string& name) {
  const char* directory = std::getenv("SLUICE_PUBLISHED_TOKENIZERS");
  const std::filesystem::path repository = std::filesystem::path(SLUICE_TEST_DATA) / "../..";
  return (directory != nullptr ? directory : repository / "../shared/tokenizers") / name;
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

inline std::vector<EncodingCase> encoding_cases(const std::filesystem::path& directory) {
  std::vector<EncodingCase> cases;
  std::ifstream file(directory / "encodings.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    cases.push_back({json["text"], json["ids"], json["ids_with_special"], json["decoded"],
                     json["decoded_skip"]});
  }
  return cases;
}

}  // namespace sluice::test
