// One row of a matrix of any format as floats.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace sluice::kernels {

// out [cols]: the weights of a row, each rounded once from what its format says; of TurboQuant in
// the rotated domain. For a few rows (embeddings, tables), not for products: it takes some
// nanoseconds a weight. Allocates nothing; any thread.
//   Requires: not in columns; w.data is there.
void decode_row(const Matrix& w, uint32_t row, float* out);

}  // namespace sluice::kernels
