#include "stream/calibration_files.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "io/error.h"
#include "io/json_text.h"
#include "io/posix_file.h"

namespace sluice {
namespace {

using nlohmann::json;

// {"perm": {"3": [ids]}} is four deep; other keys may hold somewhat more.
constexpr int kMaxDepth = 16;
constexpr size_t kLongestReason = 200;

// Of keys given twice JSON libraries keep one in silence; here the other might have been meant.
class Limits {
 public:
  explicit Limits(const std::string& path) : path_(path) {}

  bool operator()(int depth, json::parse_event_t event, const json& parsed) {
    if (depth > kMaxDepth) throw Error(path_, ": nested deeper than ", kMaxDepth, " levels");
    if (event == json::parse_event_t::object_start) {
      seen_.resize(static_cast<size_t>(depth));  // a neighbour at this depth had keys of its own
      seen_.emplace_back();
    }
    if (event == json::parse_event_t::key) {
      std::set<std::string>& keys = seen_.at(static_cast<size_t>(depth) - 1);
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.insert(key).second) throw Error(path_, ": has \"", excerpt(key), "\" twice");
    }
    return true;
  }

 private:
  const std::string& path_;
  std::vector<std::set<std::string>> seen_;  // [depth]: keys of the objects that are open
};

json parse(std::string_view text, const std::string& path) {
  if (text.size() > kMaxCalibrationBytes) {
    throw Error(path, ": ", text.size(), " bytes; expected at most ", kMaxCalibrationBytes);
  }
  Limits limits(path);
  try {
    return json_from(text, [&limits](int depth, json::parse_event_t event, const json& parsed) {
      return limits(depth, event, parsed);
    });
  } catch (const json::exception& error) {
    throw Error(path, ": not valid JSON: ", std::string(error.what()).substr(0, kLongestReason));
  }
}

// The value of the one key that matters.
const json& member(const json& file, const char* key, const std::string& path) {
  if (!file.is_object() || !file.contains(key)) {
    throw Error(path, ": expected a JSON object with the key \"", key,
                "\" (see docs/calibrate.md for the files that stream-calibrate writes)");
  }
  return file[key];
}

std::string of_model(const ExpertGrid& grid) {
  std::string text = "this model has experts 0 to " + std::to_string(grid.experts - 1) + " in ";
  return text + std::to_string(grid.layers.size()) + " layers from " +
         std::to_string(grid.layers.front()) + " to " + std::to_string(grid.layers.back()) +
         "; the file belongs to another one";
}

uint32_t expert_of(const json& value, const ExpertGrid& grid, const std::string& where) {
  if (!value.is_number_unsigned()) throw Error(where, ": expected an expert's number");
  const auto expert = value.get<uint64_t>();
  if (expert >= grid.experts) throw Error(where, ": expert ", expert, ", but ", of_model(grid));
  return static_cast<uint32_t>(expert);
}

uint32_t layer_index_of(uint64_t layer, const ExpertGrid& grid, const std::string& where) {
  const auto index =
      layer <= 0xffffffff ? grid.index_of(static_cast<uint32_t>(layer)) : std::optional<uint32_t>();
  if (!index) throw Error(where, ": layer ", layer, ", but ", of_model(grid));
  return *index;
}

}  // namespace

std::vector<LayerExpert> parse_pins(std::string_view text, const ExpertGrid& grid,
                                    const std::string& path) {
  const json file = parse(text, path);
  const json& list = member(file, "pin", path);
  if (!list.is_array()) throw Error(path, ": \"pin\": expected an array of [layer, expert]");
  std::vector<LayerExpert> pins;
  std::vector<bool> seen(grid.keys());
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = path + ": \"pin\"[" + std::to_string(i) + "]";
    const json& pair = list[i];
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_unsigned()) {
      throw Error(where, ": expected [layer, expert]");
    }
    const auto layer = pair[0].get<uint64_t>();
    const uint32_t index = layer_index_of(layer, grid, where);
    const uint32_t expert = expert_of(pair[1], grid, where);
    const uint64_t key = uint64_t{index} * grid.experts + expert;
    if (seen[key]) throw Error(where, ": layer ", layer, ", expert ", expert, " is there twice");
    seen[key] = true;
    pins.push_back({.layer = grid.layers[index], .expert = expert});
  }
  return pins;
}

Permutation parse_permutation(std::string_view text, const ExpertGrid& grid,
                              const std::string& path) {
  const json file = parse(text, path);
  const json& layers = member(file, "perm", path);
  if (!layers.is_object()) throw Error(path, ": \"perm\": expected {\"layer\": [ids]}");
  Permutation permutation;
  for (const auto& [name, ids] : layers.items()) {
    const std::string where = path + ": \"perm\": layer \"" + excerpt(name) + "\"";
    uint32_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc() || std::to_string(number) != name) {
      throw Error(where, ": expected a layer's number");
    }
    layer_index_of(number, grid, where);
    if (!ids.is_array() || ids.size() != grid.experts) {
      throw Error(where, ": expected an array of all ", grid.experts, " experts' numbers");
    }
    std::vector<uint32_t>& order = permutation[number];
    std::vector<bool> seen(grid.experts);
    for (const json& id : ids) {
      const uint32_t expert = expert_of(id, grid, where);
      if (seen[expert]) throw Error(where, ": expert ", expert, " is there twice, another is not");
      seen[expert] = true;
      order.push_back(expert);
    }
  }
  for (const uint32_t layer : grid.layers) {
    if (!permutation.contains(layer)) {
      throw Error(path, ": \"perm\": layer ", layer, " is missing; expected all ",
                  grid.layers.size(), " layers that have experts");
    }
  }
  return permutation;
}

std::vector<LayerExpert> read_pins(const std::string& path, const ExpertGrid& grid) {
  return parse_pins(read_text_file(path, kMaxCalibrationBytes), grid, path);
}

Permutation read_permutation(const std::string& path, const ExpertGrid& grid) {
  return parse_permutation(read_text_file(path, kMaxCalibrationBytes), grid, path);
}

std::string pins_text(std::span<const LayerExpert> pins) {
  std::string text = "{\"pin\": [";
  for (size_t i = 0; i < pins.size(); ++i) {
    text += (i == 0 ? "[" : ", [") + std::to_string(pins[i].layer) + ", " +
            std::to_string(pins[i].expert) + "]";
  }
  return text + "]}\n";
}

std::string permutation_text(const Permutation& permutation) {
  std::string text = "{\"perm\": {";
  bool first_layer = true;
  for (const auto& [layer, order] : permutation) {
    text += std::string(first_layer ? "" : ",") + "\n  \"" + std::to_string(layer) + "\": [";
    first_layer = false;
    for (size_t i = 0; i < order.size(); ++i) {
      text += (i == 0 ? "" : ", ") + std::to_string(order[i]);
    }
    text += "]";
  }
  return text + "\n}}\n";
}

}  // namespace sluice
