// Of config.json: rotary positions. Two generations of keys: rope_theta beside rope_scaling
// {type | rope_type, ...}, and rope_parameters {rope_type, rope_theta, ...}. Newer writers may fill
// in both.
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "io/error.h"
#include "model/config_reader.h"

namespace sluice {
namespace {

constexpr RealRange kThetas = {.least = 1, .most = 1e15};
constexpr RealRange kFactors = {.least = 1e-3, .most = 1e6};
constexpr RealRange kShares = {.least = 0, .most = 1};
constexpr const char* kOriginalPositions = "original_max_position_embeddings";

struct Name {
  std::string_view text;
  RopeScaling scaling;
};
constexpr std::array kNames = {
    Name{"default", RopeScaling::none},    Name{"linear", RopeScaling::linear},
    Name{"dynamic", RopeScaling::dynamic}, Name{"llama3", RopeScaling::llama3},
    Name{"yarn", RopeScaling::yarn},       Name{"longrope", RopeScaling::longrope},
    Name{"su", RopeScaling::longrope}};  // what longrope was called first

RopeScaling read_scaling(const JsonObject& json) {
  const bool newer = json.has("rope_type");
  if (!newer && !json.has("type")) {
    // Default, unless a number that only scaling has says that more was meant.
    if (!json.has("factor")) return RopeScaling::none;
    throw Error(json.what(), ": rope_type is missing beside factor; expected a string");
  }
  const char* key = newer ? "rope_type" : "type";
  const std::string name = json.required_text(key);
  std::string known;
  for (const Name& candidate : kNames) {
    if (candidate.text == name) return candidate.scaling;
    known += (known.empty() ? "" : ", ") + std::string(candidate.text);
  }
  throw Error(json.what(), ": rope_type is ", quoted_text(name), "; supported are ", known);
}

double required_factor(const JsonObject& json, const char* key) {
  if (const auto factor = json.real(key, kFactors)) return *factor;
  throw Error(json.what(), ": ", key, " is missing; expected a number from ", kFactors.least,
              " to ", kFactors.most);
}

// By what positions are stretched; where it may be left out, the two lengths give it.
double read_factor(const JsonObject& json, const RopeConfig& rope) {
  const bool optional = rope.scaling == RopeScaling::yarn || rope.scaling == RopeScaling::longrope;
  if (!optional || json.has("factor")) return required_factor(json, "factor");
  return static_cast<double>(rope.max_positions) / static_cast<double>(rope.original_positions);
}

void read_llama3(const JsonObject& json, RopeConfig& rope) {
  rope.low_frequency_factor = required_factor(json, "low_freq_factor");
  rope.high_frequency_factor = required_factor(json, "high_freq_factor");
  if (rope.high_frequency_factor <= rope.low_frequency_factor) {
    throw Error(json.what(), ": high_freq_factor is ", rope.high_frequency_factor,
                "; expected more than low_freq_factor, ", rope.low_frequency_factor);
  }
}

void read_yarn(const JsonObject& json, RopeConfig& rope) {
  if (rope.theta <= 1) {
    throw Error(json.what(), ": rope_theta is ", rope.theta, "; yarn expects more than 1");
  }
  rope.beta_fast = json.real("beta_fast", kFactors).value_or(rope.beta_fast);
  rope.beta_slow = json.real("beta_slow", kFactors).value_or(rope.beta_slow);
  rope.truncate = json.boolean("truncate").value_or(true);
  constexpr RealRange kScales = {.least = 0, .most = 1000};
  rope.mscale = json.real("mscale", kScales).value_or(0);
  rope.mscale_all_dimensions = json.real("mscale_all_dim", kScales).value_or(0);
}

void read_longrope(const JsonObject& json, RopeConfig& rope) {
  const size_t half = rope.dimensions / 2;
  for (const auto& [key, factors] : {std::pair("short_factor", &rope.short_factors),
                                     std::pair("long_factor", &rope.long_factors)}) {
    *factors = json.reals(key, kFactors, kMaxWidth);
    if (factors->size() != half) {
      throw Error(json.what(), ": ", key, " has ", factors->size(),
                  " entries; expected one for each of the ", half, " pairs that turn");
    }
  }
}

// The keys of one generation's object; those of another that was read before stay where absent.
// original_given: the file has the length that was trained on outside of both, which then counts.
void read_generation(const JsonObject& json, bool original_given, RopeConfig& rope) {
  rope.theta = json.real("rope_theta", kThetas).value_or(rope.theta);
  rope.scaling = read_scaling(json);
  if (rope.scaling == RopeScaling::none) return;
  const CountRange positions = {.least = 1, .most = kMaxPositions};
  const auto original = json.count(kOriginalPositions, positions);
  if (!original_given) rope.original_positions = original.value_or(rope.original_positions);
  // Dynamic positions are measured from what the model has now.
  if (rope.scaling == RopeScaling::dynamic) rope.original_positions = rope.max_positions;
  rope.factor = read_factor(json, rope);
  if (const auto factor = json.real("attention_factor", kFactors)) rope.attention_factor = *factor;
  if (rope.scaling == RopeScaling::llama3) read_llama3(json, rope);
  if (rope.scaling == RopeScaling::yarn) read_yarn(json, rope);
  if (rope.scaling == RopeScaling::longrope) read_longrope(json, rope);
}

// partial_rotary_factor: the share of a head's dimensions that turn; rotary_dim: their number.
uint32_t read_dimensions(const JsonObject& json, uint32_t head_dim, double partial) {
  partial = json.real("partial_rotary_factor", kShares).value_or(partial);
  if (const auto parameters = json.object("rope_parameters")) {
    partial = parameters->real("partial_rotary_factor", kShares).value_or(partial);
  }
  auto dimensions = static_cast<uint32_t>(std::floor(head_dim * partial));
  dimensions = optional_count(json, "rotary_dim", head_dim, dimensions);
  if (dimensions == 0 || dimensions % 2 != 0) {
    throw Error(json.what(), ": partial_rotary_factor ", partial, " (or rotary_dim) of head_dim ",
                head_dim, " turns ", dimensions, " dimensions; expected an even number of them");
  }
  return dimensions;
}

}  // namespace

void read_rope(const JsonObject& json, ModelConfig& config, double partial) {
  RopeConfig& rope = config.rope;
  const CountRange positions = {.least = 1, .most = kMaxPositions};
  rope.max_positions = config.max_positions;
  const auto original = json.count(kOriginalPositions, positions);
  rope.original_positions = original.value_or(config.max_positions);
  rope.dimensions = read_dimensions(json, config.head_dim, partial);
  rope.theta = json.real("rope_theta", kThetas).value_or(rope.theta);
  // The older key is what people add to a file by hand: it wins.
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const auto object = json.object(key);
    if (object && !object->empty()) read_generation(*object, original.has_value(), rope);
  }
  // Some name the length that was trained on, and stretch it when asked to.
  const bool stretches = rope.scaling == RopeScaling::dynamic || rope.scaling == RopeScaling::yarn;
  const double stretched = static_cast<double>(rope.original_positions) * rope.factor;
  if (stretches && stretched > static_cast<double>(config.max_positions)) {
    config.max_positions = stretched < static_cast<double>(kMaxPositions)
                               ? static_cast<uint64_t>(stretched)
                               : kMaxPositions;
  }
}

}  // namespace sluice
