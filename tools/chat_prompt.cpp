#include "tools/chat_prompt.h"

#include <vector>

#include "io/error.h"
#include "model/chat_template.h"

namespace sluice {
namespace {

std::string rendered(const ChatTemplate& chat_template, const GenerateOptions& options,
                     const std::string& text) {
  std::vector<ChatMessage> messages;
  if (options.system) messages.push_back({"system", *options.system});
  messages.push_back({"user", text});
  return chat_template.render({.messages = chat_messages_json(messages),
                               .tools = {},
                               .documents = {},
                               .add_generation_prompt = true,
                               .variables = options.template_variables},
                              {.limits = {}, .clock = local_time_now});
}

}  // namespace

ChatPrompt chat_prompt(const GenerateOptions& options, const std::string& text) {
  const ChatPrompt as_it_is = {.text = text, .templated = false, .message = {}};
  if (!options.chat_template) {
    return {.text = text, .templated = false, .message = "chat template: not applied\n"};
  }
  try {
    const std::optional<ChatTemplate> chat_template = ChatTemplate::load(options.model);
    if (chat_template) {
      return {.text = rendered(*chat_template, options, text),
              .templated = true,
              .message = "chat template: applied, from " + chat_template->path() + "\n"};
    }
  } catch (const Error& error) {
    throw Error(error.what(), "; --no-chat-template takes the prompt as it is");
  }
  if (options.system || !options.template_variables.empty()) {
    throw Error(options.model,
                ": no chat template, which --system and --chat-template-kwargs need");
  }
  return as_it_is;
}

}  // namespace sluice
