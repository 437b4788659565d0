// ConvertReport: what quantizing cost, matrix by matrix, beside what theory lets expect.
//
// The relative mean squared error of a matrix is Σ (w − ŵ)² / Σ w², measured on the rotated weights
// (the rotation is orthonormal, so it is that of the plain weights too). Theory is the distortion
// of the codebook on N(0, 1), which rotated weights divided by their RMS are close to. Sums are in
// double and in a fixed order, so a report is the same for any number of threads. Threads: one.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace sluice {

struct ErrorSum {
  double error = 0;  // Σ (w − ŵ)²
  double power = 0;  // Σ w²
  void add(const ErrorSum& other) {
    error += other.error;
    power += other.power;
  }
  double relative() const { return power > 0 ? error / power : 0; }
};

// One matrix of the network, or the same matrix of all experts of a layer.
struct MatrixReport {
  std::string path;
  std::optional<uint32_t> layer;
  uint32_t codebook_length = 0;
  ErrorSum sum;
  uint32_t experts = 1;
  uint32_t worst_expert = 0;  // and its error relative to its own power
  double worst_relative = 0;

  void add(uint32_t expert, const ErrorSum& expert_sum);
};

// E[(x − nearest centroid)²] for x of N(0, 1): 0.11748, 0.03455, 0.00950 for 2, 3 and 4 bits, and
// for the uniform codebook of 8 bits 0.000088. centroids: ascending. In closed form.
double gaussian_distortion(std::span<const float> centroids);
// Of the codec's codebook of this length.
double expected_distortion(uint32_t codebook_length);

// A matrix or one of its experts that is this much worse than theory is named.
inline constexpr double kMissedBy = 0.10;
bool misses_theory(const MatrixReport& matrix);

nlohmann::ordered_json to_json(const MatrixReport& matrix);
// Throws Error: not of that form.
MatrixReport matrix_report_from_json(const nlohmann::ordered_json& json, const std::string& where);

// {"program", "settings", "layers": [...], "matrices": [...], "missed": [...]}
nlohmann::ordered_json report_json(std::span<const MatrixReport> matrices);
// One line per layer, and one for each matrix that misses theory.
std::vector<std::string> report_lines(std::span<const MatrixReport> matrices);

}  // namespace sluice
