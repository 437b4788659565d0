#include "model/convert_report.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/error.h"
#include "kernels/codec.h"

namespace sluice {

namespace {

using Json = nlohmann::ordered_json;

// Matrices of one layer and one codebook have one expectation.
struct LayerKey {
  std::optional<uint32_t> layer;
  uint32_t codebook_length = 0;
  auto operator<=>(const LayerKey&) const = default;
};

uint32_t bits_of(uint32_t codebook_length) {
  return static_cast<uint32_t>(std::bit_width(codebook_length - 1));
}

std::map<LayerKey, ErrorSum> by_layer(std::span<const MatrixReport> matrices) {
  std::map<LayerKey, ErrorSum> layers;
  for (const MatrixReport& matrix : matrices) {
    layers[{matrix.layer, matrix.codebook_length}].add(matrix.sum);
  }
  return layers;
}

std::string over_text(double relative, double expected) {
  char text[96];
  std::snprintf(text, sizeof(text), "%.5f, theory %.5f (%+.1f %%)", relative, expected,
                100 * (relative / expected - 1));
  return text;
}

}  // namespace

void MatrixReport::add(uint32_t expert, const ErrorSum& expert_sum) {
  sum.add(expert_sum);
  if (expert_sum.relative() > worst_relative) {
    worst_relative = expert_sum.relative();
    worst_expert = expert;
  }
}

double gaussian_distortion(std::span<const float> centroids) {
  // Between a and b, with φ the density and Φ its integral:
  //   ∫ (x − c)² φ = (1 + c²)(Φ(b) − Φ(a)) − (b φ(b) − a φ(a)) + 2c (φ(b) − φ(a))
  const auto density = [](double x) {
    return std::isinf(x) ? 0 : std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
  };
  const auto cumulative = [](double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; };
  const auto moment = [&](double x) { return std::isinf(x) ? 0 : x * density(x); };
  double sum = 0;
  double a = -HUGE_VAL;
  for (size_t i = 0; i < centroids.size(); ++i) {
    const double c = static_cast<double>(centroids[i]);
    const double b =
        i + 1 < centroids.size() ? (c + static_cast<double>(centroids[i + 1])) / 2 : HUGE_VAL;
    sum += (1 + c * c) * (cumulative(b) - cumulative(a)) - (moment(b) - moment(a)) +
           2 * c * (density(b) - density(a));
    a = b;
  }
  return sum;
}

double expected_distortion(uint32_t codebook_length) {
  return gaussian_distortion(kernels::gaussian_centroids(codebook_length));
}

bool misses_theory(const MatrixReport& matrix) {
  const double limit = expected_distortion(matrix.codebook_length) * (1 + kMissedBy);
  return matrix.sum.relative() > limit || matrix.worst_relative > limit;
}

Json to_json(const MatrixReport& matrix) {
  Json json = {{"path", matrix.path},
               {"layer", nullptr},
               {"codebook", matrix.codebook_length},
               {"error", matrix.sum.error},
               {"power", matrix.sum.power},
               {"experts", matrix.experts},
               {"worst_expert", matrix.worst_expert},
               {"worst_relative_mse", matrix.worst_relative}};
  if (matrix.layer) json["layer"] = *matrix.layer;
  return json;
}

MatrixReport matrix_report_from_json(const Json& json, const std::string& where) {
  try {
    MatrixReport matrix;
    matrix.path = json.at("path").get<std::string>();
    if (!json.at("layer").is_null()) matrix.layer = json.at("layer").get<uint32_t>();
    matrix.codebook_length = json.at("codebook").get<uint32_t>();
    matrix.sum = {json.at("error").get<double>(), json.at("power").get<double>()};
    matrix.experts = json.at("experts").get<uint32_t>();
    matrix.worst_expert = json.at("worst_expert").get<uint32_t>();
    matrix.worst_relative = json.at("worst_relative_mse").get<double>();
    const uint32_t length = matrix.codebook_length;
    if (length != 4 && length != 8 && length != 16 && length != 256) {
      throw Error(where, ": a codebook of ", length);
    }
    return matrix;
  } catch (const nlohmann::json::exception& error) {
    throw Error(where, ": not a report of a matrix: ", error.what());
  }
}

Json report_json(std::span<const MatrixReport> matrices) {
  Json report;
  report["layers"] = Json::array();
  for (const auto& [key, sum] : by_layer(matrices)) {
    Json layer = {{"layer", nullptr},
                  {"bits", bits_of(key.codebook_length)},
                  {"relative_mse", sum.relative()},
                  {"theory", expected_distortion(key.codebook_length)}};
    if (key.layer) layer["layer"] = *key.layer;
    report["layers"].push_back(std::move(layer));
  }
  report["matrices"] = Json::array();
  report["missed"] = Json::array();
  for (const MatrixReport& matrix : matrices) {
    Json entry = {{"path", matrix.path},
                  {"layer", nullptr},
                  {"bits", bits_of(matrix.codebook_length)},
                  {"relative_mse", matrix.sum.relative()},
                  {"theory", expected_distortion(matrix.codebook_length)},
                  {"experts", matrix.experts},
                  {"worst_expert", matrix.worst_expert},
                  {"worst_relative_mse", matrix.worst_relative}};
    if (matrix.layer) entry["layer"] = *matrix.layer;
    report["matrices"].push_back(std::move(entry));
    if (misses_theory(matrix)) report["missed"].push_back(matrix.path);
  }
  return report;
}

std::vector<std::string> report_lines(std::span<const MatrixReport> matrices) {
  std::vector<std::string> lines;
  for (const auto& [key, sum] : by_layer(matrices)) {
    lines.push_back((key.layer ? "layer " + std::to_string(*key.layer) : std::string("head")) +
                    ", " + std::to_string(bits_of(key.codebook_length)) + " bits: relative MSE " +
                    over_text(sum.relative(), expected_distortion(key.codebook_length)));
  }
  for (const MatrixReport& matrix : matrices) {
    if (!misses_theory(matrix)) continue;
    std::string line =
        "misses theory: " + matrix.path + ": relative MSE " +
        over_text(matrix.sum.relative(), expected_distortion(matrix.codebook_length));
    if (matrix.experts > 1) {
      line += "; worst is expert " + std::to_string(matrix.worst_expert) + " with " +
              over_text(matrix.worst_relative, expected_distortion(matrix.codebook_length));
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace sluice
