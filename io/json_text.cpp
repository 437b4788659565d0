#include "io/json_text.h"

namespace sluice {

nlohmann::json json_from(std::string_view text, const nlohmann::json::parser_callback_t& callback,
                         bool allow_exceptions) {
  return nlohmann::json::parse(text, callback, allow_exceptions);
}

nlohmann::ordered_json ordered_json_from(std::string_view text, bool allow_exceptions) {
  return nlohmann::ordered_json::parse(text, nullptr, allow_exceptions);
}

bool sax_parse_json(std::string_view text, nlohmann::json_sax<nlohmann::json>& handler) {
  return nlohmann::json::sax_parse(text, &handler);
}

std::string json_text(const nlohmann::json& json, int indent,
                      nlohmann::json::error_handler_t errors) {
  return json.dump(indent, ' ', false, errors);
}

std::string json_text(const nlohmann::ordered_json& json, int indent,
                      nlohmann::ordered_json::error_handler_t errors) {
  return json.dump(indent, ' ', false, errors);
}

}  // namespace sluice
