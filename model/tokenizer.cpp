#include "model/tokenizer.h"

#include <algorithm>
#include <utility>

#include "io/error.h"
#include "io/posix_file.h"
#include "model/bpe.h"
#include "model/json_object.h"
#include "model/normalizer.h"
#include "model/post_processor.h"
#include "model/pre_tokenizer.h"
#include "model/tokenizer_impl.h"
#include "model/tokenizer_json.h"
#include "model/utf8.h"

namespace sluice {
namespace {

using nlohmann::json;

// Words are indexed by 32 bits, and prefixes and the byte-level alphabet lengthen them.
constexpr size_t kMaxTextBytes = size_t{1} << 28;

const json& member(const json& object, const char* key) {
  static const json null;
  const auto place = object.find(key);
  return place == object.end() ? null : *place;
}

Bpe make_bpe(TokenizerJson& file, const std::string& path) {
  const std::string where = path + ": model";
  const JsonObject model(member(file.rest, "model"), where);
  const std::string type = model.text("type").value_or("BPE");
  if (type != "BPE") throw Error(where, ": a model of type ", in_quotes(type), "; expected BPE");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string affix = model.text(key).value_or("");
    if (!affix.empty()) {
      throw Error(where, ": ", key, " is ", in_quotes(affix), ", which Sluice does not support");
    }
  }
  if (model.real("dropout", {0, 1}).value_or(0) != 0) {
    throw Error(where, ": dropout is ", model.found("dropout"),
                "; merges that are left out by chance serve training only; set it to null");
  }
  if (file.tokens.size() == 0) throw Error(where, ": vocab is absent or empty");
  BpeOptions options;
  options.ignore_merges = model.boolean("ignore_merges").value_or(false);
  options.byte_fallback = model.boolean("byte_fallback").value_or(false);
  options.fuse_unknown = model.boolean("fuse_unk").value_or(false);
  options.unknown_token = model.text("unk_token").value_or("");
  return Bpe(std::move(file.tokens), std::move(file.merges), options);
}

}  // namespace

// tokenizer.json: added tokens -> normalizer -> pre_tokenizer -> bpe -> post_processor, and back by
// the decoder.
class Tokenizer::FromJson final : public Impl {
 public:
  FromJson(TokenizerJson file, const std::string& path)
      : normalizer_(member(file.rest, "normalizer"), path + ": normalizer"),
        pre_tokenizer_(member(file.rest, "pre_tokenizer"), path + ": pre_tokenizer"),
        bpe_(make_bpe(file, path)),
        added_(member(file.rest, "added_tokens"), normalizer_, bpe_.tokens(),
               path + ": added_tokens"),
        post_processor_(member(file.rest, "post_processor"), path + ": post_processor"),
        decoder_(member(file.rest, "decoder"), path + ": decoder") {
    vocabulary = bpe_.tokens().end_id();
    for (const AddedToken& token : added_.all()) vocabulary = std::max(vocabulary, token.id + 1);
    for (const uint32_t id : post_processor_.added_ids()) {
      if (id >= vocabulary) {
        throw Error(path, ": post_processor: adds the id ", id, ", past the highest token's, ",
                    vocabulary - 1);
      }
    }
  }

  std::vector<uint32_t> encode(std::string_view text, bool add_special_tokens) const override {
    std::vector<uint32_t> ids;
    Bpe::Scratch scratch;
    for (const Segment& segment : added_.cut(text, AddedTokens::Text::raw)) {
      if (segment.id) {
        ids.push_back(*segment.id);
      } else {
        const auto [begin, end] = segment.span;
        encode_normalized(normalizer_.apply(text.substr(begin, end - begin)), begin == 0, scratch,
                          ids);
      }
    }
    return add_special_tokens ? post_processor_.apply(std::move(ids)) : ids;
  }
  const AddedTokens& added() const override { return added_; }
  const TokenTable& tokens() const override { return bpe_.tokens(); }
  const TokenDecoder& decoder() const override { return decoder_; }

 private:
  void encode_normalized(std::string_view text, bool from_start, Bpe::Scratch& scratch,
                         std::vector<uint32_t>& ids) const {
    for (const Segment& segment : added_.cut(text, AddedTokens::Text::normalized)) {
      if (segment.id) {
        ids.push_back(*segment.id);
        continue;
      }
      const auto [begin, end] = segment.span;
      const Words words = pre_tokenizer_.split(std::string(text.substr(begin, end - begin)),
                                               from_start && begin == 0);
      const std::string_view all = words.text;
      for (const TextSpan word : words.spans) {
        bpe_.encode(all.substr(word.begin, word.end - word.begin), scratch, ids);
      }
    }
  }

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  AddedTokens added_;
  PostProcessor post_processor_;
  TokenDecoder decoder_;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& model_directory) {
  const std::filesystem::path json = model_directory / "tokenizer.json";
  const std::filesystem::path model = model_directory / "tokenizer.model";
  std::error_code error;
  if (std::filesystem::exists(json, error) || !std::filesystem::exists(model, error)) {
    return parse(read_text_file(json.string(), kMaxTokenizerFileBytes), json.string());
  }
  const std::filesystem::path config = model_directory / "tokenizer_config.json";
  const bool configured = std::filesystem::exists(config, error);
  return parse_sentencepiece(
      read_text_file(model.string(), kMaxTokenizerFileBytes), model.string(),
      configured ? read_text_file(config.string(), kMaxTokenizerFileBytes) : "{}", config.string());
}

Tokenizer Tokenizer::parse(std::string_view json, const std::string& path) {
  return Tokenizer(std::make_unique<FromJson>(parse_tokenizer_json(json, path), path));
}

std::vector<uint32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  if (text.size() > kMaxTextBytes) {
    throw Error("a text of ", text.size(), " bytes is too long for the tokenizer; the limit is ",
                kMaxTextBytes, "; encode it in parts");
  }
  return impl_->encode(utf8_repaired(text), add_special_tokens);
}

std::string Tokenizer::decode(std::span<const uint32_t> ids, bool skip_special_tokens) const {
  Detokenizer detokenizer(*this, skip_special_tokens);
  std::string text;
  for (const uint32_t id : ids) text += detokenizer.push(id);
  return text + detokenizer.finish();
}

uint32_t Tokenizer::vocabulary() const { return impl_->vocabulary; }

std::optional<uint32_t> Tokenizer::id_of(std::string_view token) const {
  if (const AddedToken* added = impl_->added().find(token)) return added->id;
  return impl_->tokens().find(token);
}

bool Tokenizer::is_special(uint32_t id) const { return impl_->is_special(id); }

struct Detokenizer::State {
  TokenDecoder::Stream stream;
};

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer.impl_.get()),
      skip_special_(skip_special_tokens),
      state_(std::make_unique<State>(State{tokenizer.impl_->decoder().stream()})) {}
Detokenizer::Detokenizer(Detokenizer&&) noexcept = default;
Detokenizer& Detokenizer::operator=(Detokenizer&&) noexcept = default;
Detokenizer::~Detokenizer() = default;

std::string Detokenizer::push(uint32_t id) {
  const auto text = tokenizer_->text_of(id);
  if (!text || (skip_special_ && tokenizer_->is_special(id))) return {};
  state_->stream.push(*text);
  return state_->stream.take();
}

std::string Detokenizer::finish() {
  state_->stream.finish();
  return state_->stream.take();
}

}  // namespace sluice
