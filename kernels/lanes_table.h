// The table of an instruction set, made of the kernels over its Lanes.
#pragma once

#include "kernels/lanes_affine.h"
#include "kernels/lanes_attention.h"
#include "kernels/lanes_codebook.h"
#include "kernels/lanes_columns.h"
#include "kernels/lanes_elementwise.h"
#include "kernels/lanes_encode.h"
#include "kernels/lanes_f8.h"
#include "kernels/lanes_integer.h"
#include "kernels/lanes_matmul.h"
#include "kernels/lanes_recurrent.h"
#include "kernels/lanes_rotation.h"
#include "kernels/lanes_tile_floats.h"
#include "kernels/lanes_tiles.h"

namespace sluice::kernels {
namespace {

inline void matmul(const Matrix& w, const MatmulTask& task, const float* x, float* y) {
  const bool columns = w.layout == Layout::columns;
  switch (w.format) {
    case Format::f32:
      return columns ? matmul_columns<F32Weights>(w, task, x, y)
                     : matmul_floats<F32Weights>(w.data, w.cols, task, x, y);
    case Format::f16:
      return columns ? matmul_columns<F16Weights>(w, task, x, y)
                     : matmul_floats<F16Weights>(w.data, w.cols, task, x, y);
    case Format::bf16:
      return columns ? matmul_columns<Bf16Weights>(w, task, x, y)
                     : matmul_floats<Bf16Weights>(w.data, w.cols, task, x, y);
    case Format::turboquant:
    case Format::mxfp4:
      return matmul_codebook(w, task, x, y);
    case Format::f8_e4m3:
      return matmul_f8(w, task, x, y);
    case Format::affine:
      return matmul_affine(w, task, x, y);
  }
}

inline void matmul_integer(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                           float* y) {
  if (w.format == Format::affine) return matmul_integer_affine(w, task, x, y);
  if (w.layout == Layout::tiles) return matmul_integer_tiles(w, task, x, y);
  matmul_integer_rows(w, task, x, y);
}

constexpr Table table_of(Isa isa, const char* name) {
  return {
      .isa = isa,
      .name = name,
      .matmul = matmul,
      .matmul_integer = matmul_integer,
      .quantize = quantize,
      .rotate = rotate,
      .encode = encode,
      .rms_norm = rms_norm,
      .rope_halves = rope_halves,
      .rope_pairs = rope_pairs,
      .softmax = softmax,
      .sigmoid = sigmoid,
      .swiglu = swiglu,
      .swiglu_clamped = swiglu_clamped,
      .relu_squared = relu_squared,
      .add = add,
      .add_scaled = add_scaled,
      .attention = attention,
      .convolve = convolve,
      .add_step = add_step,
      .delta_step = delta_step,
      .to_f16 = to_f16,
      .to_f32 = to_f32,
  };
}

}  // namespace
}  // namespace sluice::kernels
