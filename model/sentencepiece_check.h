// Checks a tokenizer.model before the SentencePiece library sees it, which trusts its files.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

// model: sentencepiece_model.proto's ModelProto in Protocol Buffers' wire format. Throws Error,
// naming path: not such a message; a kind of model other than unigram and BPE; pieces that are
// empty, hold a zero byte, are too many or too long; scores that are not numbers; a character map
// (a double-array trie, its units' children and values) that points outside of itself. Threads:
// any.
void check_sentencepiece_model(std::string_view model, const std::string& path);

}  // namespace sluice
