#include "model/token_decoder.h"

#include <cctype>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "io/error.h"
#include "model/byte_level.h"
#include "model/json_object.h"
#include "model/replace_rule.h"
#include "model/tokenizer_component.h"
#include "model/utf8.h"

namespace sluice {
namespace {

using nlohmann::json;
using Next = std::unique_ptr<DecoderStage>;

// A stage calls the next, and is destroyed after it: the chain's length is that of the stack.
constexpr size_t kMaxStages = 64;  // published decoders have 4

class Output : public DecoderStage {
 public:
  explicit Output(std::string* text) : text_(text) {}
  void text(std::string_view part) override { *text_ += part; }
  void end_token() override {}
  void finish() override {}

 private:
  std::string* text_;
};

// A stage that needs each token whole.
class TokenStage : public DecoderStage {
 public:
  explicit TokenStage(Next next) : next_(std::move(next)) {}
  void text(std::string_view part) final { token_ += part; }
  void end_token() final {
    token(token_);
    token_.clear();
  }
  void finish() override { next_->finish(); }

 protected:
  virtual void token(std::string_view token) = 0;
  void pass(std::string_view token) {
    next_->text(token);
    next_->end_token();
  }
  DecoderStage& next() { return *next_; }

 private:
  Next next_;
  std::string token_;
};

class JoinBySpaces : public TokenStage {
 public:
  using TokenStage::TokenStage;
  void token(std::string_view token) override {
    if (!std::exchange(first_, false)) next().text(" ");
    next().text(token);
  }

 private:
  bool first_ = true;
};

// Bytes of all tokens are one text; a character may be spread over several.
class ByteLevel : public TokenStage {
 public:
  using TokenStage::TokenStage;
  void token(std::string_view token) override {
    bytes_.clear();
    append_bytes_of_token(token, bytes_);
    std::string text;
    repair_.push(bytes_, text);
    next().text(text);
  }
  void finish() override {
    std::string text;
    repair_.finish(text);
    pass(text);
    next().finish();
  }

 private:
  std::string bytes_;
  Utf8Repair repair_;
};

class Replace : public TokenStage {
 public:
  Replace(Next next, std::shared_ptr<const ReplaceRule> rule)
      : TokenStage(std::move(next)), rule_(std::move(rule)) {}
  void token(std::string_view token) override { pass(rule_->apply(token)); }

 private:
  std::shared_ptr<const ReplaceRule> rule_;
};

// The byte of a token <0xNN>.
std::optional<char> byte_of(std::string_view token) {
  const auto digit = [&](size_t i) { return std::isxdigit(static_cast<unsigned char>(token[i])); };
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  if (!digit(3) || !digit(4)) return std::nullopt;
  return static_cast<char>(std::stoi(std::string(token.substr(3, 2)), nullptr, 16));
}

// Byte tokens in a row are a text; if that is no valid UTF-8, all of its bytes are broken. So a row
// is held until it ends: its last byte may still break the first.
class ByteFallback : public TokenStage {
 public:
  using TokenStage::TokenStage;
  void token(std::string_view token) override {
    if (const auto byte = byte_of(token)) {
      row_ += *byte;
    } else {
      end_row();
      pass(token);
    }
  }
  void finish() override {
    end_row();
    next().finish();
  }

 private:
  void end_row() {
    if (row_.empty()) return;
    if (utf8_valid(row_)) {
      pass(row_);
    } else {
      for (size_t i = 0; i < row_.size(); ++i) pass(kReplacementCharacter);
    }
    row_.clear();
  }

  std::string row_;
};

class Fuse : public DecoderStage {
 public:
  explicit Fuse(Next next) : next_(std::move(next)) {}
  void text(std::string_view part) override { next_->text(part); }
  void end_token() override {}
  void finish() override {
    next_->end_token();
    next_->finish();
  }

 private:
  Next next_;
};

// Takes up to `start` of a character from the beginning of each token and up to `stop` from its
// end.
struct StripRule {
  std::string character;
  uint64_t start, stop;
};
class Strip : public DecoderStage {
 public:
  Strip(Next next, StripRule rule)
      : next_(std::move(next)), rule_(std::move(rule)), to_strip_(rule_.start) {}
  void text(std::string_view part) override {
    while (!part.empty()) {
      const std::string_view character = part.substr(0, utf8_length(part[0]));
      part.remove_prefix(character.size());
      if (character != rule_.character) {
        to_strip_ = 0;
        for (; held_ > 0; --held_) next_->text(rule_.character);
        next_->text(character);
      } else if (to_strip_ > 0) {
        --to_strip_;
      } else if (held_ < rule_.stop) {
        ++held_;  // perhaps the last
      } else {
        next_->text(character);  // `stop` of them are held behind it
      }
    }
  }
  void end_token() override {
    held_ = 0;
    to_strip_ = rule_.start;
    next_->end_token();
  }
  void finish() override { next_->finish(); }

