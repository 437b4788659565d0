#include "tests/reference/hadamard.h"

#include <bit>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <unsupported/Eigen/KroneckerProduct>

#include "io/error.h"

namespace sluice::reference {
namespace {

using Index = Eigen::Index;

constexpr uint64_t kOrders[] = {1, 12, 20, 28};

// Sylvester's matrix: entry (i, j) is −1 to the number of bits that i and j share.
Matrix sylvester_matrix(uint64_t size) {
  Matrix result(size, size);
  for (uint64_t i = 0; i < size; ++i) {
    for (uint64_t j = 0; j < size; ++j) {
      result(static_cast<Index>(i), static_cast<Index>(j)) = std::popcount(i & j) % 2 == 0 ? 1 : -1;
    }
  }
  return result;
}

// Rows of + and −, one string per row.
Matrix table_matrix(uint64_t order) {
  if (order == 1) return Matrix::Ones(1, 1);
  const std::string path = SLUICE_REFERENCE_DATA "/hadamard_tables.json";
  std::ifstream file(path);
  if (!file) throw Error(path, ": cannot be read");
  const auto rows =
      nlohmann::json::parse(file).at(std::to_string(order)).get<std::vector<std::string>>();
  Matrix result(order, order);
  for (uint64_t i = 0; i < order; ++i) {
    for (uint64_t j = 0; j < order; ++j) {
      result(static_cast<Index>(i), static_cast<Index>(j)) = rows.at(i).at(j) == '+' ? 1 : -1;
    }
  }
  return result;
}

struct Factors {
  uint64_t order;  // m
  uint64_t power;  // 2^k
};

Factors largest_factors(uint64_t n) {
  Factors best{1, 1};
  for (const uint64_t order : kOrders) {
    if (n % order != 0) continue;
    uint64_t power = 1;
    while (n % (order * power * 2) == 0) power *= 2;
    if (order * power > best.order * best.power) best = {order, power};
  }
  return best;
}

}  // namespace

uint64_t hadamard_run(uint64_t n) {
  const Factors factors = largest_factors(n);
  return factors.order * factors.power;
}

Matrix hadamard_matrix(uint64_t n) {
  const Factors factors = largest_factors(n);
  const Matrix product =
      Eigen::kroneckerProduct(table_matrix(factors.order), sylvester_matrix(factors.power)).eval();
  return product / std::sqrt(static_cast<double>(product.rows()));
}

Matrix unrotated(const Matrix& rotated, const Vector& signs) {
  const Matrix h = hadamard_matrix(static_cast<uint64_t>(rotated.cols()));
  Matrix result(rotated.rows(), rotated.cols());
  for (Index begin = 0; begin < rotated.cols(); begin += h.rows()) {
    result.middleCols(begin, h.rows()) = rotated.middleCols(begin, h.rows()) * h;
  }
  return result * signs.asDiagonal();
}

}  // namespace sluice::reference
