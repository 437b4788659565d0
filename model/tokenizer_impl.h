// What a Tokenizer is made of, whatever file it comes from. Internal to model/. Threads: any.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/added_tokens.h"
#include "model/token_decoder.h"
#include "model/tokenizer.h"

namespace sluice {

struct Tokenizer::Impl {
  virtual ~Impl() = default;
  // text: valid UTF-8.
  virtual std::vector<uint32_t> encode(std::string_view text, bool add_special_tokens) const = 0;
  virtual const AddedTokens& added() const = 0;
  virtual const TokenTable& tokens() const = 0;
  virtual const TokenDecoder& decoder() const = 0;
  uint32_t vocabulary = 0;  // highest id + 1

  bool is_special(uint32_t id) const {
    const AddedToken* token = added().find(id);
    return token != nullptr && token->special;
  }
  // Nothing if id is no token.
  std::optional<std::string_view> text_of(uint32_t id) const {
    if (const AddedToken* token = added().find(id)) return token->content;
    if (tokens().contains(id)) return tokens().text(id);
    return std::nullopt;
  }
};

}  // namespace sluice