 private:
  Next next_;
  StripRule rule_;
  uint64_t to_strip_;  // of this token's beginning
  uint64_t held_ = 0;
};

// The mark that stood for a space is one again; the first token loses its marks.
class Metaspace : public TokenStage {
 public:
  Metaspace(Next next, std::string mark, bool strip_first)
      : TokenStage(std::move(next)), mark_(std::move(mark)), strip_(strip_first) {}
  void token(std::string_view token) override {
    std::string text;
    while (!token.empty()) {
      const std::string_view character = token.substr(0, utf8_length(token[0]));
      token.remove_prefix(character.size());
      if (character != mark_) {
        text += character;
      } else if (!strip_) {
        text += ' ';
      }
    }
    strip_ = false;
    pass(text);
  }

 private:
  std::string mark_;
  bool strip_;
};

std::string required_character(const JsonObject& object, const char* key) {
  std::string character = object.required_text(key);
  if (character.empty() || utf8_length(character[0]) != character.size()) {
    throw Error(object.what(), ": ", key, " is ", in_quotes(character), "; expected one character");
  }
  return character;
}

template <class Stage>
Next make_stage(Next next) {
  return std::make_unique<Stage>(std::move(next));
}

}  // namespace

TokenDecoder::TokenDecoder(const json& component, const std::string& where) {
  if (component.is_null()) {
    stages_.emplace_back(make_stage<JoinBySpaces>);
  } else {
    add(component, where);
  }
}

void TokenDecoder::add(const json& component, const std::string& where) {
  const JsonObject object(component, where);
  const std::string type = object.required_text("type");
  if (type == "Sequence") {
    for_each_element(
        component, "decoders", where,
        [this](const json& element, const std::string& place) { add(element, place); });
  } else if (type == "ByteLevel") {
    stages_.emplace_back(make_stage<ByteLevel>);
  } else if (type == "ByteFallback") {
    stages_.emplace_back(make_stage<ByteFallback>);
  } else if (type == "Fuse") {
    stages_.emplace_back(make_stage<Fuse>);
  } else if (type == "Strip") {
    add_strip(component, where);
  } else if (type == "Replace") {
    const auto rule = std::make_shared<const ReplaceRule>(component, where);
    growth_ = combined_growth(growth_, rule->growth(), where);
    stages_.emplace_back(
        [rule](Next next) { return std::make_unique<Replace>(std::move(next), rule); });
  } else if (type == "Metaspace") {
    const std::string mark = required_character(object, "replacement");
    const bool strip_first = object.text("prepend_scheme").value_or("always") != "never" &&
                             object.boolean("add_prefix_space").value_or(true);
    stages_.emplace_back([mark, strip_first](Next next) {
      return std::make_unique<Metaspace>(std::move(next), mark, strip_first);
    });
  } else {
    throw Error(where, ": a decoder of type ", in_quotes(type),
                "; expected Sequence, ByteLevel, ByteFallback, Fuse, Strip, Replace or Metaspace");
  }
  if (stages_.size() > kMaxStages) {
    throw Error(where, ": more than ", kMaxStages, " decoders one behind the other");
  }
}

void TokenDecoder::add_strip(const json& component, const std::string& where) {
  const JsonObject object(component, where);
  const CountRange range{0, UINT32_MAX};
  const StripRule rule{required_character(object, "content"), object.required_count("start", range),
                       object.required_count("stop", range)};
  stages_.emplace_back(
      [rule](Next next) { return std::make_unique<Strip>(std::move(next), rule); });
}

TokenDecoder::Stream TokenDecoder::stream() const {
  Stream stream;
  stream.text_ = std::make_unique<std::string>();
  stream.first_ = std::make_unique<Output>(stream.text_.get());
  for (auto make = stages_.rbegin(); make != stages_.rend(); ++make) {
    stream.first_ = (*make)(std::move(stream.first_));
  }
  return stream;
}

void TokenDecoder::Stream::push(std::string_view token) {
  first_->text(token);
  first_->end_token();
}

void TokenDecoder::Stream::finish() { first_->finish(); }

std::string TokenDecoder::Stream::take() { return std::exchange(*text_, {}); }

}  // namespace sluice
