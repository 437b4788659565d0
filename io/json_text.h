// JSON from text and to text, as nlohmann's parse, sax_parse and dump, which would cost the
// compiler seconds in every file that uses them. Threads: any.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace sluice {

// Throws nlohmann::json::exception where the text is not JSON, or returns a discarded value.
nlohmann::json json_from(std::string_view text,
                         const nlohmann::json::parser_callback_t& callback = nullptr,
                         bool allow_exceptions = true);
nlohmann::ordered_json ordered_json_from(std::string_view text, bool allow_exceptions = true);

// False where the handler stopped it, in an error too.
bool sax_parse_json(std::string_view text, nlohmann::json_sax<nlohmann::json>& handler);

// indent: spaces per level; -1: all in one line.
std::string json_text(
    const nlohmann::json& json, int indent = -1,
    nlohmann::json::error_handler_t errors = nlohmann::json::error_handler_t::strict);
std::string json_text(const nlohmann::ordered_json& json, int indent = -1,
                      nlohmann::ordered_json::error_handler_t errors =
                          nlohmann::ordered_json::error_handler_t::strict);

}  // namespace sluice
