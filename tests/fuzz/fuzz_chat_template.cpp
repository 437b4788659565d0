// Chat templates. Whatever text comes as a template, parsing and rendering it ends in bounded time
// and memory, by a text or by an Error; rendering it again gives the same; and a text without
// braces is rendered as it is.
//
// A zero byte may stand between the template and its variables, a JSON object, which are tried
// beside ordinary ones.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "model/template/template.h"

namespace sluice {
namespace {

constexpr std::string_view kVariables =
    R"({"messages": [{"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a <think>b</think> \u00fc\u6f22\n"},
        {"role": "assistant", "content": null,
         "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, null, true]}}}]}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object",
          "properties": {"x": {"type": ["array", "null"]}}, "required": ["x"]}}}],
        "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true, "n": 7})";

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz_chat_template: %s\n", what);
  std::abort();
}

// The text, or the Error's message.
std::string outcome(const jinja::Template& parsed, std::string_view variables) {
  // Small enough for many inputs a second, large enough for every branch.
  const jinja::RenderOptions options = {
      .limits = {.steps = 200'000, .output_bytes = 1 << 20, .memory_bytes = 16 << 20, .depth = 400},
      .clock = [] { return std::tm{}; }};
  const jinja::Variable all = {"", std::string(variables)};
  try {
    return parsed.render({&all, 1}, options);
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view source = input.substr(0, end);
  try {
    const jinja::Template parsed = jinja::Template::parse(source, "fuzz");
    const std::string first = outcome(parsed, kVariables);
    require(first == outcome(parsed, kVariables), "the same twice");
    if (end < size) outcome(parsed, input.substr(end + 1));
    if (source.find_first_of("{\r\n") == source.npos) {
      require(first == source, "text stays as it is");
    }
  } catch (const Error&) {
    // Refusing what is no template is what is asked for.
  }
  return 0;
}
