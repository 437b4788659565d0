// 16 rows of numbers turned, so that a register holds the same column of every row in order.
#pragma once

#include "kernels/lanes.h"

namespace sluice::kernels {
namespace {

// out[c]: column c of the eight of 16 bits each at rows[r] + offset, of all 16 rows in order.
inline void transpose(const std::byte* const (&rows)[16], size_t offset, __m256i (&out)[8]) {
  __m256i a[8], b[8];
  for (uint32_t r = 0; r < 8; ++r) {
    const auto from_row = [&](uint32_t row) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[row] + offset));
    };
    a[r] = _mm256_set_m128i(from_row(r + 8), from_row(r));
  }
  for (uint32_t r = 0; r < 4; ++r) {  // b[r], b[r+4]: columns 0-3 and 4-7 of rows 2r and 2r+1
    b[r] = _mm256_unpacklo_epi16(a[size_t{2} * r], a[size_t{2} * r + 1]);
    b[r + 4] = _mm256_unpackhi_epi16(a[size_t{2} * r], a[size_t{2} * r + 1]);
  }
  for (uint32_t half = 0; half < 8;
       half += 4) {  // a[half + c/2*2 ...]: four rows, two columns each
    for (uint32_t r = 0; r < 2; ++r) {
      a[half + r] = _mm256_unpacklo_epi32(b[half + 2 * r], b[half + 2 * r + 1]);
      a[half + r + 2] = _mm256_unpackhi_epi32(b[half + 2 * r], b[half + 2 * r + 1]);
    }
  }
  for (uint32_t c = 0; c < 8; c += 2) {
    out[c] = _mm256_unpacklo_epi64(a[c], a[c + 1]);
    out[c + 1] = _mm256_unpackhi_epi64(a[c], a[c + 1]);
  }
}

// out[c]: column c of the 16 bytes at rows[r] + offset. Each round interleaves rows half of all
// apart, after four of them every byte has passed all rows before its own.
inline void transpose(const std::byte* const (&rows)[16], size_t offset, __m128i (&out)[16]) {
  for (uint32_t r = 0; r < 16; ++r) {
    out[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + offset));
  }
  for (uint32_t round = 0; round < 4; ++round) {
    __m128i before[16];
    for (uint32_t r = 0; r < 16; ++r) before[r] = out[r];
    for (uint32_t r = 0; r < 8; ++r) {
      out[size_t{2} * r] = _mm_unpacklo_epi8(before[r], before[r + 8]);
      out[size_t{2} * r + 1] = _mm_unpackhi_epi8(before[r], before[r + 8]);
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
