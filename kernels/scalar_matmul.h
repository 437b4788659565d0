// Matrices of every format times vectors, weight by weight. For scalar.cpp alone.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/scalar_values.h"

namespace sluice::kernels {
namespace {

// The codebook index of one weight in tiles, as kernels/tiles.h draws them.
inline uint32_t tile_code(const Matrix& w, uint32_t row, uint32_t col) {
  const uint32_t bits = static_cast<uint32_t>(std::countr_zero(w.codebook->length));
  const size_t unit = size_t{row / 16} * (w.cols / 32) + col / 32;
  const uint32_t vector = col % 32 / 4;
  const size_t place = row % 16 * 4 + col % 4;
  const auto byte = [&](size_t k) -> uint32_t {
    return read<uint8_t>(w.data + (unit * bits + k) * 64, place);
  };
  if (bits == 3 && vector >= 6) {
    const uint32_t shared = (byte(0) >> 6) | (byte(1) >> 6 << 2) | (byte(2) >> 6 << 4);
    return (shared >> (vector - 6) * 3) & 7;
  }
  const uint32_t per_byte = 8 / bits;
  const uint32_t codes = byte(vector / per_byte);
  return (codes >> vector % per_byte * bits) & (w.codebook->length - 1);
}

// The codebook index of one weight of a TurboQuant or MXFP4 matrix.
inline uint32_t code(const Matrix& w, uint32_t row, uint32_t col) {
  if (w.layout == Layout::tiles) return tile_code(w, row, col);
  const size_t row_start = size_t{row} * row_words(w.cols, w.codebook->length);
  if (w.codebook->length == 3) {
    uint32_t word = read<uint32_t>(w.data, row_start + col / 20);
    for (uint32_t digit = col % 20; digit > 0; --digit) word /= 3;
    return word % 3;
  }
  const uint32_t bits = static_cast<uint32_t>(std::countr_zero(w.codebook->length));
  const uint32_t per_word = 32 / bits;
  const uint32_t word = read<uint32_t>(w.data, row_start + col / per_word);
  return (word >> (col % per_word * bits)) & (w.codebook->length - 1);
}

inline int32_t quantized_weight(const Codebook& codebook, uint32_t code) {
  if (codebook.length == 256) return 2 * static_cast<int32_t>(code) - 255;
  return codebook.quantized[code];
}

inline float centroid(const Codebook& codebook, uint32_t code) {
  if (codebook.length != 256) return codebook.values[code];
  return static_cast<float>(quantized_weight(codebook, code)) * codebook.step;
}

inline float group_scale(const Matrix& w, uint32_t row, uint32_t group) {
  const size_t groups = w.cols / w.group;
  const size_t index = w.layout == Layout::tiles ? (row / 16 * groups + group) * 16 + row % 16
                                                 : row * groups + group;
  if (w.format == Format::mxfp4) return f32_from_e8m0(read<uint8_t>(w.scales, index));
  return f32_from_f16(read<uint16_t>(w.scales, index));
}

inline float codebook_dot(const Matrix& w, uint32_t row, const float* x) {
  Lanes row_lanes;
  for (uint32_t group = 0; group < w.cols / w.group; ++group) {
    Lanes lanes;
    for (uint32_t i = 0; i < w.group; ++i) {
      const uint32_t col = group * w.group + i;
      float& lane = lanes.lane[i % kLanes];
      lane = std::fma(centroid(*w.codebook, code(w, row, col)), x[col], lane);
    }
    const float scale = group_scale(w, row, group);
    for (uint32_t j = 0; j < kLanes; ++j) {
      row_lanes.lane[j] = std::fma(lanes.lane[j], scale, row_lanes.lane[j]);
    }
  }
  return sum(row_lanes);
}

inline float f8_dot(const Matrix& w, uint32_t row, const float* x) {
  const size_t blocks = (size_t{w.cols} + w.group - 1) / w.group;
  Lanes row_lanes;
  bool has_nan = false;
  for (uint32_t block = 0; block < blocks; ++block) {
    const uint32_t begin = block * w.group;
    const uint32_t end = w.cols - begin < w.group ? w.cols : begin + w.group;
    Lanes lanes;
    for (uint32_t i = begin; i < end; i += kLanes) {
      for (uint32_t j = 0; j < kLanes; ++j) {  // behind the end zeros, as in dot
        const auto code = i + j < end ? read<uint8_t>(w.data, size_t{row} * w.cols + i + j)
                                      : static_cast<uint8_t>(0);
        has_nan = has_nan || is_e4m3_nan(code);
        const float value = i + j < end ? x[i + j] : 0.0f;
        lanes.lane[j] = std::fma(e4m3_over_256(code), value, lanes.lane[j]);
      }
    }
    const float scale =
        element(w.scale_format, w.scales, row / w.block_rows * blocks + block) * 256.0f;
    for (uint32_t j = 0; j < kLanes; ++j) {
      row_lanes.lane[j] = std::fma(lanes.lane[j], scale, row_lanes.lane[j]);
    }
  }
  const float result = sum(row_lanes);
  return has_nan || std::isnan(result) ? std::bit_cast<float>(0x7fc00000u) : result;
}

// One integer of an affine matrix.
inline uint32_t affine_integer(const Matrix& w, uint32_t row, uint32_t col) {
  const std::byte* bytes = w.data + size_t{row} * (w.cols / 8 * w.bits);
  const size_t first = size_t{col} * w.bits;
  uint32_t two = read<uint8_t>(bytes, first / 8);
  if (first % 8 + w.bits > 8) two |= uint32_t{read<uint8_t>(bytes, first / 8 + 1)} << 8;
  return (two >> first % 8) & ((1u << w.bits) - 1);
}

inline float affine_dot(const Matrix& w, uint32_t row, const float* x) {
  const size_t groups = w.cols / w.group;
  Lanes lanes;
  for (uint32_t i = 0; i < w.cols; ++i) {
    const float scale = element(w.scale_format, w.scales, row * groups + i / w.group);
    const float bias = element(w.scale_format, w.biases, row * groups + i / w.group);
    const float weight = std::fma(static_cast<float>(affine_integer(w, row, i)), scale, bias);
    lanes.lane[i % kLanes] = std::fma(weight, x[i], lanes.lane[i % kLanes]);
  }
  return sum(lanes);
}

inline float row_dot(const Matrix& w, uint32_t row, const float* x) {
  switch (w.format) {
    case Format::turboquant:
    case Format::mxfp4:
      return codebook_dot(w, row, x);
    case Format::f8_e4m3:
      return f8_dot(w, row, x);
    case Format::affine:
      return affine_dot(w, row, x);
    default:
      if (w.layout == Layout::columns) return dot(w.format, w.data, row, x, w.cols, w.rows);
      return dot(w.format, w.data, size_t{row} * w.cols, x, w.cols);
  }
}

inline void matmul(const Matrix& w, const MatmulTask& task, const float* x, float* y) {
  for (uint32_t v = 0; v < task.vectors; ++v) {
    for (uint32_t row = task.row_begin; row < task.row_end; ++row) {
      y[size_t{v} * task.y_stride + row] = row_dot(w, row, x + size_t{v} * task.x_stride);
    }
  }
}

// This table keeps inputs as plain 16-bit words.
inline int16_t quantized_input(const QuantizedVectors& x, uint32_t vector, uint32_t col) {
  int16_t value;
  std::memcpy(&value, x.values + 2 * (size_t{vector} * x.value_stride + col), sizeof(value));
  return value;
}

inline float codebook_integer_dot(const Matrix& w, uint32_t row, const QuantizedVectors& x,
                                  uint32_t v) {
  const float* input_scales = x.scales + size_t{v} * x.group_stride;
  float total = 0;
  for (uint32_t group = 0; group < w.cols / w.group; ++group) {
    int32_t exact = 0;  // at most 128 * 255 * 32512 < 2^31
    for (uint32_t i = 0; i < w.group; ++i) {
      const uint32_t col = group * w.group + i;
      exact += quantized_weight(*w.codebook, code(w, row, col)) * quantized_input(x, v, col);
    }
    const float input_scale = w.codebook->step * input_scales[group];
    total = std::fma(static_cast<float>(exact), group_scale(w, row, group) * input_scale, total);
  }
  return total;
}

inline float affine_integer_dot(const Matrix& w, uint32_t row, const QuantizedVectors& x,
                                uint32_t v) {
  const size_t groups = w.cols / w.group;
  float total = 0;
  for (uint32_t group = 0; group < groups; ++group) {
    int32_t exact = 0;  // at most 128 * 255 * 32512 < 2^31
    for (uint32_t i = 0; i < w.group; ++i) {
      const uint32_t col = group * w.group + i;
      exact += static_cast<int32_t>(affine_integer(w, row, col)) * quantized_input(x, v, col);
    }
    const float scale = element(w.scale_format, w.scales, row * groups + group);
    const float bias = element(w.scale_format, w.biases, row * groups + group);
    const size_t at = size_t{v} * x.group_stride + group;
    total = std::fma(static_cast<float>(exact), scale * x.scales[at], total);
    total = std::fma(static_cast<float>(x.sums[at]), bias * x.scales[at], total);
  }
  return total;
}

inline void matmul_integer(const Matrix& w, const MatmulTask& task, const QuantizedVectors& x,
                           float* y) {
  for (uint32_t v = 0; v < task.vectors; ++v) {
    for (uint32_t row = task.row_begin; row < task.row_end; ++row) {
      y[size_t{v} * task.y_stride + row] = w.format == Format::affine
                                               ? affine_integer_dot(w, row, x, v)
                                               : codebook_integer_dot(w, row, x, v);
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
