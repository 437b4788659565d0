// ChatTemplate: a model directory's chat template, which turns a conversation into the text that
// the model was trained on. The template's language is model/template/'s.
//
// Where a template is looked for: DIR/chat_template.jinja, then chat_template of
// DIR/tokenizer_config.json, a string or a list of named ones, then DIR/chat_template.json. Of
// named ones "tool_use" is taken where tools are given, else "default".
// The text names special tokens by their content, the one that begins it too: it is to be encoded
// without add_special_tokens. Threads: any, after load (const members only).
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/template/template.h"

namespace sluice {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", or what the template knows else
  std::string content;
};
// [{"role": ..., "content": ...}, ...]. Throws Error: not UTF-8.
std::string chat_messages_json(std::span<const ChatMessage> messages);

// What a template is rendered with, each a JSON text. Empty: None, as the reference has it where
// nothing is given.
struct ChatInput {
  std::string messages;   // an array of objects with role, content, ...
  std::string tools;      // an array
  std::string documents;  // an array
  bool add_generation_prompt = true;
  std::string variables;  // an object of more variables, which win over those above
};

// Throws Error: variables is not the JSON text of an object.
void check_chat_variables(std::string_view variables);

class ChatTemplate {
 public:
  // Nullopt if the directory has none. Throws Error: unreadable files, no template, tokens that are
  // no texts.
  static std::optional<ChatTemplate> load(const std::filesystem::path& model_directory);

  // Throws jinja::TemplateRaised if the template refuses the input, Error for all else.
  std::string render(const ChatInput& input, const jinja::RenderOptions& options) const;
  // The file that the template is in.
  const std::string& path() const { return path_; }

 private:
  ChatTemplate() = default;
  void add(std::string name, std::string_view source, const std::string& place);
  const jinja::Template& chosen(bool with_tools) const;

  struct Named {
    std::string name;
    jinja::Template parsed;
  };
  std::string path_;
  std::vector<Named> templates_;  // "default", "tool_use" or both
  std::string tokens_;            // bos_token, eos_token and so on: a JSON object
};

// The local time, for jinja::RenderOptions.
std::tm local_time_now();

}  // namespace sluice
