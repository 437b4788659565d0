// Matrices in columns (Layout::columns) to rows: the same numbers, transposed.
//
// Allocates and throws nothing; may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::kernels {

// A matrix of plain numbers, [cols, rows] in memory, at any address.
struct ColumnShape {
  uint32_t rows = 0;
  uint32_t cols = 0;
  uint32_t width = 2;  // bytes of a number: 2 or 4
};

// Rows [begin, end) of the matrix to out [end - begin, cols], at any address.
void columns_to_rows(const ColumnShape& shape, uint32_t begin, uint32_t end,
                     const std::byte* columns, std::byte* out);

}  // namespace sluice::kernels
