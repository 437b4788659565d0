// What the networks of the reference are made of, row by row in double precision. Threads: any.
#pragma once

#include "tests/reference/hadamard.h"

namespace sluice::reference {

// Every row: x / √(mean(x²) + ε), times the weight.
Matrix rms_norm(const Matrix& x, const Vector& weight, double epsilon);
// Every row: exp(x) / Σ exp(x), the maximum taken out first.
Matrix softmax(const Matrix& x);
// W_down (silu(W_gate x) ∘ W_up x) for every row x.
Matrix swiglu(const Matrix& x, const Matrix& gate, const Matrix& up, const Matrix& down);

}  // namespace sluice::reference
