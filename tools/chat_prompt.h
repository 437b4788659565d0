// The prompt of a chat model: a user's message through the model's chat template.
// Threads: one.
#pragma once

#include <optional>
#include <string>

#include "tools/generate_options.h"

namespace sluice {

struct ChatPrompt {
  std::string text;     // to be encoded; special tokens are in it
  bool templated;       // then encoding adds no special tokens
  std::string message;  // whether a template was applied: a line for standard error, or empty
};

// text: the user's. It stays as it is where the model has no template or the options want none; a
// model without a template has no message. Throws Error: a template that is unreadable or refuses
// the messages; --system or --chat-template-kwargs without a template.
ChatPrompt chat_prompt(const GenerateOptions& options, const std::string& text);

}  // namespace sluice
