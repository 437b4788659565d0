// Tokenizers whose only file is a tokenizer.model. The library encodes; what surrounds that, as the
// reference's Llama tokenizer has it, is here.
#include <sentencepiece_processor.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "io/error.h"
#include "io/json_text.h"
#include "model/json_object.h"
#include "model/sentencepiece_check.h"
#include "model/tokenizer_impl.h"

namespace sluice {
namespace {

using nlohmann::json;
using sentencepiece::SentencePieceProcessor;

constexpr size_t kMaxAddedTokens = 100'000;
constexpr std::string_view kSpaceMark = "▁";

std::unique_ptr<const SentencePieceProcessor> load_model(std::string_view model,
                                                         const std::string& path) {
  check_sentencepiece_model(model, path);
  auto processor = std::make_unique<SentencePieceProcessor>();
  const auto status = processor->LoadFromSerializedProto({model.data(), model.size()});
  if (!status.ok()) throw Error(path, ": no SentencePiece model: ", std::string(status.message()));
  return processor;
}

TokenTable read_tokens(const SentencePieceProcessor& model, const std::string& path) {
  TokenTable tokens;
  for (int id = 0; id < model.GetPieceSize(); ++id) {
    if (tokens.add(model.IdToPiece(id), static_cast<uint32_t>(id)) == TokenTable::Added::yes) {
      continue;
    }
    throw Error(path, ": the piece ", in_quotes(model.IdToPiece(id)), " is given twice");
  }
  return tokens;
}

json added_token(uint32_t id, const std::string& content) {
  return {{"id", id}, {"content", content}, {"special", true}, {"normalized", false}};
}

// Control tokens and the unknown one, then what the configuration adds, by id.
json list_added_tokens(const SentencePieceProcessor& model, const json& config,
                       const std::string& path) {
  json list = json::array();
  for (int id = 0; id < model.GetPieceSize(); ++id) {
    if (model.IsControl(id) || model.IsUnknown(id)) {
      list.push_back(added_token(static_cast<uint32_t>(id), model.IdToPiece(id)));
    }
  }
  const auto decoder = config.find("added_tokens_decoder");
  if (decoder == config.end() || decoder->is_null()) return list;
  if (!decoder->is_object() || decoder->size() > kMaxAddedTokens) {
    throw Error(path, ": added_tokens_decoder is no object of at most ", kMaxAddedTokens,
                " tokens");
  }
  std::vector<json> more;
  for (const auto& [key, token] : decoder->items()) {
    uint32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc{} || end != key.data() + key.size() || id >= kMaxTokenId ||
        !token.is_object()) {
      throw Error(path, ": added_tokens_decoder: ", in_quotes(key), " is no id with a token");
    }
    const bool known =
        id < static_cast<uint32_t>(model.GetPieceSize()) &&
        (model.IsControl(static_cast<int>(id)) || model.IsUnknown(static_cast<int>(id)));
    if (known) continue;
    more.push_back(token);
    more.back()["id"] = id;
  }
  std::ranges::sort(more, [](const json& a, const json& b) {
    return a.at("id").get<uint32_t>() < b.at("id").get<uint32_t>();
  });
  for (json& token : more) list.push_back(std::move(token));
  return list;
}

// Marks become spaces, byte tokens bytes, and the space that was put in front goes.
json decoder_of(bool with_prefix) {
  json decoders = {{{"type", "Replace"}, {"pattern", {{"String", kSpaceMark}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}}};
  if (with_prefix) {
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1u}, {"stop", 0u}});
  }
  return {{"type", "Sequence"}, {"decoders", std::move(decoders)}};
}

json parse_config(std::string_view text, const std::string& path) {
  json config = json_from(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) throw Error(path, ": not a JSON object");
  return config;
}

}  // namespace

class Tokenizer::FromSentencePiece final : public Impl {
 public:
  FromSentencePiece(std::string_view model, const std::string& model_path, const json& config,
                    const std::string& config_path)
      : model_(load_model(model, model_path)),
        tokens_(read_tokens(*model_, model_path)),
        added_(list_added_tokens(*model_, config, config_path), Normalizer(json(), config_path),
               tokens_, config_path + ": added_tokens_decoder"),
        decoder_(decoder_of(puts_prefix()), model_path) {
    const JsonObject settings(config, config_path);
    if (settings.boolean("add_bos_token").value_or(true)) before_ = control(model_->bos_id());
    if (settings.boolean("add_eos_token").value_or(false)) behind_ = control(model_->eos_id());
    vocabulary = tokens_.end_id();
    for (const AddedToken& token : added_.all()) vocabulary = std::max(vocabulary, token.id + 1);
  }

  std::vector<uint32_t> encode(std::string_view text, bool add_special_tokens) const override {
    std::vector<uint32_t> ids;
    if (add_special_tokens && before_) ids.push_back(*before_);
    for (const Segment& segment : added_.cut(text, AddedTokens::Text::raw)) {
      if (segment.id) {
        ids.push_back(*segment.id);
      } else {
        append(text.substr(segment.span.begin, segment.span.end - segment.span.begin), ids);
      }
    }
    if (add_special_tokens && behind_) ids.push_back(*behind_);
    return ids;
  }
  const AddedTokens& added() const override { return added_; }
  const TokenTable& tokens() const override { return tokens_; }
  const TokenDecoder& decoder() const override { return decoder_; }

 private:
  static std::optional<uint32_t> control(int id) {
    return id < 0 ? std::nullopt : std::optional(static_cast<uint32_t>(id));
  }
  bool puts_prefix() const {
    std::vector<std::string> pieces;
    return model_->Encode("a", &pieces).ok() && !pieces.empty() &&
           pieces.front().starts_with(kSpaceMark);
  }
  void append(std::string_view text, std::vector<uint32_t>& ids) const {
    std::vector<int> encoded;
    const auto status = model_->Encode({text.data(), text.size()}, &encoded);
    if (!status.ok()) throw Error("SentencePiece: ", std::string(status.message()));
    for (const int id : encoded) ids.push_back(static_cast<uint32_t>(id));
  }

  std::unique_ptr<const SentencePieceProcessor> model_;
  TokenTable tokens_;
  AddedTokens added_;
  TokenDecoder decoder_;
  std::optional<uint32_t> before_, behind_;
};

Tokenizer Tokenizer::parse_sentencepiece(std::string_view model, const std::string& model_path,
                                         std::string_view config, const std::string& config_path) {
  return Tokenizer(std::make_unique<FromSentencePiece>(
      model, model_path, parse_config(config, config_path), config_path));
}

}  // namespace sluice
