#include "model/chat_template.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/error.h"
#include "io/json_text.h"
#include "model/json_object.h"
#include "model/utf8.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr size_t kMaxNamedTemplates = 32;
constexpr const char* kTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                   "pad_token", "cls_token", "mask_token"};

std::optional<json> read_json(const std::filesystem::path& path) {
  const std::optional<std::string> text = read_config_text(path);
  if (!text) return std::nullopt;
  json document = parse_json(*text, path.string());
  const JsonObject checked(document, path.string());
  return document;
}

// A token is its text, or an object that has it as its content.
std::optional<std::string> token_text(const json& file, const std::string& path, const char* key) {
  const JsonObject object(file, path);
  if (!object.has(key)) return std::nullopt;
  if (file[key].is_object()) return object.object(key)->required_text("content");
  return object.text(key);
}

void add_tokens(const std::filesystem::path& path, json& tokens) {
  const std::optional<json> file = read_json(path);
  if (!file) return;
  for (const char* key : kTokens) {
    const std::optional<std::string> text = token_text(*file, path.string(), key);
    if (text && !tokens.contains(key)) tokens[key] = *text;
  }
  // Tokens of a model's own, such as image_token; a list here has no names.
  const auto own = file->find("extra_special_tokens");
  if (own == file->end() || !own->is_object()) return;
  for (const auto& [key, value] : own->items()) {
    if (value.is_string() && !tokens.contains(key)) tokens[key] = value;
  }
}

}  // namespace

std::string chat_messages_json(std::span<const ChatMessage> messages) {
  json list = json::array();
  for (const ChatMessage& message : messages) {
    if (!utf8_valid(message.role) || !utf8_valid(message.content)) {
      throw Error("a message of the role \"", excerpt(message.role), "\" is not valid UTF-8");
    }
    list.push_back({{"role", message.role}, {"content", message.content}});
  }
  return json_text(list);
}

void check_chat_variables(std::string_view variables) {
  const json document = parse_json(variables, "the template's variables");
  const JsonObject checked(document, "the template's variables");
}

void ChatTemplate::add(std::string name, std::string_view source, const std::string& place) {
  templates_.push_back({std::move(name), jinja::Template::parse(source, place)});
}

std::optional<ChatTemplate> ChatTemplate::load(const std::filesystem::path& model_directory) {
  ChatTemplate loaded;
  const std::filesystem::path file = model_directory / "chat_template.jinja";
  if (const std::optional<std::string> source = read_config_text(file)) {
    loaded.path_ = file.string();
    loaded.add("default", *source, loaded.path_);
  }
  const std::filesystem::path config = model_directory / "tokenizer_config.json";
  for (const auto& path : {config, model_directory / "chat_template.json"}) {
    if (!loaded.templates_.empty()) break;
    const std::optional<json> document = read_json(path);
    if (!document) continue;
    const JsonObject object(*document, path.string());
    if (!object.has("chat_template")) continue;
    loaded.path_ = path.string();
    const json& value = (*document)["chat_template"];
    const std::string place = loaded.path_ + ": chat_template";
    if (!value.is_array()) {
      loaded.add("default", *object.text("chat_template"), place);
      continue;
    }
    if (value.size() > kMaxNamedTemplates) throw Error(place, ": more than ", kMaxNamedTemplates);
    for (const json& entry : value) {
      const JsonObject named(entry, place);
      const std::string name = named.required_text("name");
      // Others, such as "rag", are for callers that name them.
      if (name != "default" && name != "tool_use") continue;
      loaded.add(name, named.required_text("template"), place + " \"" + name + "\"");
    }
    if (loaded.templates_.empty()) {
      throw Error(place, ": none of the templates is named \"default\" or \"tool_use\"");
    }
  }
  if (loaded.templates_.empty()) return std::nullopt;
  json tokens = json::object();
  add_tokens(config, tokens);
  add_tokens(model_directory / "special_tokens_map.json", tokens);
  loaded.tokens_ = json_text(tokens);
  return loaded;
}

const jinja::Template& ChatTemplate::chosen(bool with_tools) const {
  const auto named = [this](std::string_view name) {
    return std::ranges::find(templates_, name, &Named::name);
  };
  const auto tool_use = named("tool_use");
  if (with_tools && tool_use != templates_.end()) return tool_use->parsed;
  const auto usual = named("default");
  return (usual != templates_.end() ? usual : tool_use)->parsed;
}

std::string ChatTemplate::render(const ChatInput& input,
                                 const jinja::RenderOptions& options) const {
  const auto or_none = [](const std::string& text) { return text.empty() ? "null" : text; };
  const jinja::Variable variables[] = {
      {"", tokens_},
      {"messages", or_none(input.messages)},
      {"tools", or_none(input.tools)},
      {"documents", or_none(input.documents)},
      {"add_generation_prompt", input.add_generation_prompt ? "true" : "false"},
      {"", input.variables.empty() ? "{}" : input.variables}};
  return chosen(!input.tools.empty()).render(variables, options);
}

std::tm local_time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return local;
}

}  // namespace sluice
