// Block formats: what published checkpoints store weights in besides the kernels' own formats, and
// only the converter reads: FP8 with a scale per block of the matrix, MXFP4 with a scale per 32.
//
//   F8_E4M3   s eeee mmm, bias 7, no infinities, 0x7f and 0xff are NaN; value · scale of its block
//   MXFP4     16 bytes hold 32 E2M1 values, low nibble first: s ee m, {0 .5 1 1.5 2 3 4 6};
//             value · 2^(scale byte − 127); scale byte 255 is NaN
//
// Pure functions. Threads: any. Every byte is legal input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice {

float e4m3_value(uint8_t bits);
float e2m1_value(uint8_t nibble);  // the lower four bits count
float e8m0_value(uint8_t bits);    // 2^(bits − 127), 255: NaN

inline constexpr uint32_t kMxfp4Block = 32;  // values that share a scale, in 16 bytes

// n values of F8_E4M3, not yet scaled. out: [n].
void e4m3_to_f32(const std::byte* bytes, size_t n, float* out);

// blocks: [count, 16] bytes, scales: [count] bytes, out: [count, 32].
void mxfp4_to_f32(const std::byte* blocks, const std::byte* scales, size_t count, float* out);

}  // namespace sluice
