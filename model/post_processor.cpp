#include "model/post_processor.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "io/error.h"
#include "model/json_object.h"
#include "model/token_table.h"
#include "model/tokenizer_component.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr size_t kMaxIdsPerPiece = 64;  // published templates have 1

void append(std::vector<uint32_t>& ids, const std::vector<uint32_t>& more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

}  // namespace

PostProcessor::PostProcessor(const json& component, const std::string& where) {
  if (!component.is_null()) add(component, where);
}

void PostProcessor::add(const json& component, const std::string& where) {
  const std::string type = JsonObject(component, where).required_text("type");
  if (type == "Sequence") {
    for_each_element(
        component, "processors", where,
        [this](const json& element, const std::string& place) { add(element, place); });
  } else if (type == "TemplateProcessing") {
    add_template(component, where);
  } else if (type != "ByteLevel") {
    throw Error(where, ": a post-processor of type ", in_quotes(type),
                "; expected Sequence, TemplateProcessing or ByteLevel");
  }
}

// "single": pieces {"SpecialToken": {"id": NAME}}, whose ids special_tokens[NAME] lists, and
// {"Sequence": {"id": "A"}}, which is the text.
void PostProcessor::add_template(const json& component, const std::string& where) {
  const auto specials = JsonObject(component, where).object("special_tokens");
  Template result;
  bool text_seen = false;
  const auto add_piece = [&](const json& value, const std::string& place) {
    const JsonObject piece(value, place);
    if (const auto special = piece.object("SpecialToken")) {
      const std::string name = special->required_text("id");
      const auto token = specials ? specials->object(name.c_str()) : std::nullopt;
      if (!token) throw Error(place, ": special_tokens does not tell the ids of ", in_quotes(name));
      auto& side = text_seen ? result.behind : result.before;
      for (const uint64_t id : token->counts("ids", {0, kMaxTokenId - 1}, kMaxIdsPerPiece)) {
        side.push_back(static_cast<uint32_t>(id));
      }
    } else if (const auto sequence = piece.object("Sequence")) {
      const std::string id = sequence->required_text("id");
      if (id != "A" || std::exchange(text_seen, true)) {
        throw Error(place, ": the text ", in_quotes(id), "; expected \"A\", once");
      }
    } else {
      throw Error(place, " is neither a SpecialToken nor a Sequence");
    }
  };
  for_each_element(component, "single", where, add_piece);
  if (!text_seen) throw Error(where, ": the template has no place for the text");
  templates_.push_back(std::move(result));
}

std::vector<uint32_t> PostProcessor::apply(std::vector<uint32_t> ids) const {
  for (const Template& around : templates_) {
    std::vector<uint32_t> whole;
    whole.reserve(around.before.size() + ids.size() + around.behind.size());
    append(whole, around.before);
    append(whole, ids);
    append(whole, around.behind);
    ids = std::move(whole);
  }
  return ids;
}

std::vector<uint32_t> PostProcessor::added_ids() const {
  std::vector<uint32_t> ids;
  for (const Template& around : templates_) {
    append(ids, around.before);
    append(ids, around.behind);
  }
  return ids;
}

}  // namespace sluice
