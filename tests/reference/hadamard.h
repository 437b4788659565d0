// Dense Hadamard matrices, built from their definition: a Kronecker product, no fast transform.
//
// This is what a fast implementation is compared with, so it shares no code and no table with one:
// the tables of order 12, 20 and 28 are read from tests/data/hadamard_tables.json. Threads: any.
#pragma once

#include <Eigen/Core>
#include <cstdint>

namespace sluice::reference {

// Row-major, so that a matrix lies in memory as safetensors stores it.
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

// The largest m * 2^k, m one of 1, 12, 20, 28, that divides n: the size of one run.
uint64_t hadamard_run(uint64_t n);

// (1/√run) (H_m ⊗ H_2^k), [run, run], where run = hadamard_run(n). Orthonormal; not symmetric when
// m is 20 or 28. A vector of n is transformed run after run. Throws Error if the tables cannot be
// read.
Matrix hadamard_matrix(uint64_t n);

// weights [rows, n] of the rotated domain back to the plain one: W = W_rot · H · diag(signs), since
// W_rot · H (x ∘ signs) = W x. signs [n].
Matrix unrotated(const Matrix& rotated, const Vector& signs);

}  // namespace sluice::reference
