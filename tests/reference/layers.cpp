#include "tests/reference/layers.h"

namespace sluice::reference {

Matrix rms_norm(const Matrix& x, const Vector& weight, double epsilon) {
  const Vector mean_square = x.rowwise().squaredNorm() / static_cast<double>(x.cols());
  const Vector factor = (mean_square.array() + epsilon).rsqrt();
  return factor.asDiagonal() * x * weight.asDiagonal();
}

Matrix softmax(const Matrix& x) {
  const Matrix shifted = x.colwise() - x.rowwise().maxCoeff();
  const Matrix exponential = shifted.array().exp();
  return exponential.rowwise().sum().cwiseInverse().asDiagonal() * exponential;
}

Matrix swiglu(const Matrix& x, const Matrix& gate, const Matrix& up, const Matrix& down) {
  const Matrix g = x * gate.transpose();
  const Matrix u = x * up.transpose();
  const Matrix inner = g.array() / (1 + (-g.array()).exp()) * u.array();
  return inner * down.transpose();
}

}  // namespace sluice::reference
