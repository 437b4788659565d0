// JsonObject: typed, range-checked access to the keys of one JSON object of a configuration file.
//
// Every getter throws Error naming the file, the key, what was found and what was expected. A key
// that is absent and a key that is null are the same thing, as they are to the writers of these
// files, but to names(). Of a key given twice the last one counts. Borrows the parsed value.
// Threads: any.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// Limits on what is parsed at all; published files have a few kilobytes and three levels.
inline constexpr uint64_t kMaxConfigBytes = 16'000'000;
inline constexpr int kMaxConfigDepth = 64;

struct CountRange {
  uint64_t least = 0;
  uint64_t most = 0;
};
struct RealRange {
  double least = 0;
  double most = 0;
};

class JsonObject {
 public:
  // what: where this object is, for messages: "DIR/config.json", or "DIR/config.json:
  // rope_scaling". Throws Error if value is not an object. Requires: value outlives this.
  JsonObject(const nlohmann::json& value, std::string what);

  bool has(const char* key) const;    // present and not null
  bool names(const char* key) const;  // present
  bool empty() const;
  // Integers in [least, most]; 3.0 and "3" are not integers.
  std::optional<uint64_t> count(const char* key, CountRange range) const;
  // Infinity, as Python writes it, only in ranges without an end.
  std::optional<double> real(const char* key, RealRange range) const;
  std::optional<bool> boolean(const char* key) const;
  std::optional<std::string> text(const char* key) const;
  std::optional<JsonObject> object(const char* key) const;
  // An array of at most `limit` strings, or of numbers in range; absent gives an empty one.
  std::vector<std::string> texts(const char* key, size_t limit) const;
  std::vector<uint64_t> counts(const char* key, CountRange range, size_t limit) const;
  std::vector<double> reals(const char* key, RealRange range, size_t limit) const;
  // As counts, where a single number may stand for an array of one.
  std::vector<uint64_t> count_or_counts(const char* key, CountRange range, size_t limit) const;

  // The same, where absent is an Error.
  uint64_t required_count(const char* key, CountRange range) const;
  std::string required_text(const char* key) const;

  const std::string& what() const { return what_; }
  // "null", "-3", "\"relu\"", "an array of 3 values": the value of a key, for messages.
  std::string found(const char* key) const;

 private:
  const nlohmann::json* find(const char* key) const;  // null where absent or null
  const nlohmann::json* find_array(const char* key, size_t limit) const;

  const nlohmann::json* value_;
  std::string what_;
};

// "\"relu\"": a string from a file as messages show it: quoted, escaped, cut when long.
std::string quoted_text(std::string_view text);

// Throws Error: not JSON (with the place), nested deeper than kMaxConfigDepth, too long.
nlohmann::json parse_json(std::string_view text, const std::string& path);

// The content of a regular file of at most kMaxConfigBytes; nullopt if there is none of that name.
// Throws Error: not readable, a directory or device, too long.
std::optional<std::string> read_config_text(const std::filesystem::path& path);

}  // namespace sluice
