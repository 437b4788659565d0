// Tokenizer: text to token ids and back, from a model directory's tokenizer.json, or where that is
// missing its tokenizer.model, which the SentencePiece library reads.
//
// tokenizer.json: BPE models, byte-level (GPT-2, Qwen, Llama-3, GPT-4o, DeepSeek kinds) and
// SentencePiece-like with byte fallback (Llama-2, Mistral kinds). Added and special tokens are cut
// out first, the rest is normalized, split into words by the file's own rules, and merged by rank
// within each word. Results equal those of the reference library token for token. A component that
// is not known is an Error naming it, never ignored; truncation and padding, which do not concern
// the text, are. Threads: any, after load (const members only).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

class Tokenizer {
 public:
  // Reads DIR/tokenizer.json, or DIR/tokenizer.model with DIR/tokenizer_config.json. Throws Error.
  static Tokenizer load(const std::filesystem::path& model_directory);
  // json: content of a tokenizer.json; path: for messages. Throws Error. Peak memory while loading
  // stays near the finished tables' size (a published file has 150,000 tokens and 280,000 merges).
  static Tokenizer parse(std::string_view json, const std::string& path);
  // model: content of a tokenizer.model (BPE or unigram); config: of a tokenizer_config.json, whose
  // added_tokens_decoder, add_bos_token and add_eos_token count. As the reference does, control
  // tokens and added ones are cut out of the text first. Throws Error.
  static Tokenizer parse_sentencepiece(std::string_view model, const std::string& model_path,
                                       std::string_view config, const std::string& config_path);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // text: UTF-8; invalid bytes are replaced by U+FFFD first. add_special_tokens applies the file's
  // post-processor (a begin-of-text token, say). Time is O(n log n) whatever the text.
  std::vector<uint32_t> encode(std::string_view text, bool add_special_tokens) const;
  // Bytes that are no UTF-8 come out as U+FFFD, as the reference does. Unknown ids are skipped.
  std::string decode(std::span<const uint32_t> ids, bool skip_special_tokens) const;

  uint32_t vocabulary() const;                                  // highest id + 1
  std::optional<uint32_t> id_of(std::string_view token) const;  // by its literal content
  bool is_special(uint32_t id) const;

 private:
  friend class Detokenizer;
  struct Impl;
  class FromJson;
  class FromSentencePiece;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Incremental decoding for streaming: push() returns the text that has become certain, never half a
// UTF-8 character; finish(), the last call, the rest. The concatenation equals Tokenizer::decode of
// all ids. Where a decoder takes byte tokens together (byte fallback), a row of them is certain
// only when it has ended. Borrows tokenizer's content, which must outlive this. Threads: one.
class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens);
  Detokenizer(Detokenizer&&) noexcept;
  Detokenizer& operator=(Detokenizer&&) noexcept;
  ~Detokenizer();

  std::string push(uint32_t id);
  std::string finish();

 private:
  struct State;
  const Tokenizer::Impl* tokenizer_;
  bool skip_special_;
  std::unique_ptr<State> state_;
};

}  // namespace sluice
