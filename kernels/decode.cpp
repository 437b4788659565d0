#include "kernels/decode.h"

#include <cmath>

#include "kernels/scalar_matmul.h"
#include "kernels/scalar_values.h"

namespace sluice::kernels {
namespace {

float weight(const Matrix& w, uint32_t row, uint32_t col) {
  switch (w.format) {
    case Format::turboquant:
    case Format::mxfp4:
      return centroid(*w.codebook, code(w, row, col)) * group_scale(w, row, col / w.group);
    case Format::f8_e4m3: {
      const size_t blocks = (size_t{w.cols} + w.group - 1) / w.group;
      const size_t block = row / w.block_rows * blocks + col / w.group;
      return f32_from_e4m3(read<uint8_t>(w.data, size_t{row} * w.cols + col)) *
             element(w.scale_format, w.scales, block);
    }
    case Format::affine: {
      const size_t group = size_t{row} * (w.cols / w.group) + col / w.group;
      return std::fma(static_cast<float>(affine_integer(w, row, col)),
                      element(w.scale_format, w.scales, group),
                      element(w.scale_format, w.biases, group));
    }
    default:
      return element(w.format, w.data, size_t{row} * w.cols + col);
  }
}

}  // namespace

void decode_row(const Matrix& w, uint32_t row, float* out) {
  for (uint32_t col = 0; col < w.cols; ++col) out[col] = weight(w, row, col);
}

}  // namespace sluice::kernels
