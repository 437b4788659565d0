// Fuzzes tokenizer.model: the input must load or be an Error, and what loads must encode and decode
// or be an Error, token by token as the whole.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "io/error.h"
#include "model/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  try {
    const Tokenizer tokenizer = Tokenizer::parse_sentencepiece(
        {reinterpret_cast<const char*>(data), size}, "fuzz", "{}", "fuzz");
    for (const char* text : {"", "ab  b\n\xC3\xA9<s>ab", "\xFF"}) {
      std::vector<uint32_t> ids = tokenizer.encode(text, true);
      for (uint32_t id = 0; id < 300; ++id) ids.push_back(id);
      Detokenizer detokenizer(tokenizer, false);
      std::string streamed;
      for (const uint32_t id : ids) streamed += detokenizer.push(id);
      streamed += detokenizer.finish();
      if (streamed != tokenizer.decode(ids, false)) {
        std::fputs("broken: token by token is not as the whole\n", stderr);
        std::abort();
      }
    }
  } catch (const Error&) {
    // Refusing a damaged file is what is asked for.
  }
  return 0;
}
