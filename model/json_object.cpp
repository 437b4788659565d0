#include "model/json_object.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "io/error.h"
#include "io/json_text.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr size_t kLongestShown = 40;
constexpr size_t kLongestReason = 200;  // the JSON library quotes what it read last, however long

// A short description of a value for messages; never the whole of a large one.
std::string describe(const json& value) {
  if (value.is_array()) return "an array of " + std::to_string(value.size()) + " values";
  if (value.is_object()) return "an object";
  std::string shown = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (shown.size() > kLongestShown) shown = shown.substr(0, kLongestShown) + "...";
  return shown;
}

std::string range_text(CountRange range) {
  return "an integer from " + std::to_string(range.least) + " to " + std::to_string(range.most);
}

// The integer, or an Error; a negative one is kept apart by the JSON library, and is out of range.
uint64_t checked_count(const json& value, CountRange range, const std::string& place) {
  if (value.is_number_unsigned()) {
    const uint64_t count = value.get<uint64_t>();
    if (count >= range.least && count <= range.most) return count;
  }
  throw Error(place, " is ", describe(value), "; expected ", range_text(range));
}

// How writers put down what JSON has no number for: "Infinity" (see spell_numbers), or an object.
bool is_infinity(const json& value) {
  if (value.is_object()) return value.size() == 1 && value.value("__float__", json()) == "Infinity";
  return value == "Infinity";
}

// Python writes Infinity and NaN as bare words, which are no JSON: as strings they are.
std::string spell_numbers(std::string_view text) {
  std::string spelled;
  bool in_string = false;
  while (!text.empty()) {
    size_t taken = 1;
    if (in_string && text[0] == '\\' && text.size() > 1) {
      taken = 2;
    } else if (text[0] == '"') {
      in_string = !in_string;
    } else if (!in_string) {
      for (const std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
        if (!text.starts_with(word)) continue;
        spelled += '"' + std::string(word) + '"';
        text.remove_prefix(word.size());
        taken = 0;
        break;
      }
    }
    spelled += text.substr(0, taken);
    text.remove_prefix(taken);
  }
  return spelled;
}

double checked_real(const json& value, RealRange range, const std::string& place) {
  if (value.is_number()) {
    const double number = value.get<double>();
    if (std::isfinite(number) && number >= range.least && number <= range.most) return number;
  }
  if (std::isinf(range.most) && is_infinity(value)) return range.most;
  throw Error(place, " is ", describe(value), "; expected a number from ", range.least, " to ",
              range.most);
}

}  // namespace

JsonObject::JsonObject(const json& value, std::string what)
    : value_(&value), what_(std::move(what)) {
  if (!value.is_object()) throw Error(what_, " is ", describe(value), "; expected a JSON object");
}

const json* JsonObject::find(const char* key) const {
  const auto place = value_->find(key);
  return place == value_->end() || place->is_null() ? nullptr : &*place;
}

const json* JsonObject::find_array(const char* key, size_t limit) const {
  const json* value = find(key);
  if (value == nullptr) return nullptr;
  if (!value->is_array() || value->size() > limit) {
    throw Error(what_, ": ", key, " is ", describe(*value), "; expected an array of at most ",
                limit, " values");
  }
  return value;
}

bool JsonObject::names(const char* key) const { return value_->contains(key); }

bool JsonObject::empty() const { return value_->empty(); }

bool JsonObject::has(const char* key) const { return find(key) != nullptr; }

std::optional<uint64_t> JsonObject::count(const char* key, CountRange range) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return checked_count(*value, range, what_ + ": " + key);
}

std::optional<double> JsonObject::real(const char* key, RealRange range) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return checked_real(*value, range, what_ + ": " + key);
}

std::optional<bool> JsonObject::boolean(const char* key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  throw Error(what_, ": ", key, " is ", describe(*value), "; expected true or false");
}

std::optional<std::string> JsonObject::text(const char* key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  throw Error(what_, ": ", key, " is ", describe(*value), "; expected a string");
}

std::optional<JsonObject> JsonObject::object(const char* key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return JsonObject(*value, what_ + ": " + key);
}

