// Fuzzes the tokenizer: the input is once a tokenizer.json, and once a text for fixed tokenizers.
//
// A file must load or be an Error; one that loads must encode and decode, or be an Error. The fixed
// tokenizers must give every text back, whole and token by token alike.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "io/error.h"
#include "model/byte_level.h"
#include "model/tokenizer.h"
#include "model/utf8.h"

namespace sluice {
namespace {

using nlohmann::json;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

std::string stream(const Tokenizer& tokenizer, const std::vector<uint32_t>& ids) {
  Detokenizer detokenizer(tokenizer, false);
  std::string text;
  for (const uint32_t id : ids) {
    const std::string part = detokenizer.push(id);
    require(utf8_valid(part), "a part is whole characters");
    text += part;
  }
  return text + detokenizer.finish();
}

const json kAdded = {{{"id", 300}, {"content", "<|end|>"}, {"special", true}},
                     {{"id", 301}, {"content", "<|"}, {"special", false}, {"normalized", false}}};

// All bytes, a few merges, and a pattern in the manner of published ones.
Tokenizer byte_level() {
  json vocab;
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string text;
    append_byte_level(std::string(1, static_cast<char>(byte)), text);
    vocab[text] = byte;
  }
  vocab["ab"] = 256;
  vocab["abab"] = 257;
  vocab["ĠĠ"] = 258;
  vocab["Ġa"] = 259;
  const json file = {
      {"added_tokens", kAdded},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"},
           {"pattern",
            {{"Regex",
              "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
              "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}}},
           {"behavior", "Isolated"},
           {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"vocab", vocab}, {"merges", {"a b", "ab ab", "Ġ Ġ", "Ġ a"}}}}};
  return Tokenizer::parse(file.dump(), "byte-level");
}

// Letters and bytes, and spaces written as marks.
Tokenizer byte_fallback() {
  json vocab = {{"<unk>", 0}, {"▁", 1}, {"a", 2}, {"b", 3}, {"ab", 4}, {"▁a", 5}};
  for (unsigned byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    vocab[name] = 6 + byte;
  }
  const json mark_to_space = {
      {"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
  const json file = {
      {"added_tokens", kAdded},
      {"pre_tokenizer",
       {{"type", "Metaspace"},
        {"replacement", "▁"},
        {"prepend_scheme", "never"},
        {"split", false}}},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders", {mark_to_space, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}}}}},
      {"model",
       {{"vocab", vocab},
        {"merges", {"a b", "▁ a"}},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true}}}};
  return Tokenizer::parse(file.dump(), "byte fallback");
}

void check_text(const Tokenizer& tokenizer, std::string_view text, std::string_view expected) {
  const std::vector<uint32_t> ids = tokenizer.encode(text, true);
  const std::string decoded = tokenizer.decode(ids, false);
  require(decoded == expected, "decoding gives the text back");
  require(stream(tokenizer, ids) == decoded, "token by token is as the whole");
}

void check_file(std::string_view file) {
  try {
    const Tokenizer tokenizer = Tokenizer::parse(file, "fuzz");
    for (const char* text : {"", "a b  ab\n12 \xC3\xA9\xE2\x96\x81<|end|> 'S", "\xFF"}) {
      std::vector<uint32_t> ids = tokenizer.encode(text, true);
      for (uint32_t id = 0; id < 300; ++id) ids.push_back(id);
      require(stream(tokenizer, ids) == tokenizer.decode(ids, false),
              "token by token is as the whole");
    }
  } catch (const Error&) {
    // Refusing a damaged file is what is asked for.
  }
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  static const Tokenizer bytes = byte_level();
  static const Tokenizer fallback = byte_fallback();
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string valid = utf8_repaired(input);
  check_text(bytes, input, valid);
  // A mark in the text comes back as the space that it stands for.
  std::string spaces;
  for (std::string_view rest = valid; !rest.empty();) {
    const std::string_view character = rest.substr(0, utf8_length(rest[0]));
    spaces += character == "▁" ? " " : character;
    rest.remove_prefix(character.size());
  }
  check_text(fallback, input, spaces);
  check_file(input);
  return 0;
}
