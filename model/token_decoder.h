// TokenDecoder: the component of a tokenizer file that turns tokens back into text: ByteLevel,
// Metaspace, Replace, ByteFallback, Fuse, Strip, or a Sequence of them.
//
// A decoder is a chain of stages, each of which works on tokens as they come and holds back only
// what a later token may still change. Decoding a whole text and decoding token by token are
// therefore the same thing. Threads: any for TokenDecoder; one for each Stream.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// A stage, or the end of the chain. A token is any number of text() and one end_token().
class DecoderStage {
 public:
  virtual ~DecoderStage() = default;
  virtual void text(std::string_view part) = 0;
  virtual void end_token() = 0;
  virtual void finish() = 0;  // behind the last token
};

class TokenDecoder {
 public:
  // component: the value of "decoder"; null: tokens are joined by spaces, as the reference does.
  // where: for messages. Throws Error.
  TokenDecoder(const nlohmann::json& component, const std::string& where);

  // One text being decoded. What it returns is valid UTF-8 as long as the tokens are.
  class Stream {
   public:
    // Throws Error: a rule's pattern took too many steps (finish too).
    void push(std::string_view token);
    void finish();
    std::string take();  // the text that has become certain since the last call

   private:
    friend class TokenDecoder;
    std::unique_ptr<std::string> text_;    // what the last stage writes to
    std::unique_ptr<DecoderStage> first_;  // owns the stages behind it
  };
  Stream stream() const;

 private:
  void add(const nlohmann::json& component, const std::string& where);
  void add_strip(const nlohmann::json& component, const std::string& where);

  using MakeStage =
      std::function<std::unique_ptr<DecoderStage>(std::unique_ptr<DecoderStage> next)>;
  std::vector<MakeStage> stages_;
  size_t growth_ = 1;  // of the Replace stages together
};

}  // namespace sluice