std::vector<std::string> JsonObject::texts(const char* key, size_t limit) const {
  std::vector<std::string> texts;
  const json* array = find_array(key, limit);
  if (array == nullptr) return texts;
  for (const json& value : *array) {
    if (!value.is_string()) {
      throw Error(what_, ": ", key, "[", texts.size(), "] is ", describe(value),
                  "; expected a string");
    }
    texts.push_back(value.get<std::string>());
  }
  return texts;
}

std::vector<uint64_t> JsonObject::counts(const char* key, CountRange range, size_t limit) const {
  std::vector<uint64_t> counts;
  const json* array = find_array(key, limit);
  if (array == nullptr) return counts;
  for (const json& value : *array) {
    const std::string place = what_ + ": " + key + "[" + std::to_string(counts.size()) + "]";
    counts.push_back(checked_count(value, range, place));
  }
  return counts;
}

std::vector<double> JsonObject::reals(const char* key, RealRange range, size_t limit) const {
  std::vector<double> reals;
  const json* array = find_array(key, limit);
  if (array == nullptr) return reals;
  for (const json& value : *array) {
    const std::string place = what_ + ": " + key + "[" + std::to_string(reals.size()) + "]";
    reals.push_back(checked_real(value, range, place));
  }
  return reals;
}

std::vector<uint64_t> JsonObject::count_or_counts(const char* key, CountRange range,
                                                  size_t limit) const {
  const json* value = find(key);
  if (value != nullptr && value->is_number()) {
    return {checked_count(*value, range, what_ + ": " + key)};
  }
  return counts(key, range, limit);
}

uint64_t JsonObject::required_count(const char* key, CountRange range) const {
  const std::optional<uint64_t> value = count(key, range);
  if (!value) throw Error(what_, ": ", key, " is missing; expected ", range_text(range));
  return *value;
}

std::string JsonObject::required_text(const char* key) const {
  std::optional<std::string> value = text(key);
  if (!value) throw Error(what_, ": ", key, " is missing; expected a string");
  return *std::move(value);
}

std::string JsonObject::found(const char* key) const {
  const json* value = find(key);
  return value == nullptr ? "null" : describe(*value);
}

std::string quoted_text(std::string_view text) { return describe(json(text)); }

json parse_json(std::string_view text, const std::string& path) {
  if (text.size() > kMaxConfigBytes) {
    throw Error(path, ": ", text.size(), " bytes; expected at most ", kMaxConfigBytes);
  }
  const auto limit_depth = [&path](int depth, json::parse_event_t, json&) {
    if (depth > kMaxConfigDepth) {
      throw Error(path, ": nested deeper than ", kMaxConfigDepth, " levels");
    }
    return true;
  };
  try {
    const bool bare_words = text.find("Infinity") != text.npos || text.find("NaN") != text.npos;
    return bare_words ? json_from(spell_numbers(text), limit_depth) : json_from(text, limit_depth);
  } catch (const json::exception& error) {
    throw Error(path, ": not valid JSON: ", std::string(error.what()).substr(0, kLongestReason));
  }
}

std::optional<std::string> read_config_text(const std::filesystem::path& path) {
  std::error_code status_error;
  const std::filesystem::file_status status = std::filesystem::status(path, status_error);
  if (status.type() == std::filesystem::file_type::not_found) return std::nullopt;
  if (status_error) throw Error(path.string(), ": ", status_error.message());
  if (status.type() != std::filesystem::file_type::regular) {
    throw Error(path.string(), ": not a regular file");
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  if (file == nullptr) throw Error(path.string(), ": cannot be opened: ", errno_text(errno));
  std::string text;
  char piece[16384];
  while (const size_t size = std::fread(piece, 1, sizeof piece, file.get())) {
    text.append(piece, size);
    if (text.size() > kMaxConfigBytes) {
      throw Error(path.string(), ": longer than ", kMaxConfigBytes,
                  " bytes; expected a configuration of a few kilobytes");
    }
  }
  if (std::ferror(file.get()) != 0) {
    throw Error(path.string(), ": cannot be read: ", errno_text(errno));
  }
  return text;
}

}  // namespace sluice
