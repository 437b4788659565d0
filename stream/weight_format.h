// WeightFormat: how the numbers of a matrix are stored, and what its tensors say about it.
//
// A matrix P of [rows, cols] in one of the formats that have scales but no codebook consists of
//
//   F8 blocks  P.weight            F8_E4M3 [rows, cols]
//              P.weight_scale_inv  F32, BF16 or F16 [rows / block, cols / block], rounded up; a
//              block
//                                  has a power of two of rows and one of columns, which follow from
//                                  the shapes
//   MXFP4      P_blocks            U8 [rows, cols / 32, 16]
//              P_scales            U8 [rows, cols / 32]
//   the same   P.weight            U32 [rows, cols / 8]                  (as MLX writes it)
//              P.scales            U8 [rows, cols / 32]
//   affine     P.weight            U32 [rows, cols * bits / 32]          2, 3, 4, 5, 6 or 8 bits
//              P.scales, P.biases  F16, BF16 or F32 [rows, cols / group] 32, 64 or 128
//
// or, of experts that are stacked, of tensors with one dimension more before these.
// kernels/kernels.h says what the numbers mean. Pure functions. Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/checkpoint.h"

namespace sluice {

enum class WeightFormat : uint8_t { plain, turboquant, mxfp4, f8_blocks, affine };

// What a matrix in one of the last three formats is like besides its shape.
struct ScaledForm {
  WeightFormat format = WeightFormat::plain;
  uint32_t group = 0;              // columns that share a scale; f8_blocks: at least 16
  uint32_t block_rows = 1;         // f8_blocks: rows that share a scale
  uint32_t bits = 0;               // affine
  DType scale_dtype = DType::f32;  // f8_blocks, affine
  friend bool operator==(const ScaledForm&, const ScaledForm&) = default;
};

struct ScaledMatrix {
  ScaledForm form;
  const TensorInfo* data = nullptr;
  const TensorInfo* scales = nullptr;
  const TensorInfo* biases = nullptr;  // affine alone
};

// The matrix of that prefix, or nothing if it has no tensors of the above (a codebook or signs
// make it TurboQuant, whatever else it has). stack: the number of experts in a stack; nothing: one
// matrix. where: begins the messages. Throws Error: a tensor of the matrix is missing, of another
// type or shape; F8 without scales for blocks, or of another kind.
std::optional<ScaledMatrix> find_scaled_matrix(const Checkpoint& checkpoint,
                                               const std::string& prefix,
                                               std::optional<uint64_t> stack, uint32_t rows,
                                               uint32_t cols, const std::string& where);

// Whether P<suffix> is among the tensors that the matrix P is read from, in one of these formats,
// TurboQuant or plain; ".weight" always is. What is not would change the result, or is of another
// program.
bool is_weight_part(const Checkpoint& checkpoint, const std::string& prefix,
                    std::string_view suffix);

// Stored bytes of a matrix and of its scales (of the biases there are as many). Requires: one of
// the three formats, its group a divisor of cols but for f8_blocks.
struct ScaledSizes {
  uint64_t data = 0;
  uint64_t scales = 0;
};
ScaledSizes scaled_sizes(const ScaledForm& form, uint32_t rows, uint32_t cols);

}  // namespace sluice
