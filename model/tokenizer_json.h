// Reads the text of a tokenizer.json. The vocabulary and the merges, which are nearly all of it, go
// straight into their tables; only the rest becomes a JSON tree. Threads: any.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "model/bpe.h"
#include "model/token_table.h"

namespace sluice {

inline constexpr uint64_t kMaxTokenizerFileBytes = uint64_t{1} << 28;

struct TokenizerJson {
  nlohmann::json rest;  // an object: the file without model.vocab and model.merges
  TokenTable tokens;    // of model.vocab
  MergeTable merges;    // of model.merges
};

// path: for messages. Throws Error: not JSON, or nested too deeply or too large for a tokenizer;
// ids that are negative, past kMaxTokenId or given twice; merges that name tokens which do not
// exist.
TokenizerJson parse_tokenizer_json(std::string_view text, const std::string& path);

}  // namespace sluice
