// A codebook's integers as the bytes that dot products look up; for the instruction sets' own
// files.
//
//   quantized = 2 * byte - offset, the offset being 256 for an even codebook and 255 for an odd
//   one.
//
// In a codebook of 256 the byte is the code itself.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace sluice::kernels {
namespace {

inline uint32_t code_offset(const Codebook& codebook) {
  return codebook.quantized[0] % 2 == 0 ? 256 : 255;
}

inline uint8_t code_byte(const Codebook& codebook, uint32_t i) {
  const int32_t doubled = codebook.quantized[i] + static_cast<int32_t>(code_offset(codebook));
  return static_cast<uint8_t>(doubled / 2);
}

// offset * Σ input, what a group's dot product with the bytes is corrected by. It may wrap around,
// as that product does.
inline int32_t code_correction(uint32_t offset, int32_t sum_of_inputs) {
  return static_cast<int32_t>(offset * static_cast<uint32_t>(sum_of_inputs));
}

}  // namespace
}  // namespace sluice::kernels
