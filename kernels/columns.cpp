#include "kernels/columns.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace sluice::kernels {
namespace {

// Squares of so many numbers a side are moved at once: of each column a line of the cache or two is
// read, and of each row written, before the next square needs the place.
constexpr uint32_t kSide = 32;

template <size_t kWidth>
void transpose(const ColumnShape& shape, uint32_t begin, uint32_t end, const std::byte* columns,
               std::byte* out) {
  for (uint32_t row = begin; row < end; row += std::min(kSide, end - row)) {
    const uint32_t row_end = row + std::min(kSide, end - row);
    for (uint32_t col = 0; col < shape.cols; col += std::min(kSide, shape.cols - col)) {
      const uint32_t col_end = col + std::min(kSide, shape.cols - col);
      for (uint32_t r = row; r < row_end; ++r) {
        std::byte* to = out + size_t{r - begin} * shape.cols * kWidth;
        for (uint32_t c = col; c < col_end; ++c) {
          std::memcpy(to + c * kWidth, columns + (size_t{c} * shape.rows + r) * kWidth, kWidth);
        }
      }
    }
  }
}

}  // namespace

void columns_to_rows(const ColumnShape& shape, uint32_t begin, uint32_t end,
                     const std::byte* columns, std::byte* out) {
  assert(shape.width == 2 || shape.width == 4);
  if (shape.width == 2) {
    transpose<2>(shape, begin, end, columns, out);
  } else {
    transpose<4>(shape, begin, end, columns, out);
  }
}

}  // namespace sluice::kernels
