#include "kernels/codec.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>

namespace sluice::kernels {
namespace {

// J. Max, "Quantizing for minimum distortion", 1960: each centroid is the mean of N(0, 1) between
// the midpoints to its neighbours. Found by iteration in double precision.
constexpr float kTernary[] = {-1.224f, 0.0f, 1.224f};
constexpr float kTwoBits[] = {-1.5104174569f, -0.4527799975f, 0.4527799975f, 1.5104174569f};
constexpr float kThreeBits[] = {-2.1519452850f, -1.3439090860f, -0.7560051861f, -0.2450941497f,
                                0.2450941497f,  0.7560051861f,  1.3439090860f,  2.1519452850f};
constexpr float kFourBits[] = {-2.7332986608f, -2.0698191883f, -1.6188648437f, -1.2570025732f,
                               -0.9430078288f, -0.6572738605f, -0.3883729570f, -0.1285059463f,
                               0.1285059463f,  0.3883729570f,  0.6572738605f,  0.9430078288f,
                               1.2570025732f,  1.6188648437f,  2.0698191883f,  2.7332986608f};

// (2i - 255) / 64: 8 bits are enough for evenly spaced centroids, and codes are then numbers that
// dot products take without a lookup. They reach to ±3.98.
constexpr std::array<float, 256> kEightBits = [] {
  std::array<float, 256> values{};
  for (int i = 0; i < 256; ++i)
    values[static_cast<size_t>(i)] = static_cast<float>(2 * i - 255) / 64;
  return values;
}();

constexpr float kSmallestRms =
    1e-7f;  // its F16 is not zero, so that dividing by a scale is defined
constexpr float kLargestF16 = 65504.0f;
constexpr uint32_t kLanes = 16;

// Indices per word: as many digits in base kLength as 32 bits hold (10 of 3 bits leave two bits
// zero).
template <uint32_t kLength>
constexpr uint32_t kDigits = kLength == 3   ? 20
                             : kLength == 4 ? 16
                             : kLength == 8 ? 10
                                            : 8;

// √(mean of squares) of a group, lane by lane and then by halves (kernels.h, "Determinism").
float group_rms(const float* values, uint32_t group) {
  float lanes[kLanes] = {};
  for (uint32_t i = 0; i < group; i += kLanes) {
    for (uint32_t j = 0; j < kLanes; ++j) lanes[j] += values[i + j] * values[i + j];
  }
  for (uint32_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint32_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return std::sqrt(lanes[0] / static_cast<float>(group));
}

// The index of the centroid nearest to value / scale is the number of edges at or below it. The
// edges are scaled instead of the values: one product per edge and group, no division per value.
template <uint32_t kLength>
void nearest_indices(const float* edges, const float* values, uint32_t group, float scale,
                     uint8_t* indices) {
  float scaled[kLength - 1];
  for (uint32_t edge = 0; edge < kLength - 1; ++edge) scaled[edge] = edges[edge] * scale;
  for (uint32_t i = 0; i < group; ++i) {
    uint32_t index = 0;
    for (uint32_t edge = 0; edge < kLength - 1; ++edge) index += values[i] >= scaled[edge] ? 1 : 0;
    indices[i] = static_cast<uint8_t>(index);
  }
}

// The first index lands in the lowest digit; digits that a last word lacks are zero.
template <uint32_t kLength>
void pack(const uint8_t* indices, uint32_t cols, std::byte* words) {
  for (uint32_t begin = 0; begin < cols; begin += kDigits<kLength>) {
    const uint32_t end = std::min(begin + kDigits<kLength>, cols);
    uint32_t word = 0;
    for (uint32_t i = end; i > begin; --i) word = word * kLength + indices[i - 1];
    std::memcpy(words, &word, sizeof(word));
    words += sizeof(word);
  }
}

template <uint32_t kLength>
bool encode_row(const Codec& codec, const Table& table, const EncodeBuffers& buffers,
                std::byte* words, std::byte* scales) {
  for (uint32_t begin = 0; begin < codec.cols; begin += codec.group, scales += 2) {
    const float rms = group_rms(buffers.values + begin, codec.group);
    const float wanted = rms < kSmallestRms ? kSmallestRms : rms;
    float scale = 0;
    table.to_f16(&wanted, 1, scales);
    table.to_f32(Format::f16, scales, 1, &scale);
    if (!(scale <= kLargestF16)) return false;  // infinite, or not a number
    // Decided on the scale as stored, not on the RMS before rounding: it is what a decoder
    // multiplies with, so every weight gets the smallest error that its scale permits.
    nearest_indices<kLength>(codec.edges, buffers.values + begin, codec.group, scale,
                             buffers.indices + begin);
  }
  pack<kLength>(buffers.indices, codec.cols, words);
  return true;
}

template <uint32_t kLength>
uint32_t encode(const Codec& codec, const Table& table, const float* rows, uint32_t count,
                const EncodeBuffers& buffers) {
  const size_t word_bytes = size_t{codec.words} * 4;
  const size_t scale_bytes = size_t{codec.cols / codec.group} * 2;
  for (uint32_t row = 0; row < count; ++row) {
    const float* source = rows + size_t{row} * codec.cols;
    if (codec.signs != nullptr) {
      table.rotate(codec.rotation, codec.signs, source, buffers.values);
    } else {
      std::copy_n(source, codec.cols, buffers.values);
    }
    if (!encode_row<kLength>(codec, table, buffers, buffers.words + row * word_bytes,
                             buffers.scales + row * scale_bytes)) {
      return row;
    }
  }
  return count;
}

template <uint32_t kLength>
void unpack_centroids(const Codec& codec, const std::byte* words, float* out) {
  for (uint32_t begin = 0; begin < codec.cols; begin += kDigits<kLength>) {
    const uint32_t end = std::min(begin + kDigits<kLength>, codec.cols);
    uint32_t word = 0;
    std::memcpy(&word, words, sizeof(word));
    words += sizeof(word);
    for (uint32_t i = begin; i < end; ++i, word /= kLength)
      out[i] = codec.centroids[word % kLength];
  }
}

// The fast Walsh–Hadamard transform: stages of a + b, a - b. size is a power of two.
void walsh_hadamard(float* x, uint32_t size) {
  for (uint32_t half = 1; half < size; half *= 2) {
    for (uint32_t begin = 0; begin < size; begin += 2 * half) {
      for (uint32_t i = begin; i < begin + half; ++i) {
        const float a = x[i];
        const float b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
}

// out_j = Σ_k H_m[k][j] x_k over the m parts of a run, for each place within a part.
void transposed_table(const Rotation& rotation, float* x) {
  constexpr uint32_t kLargestOrder = 28;
  assert(rotation.m <= kLargestOrder);
  const uint32_t part = rotation.run / rotation.m;
  float column[kLargestOrder];
  for (uint32_t i = 0; i < part; ++i) {
    for (uint32_t k = 0; k < rotation.m; ++k) column[k] = x[k * part + i];
    for (uint32_t j = 0; j < rotation.m; ++j) {
      float sum = 0;
      for (uint32_t k = 0; k < rotation.m; ++k) {
        sum += static_cast<float>(rotation.table[k * rotation.m + j]) * column[k];
      }
      x[j * part + i] = sum;
    }
  }
}

}  // namespace

std::span<const float> gaussian_centroids(uint32_t length) {
  switch (length) {
    case 3:
      return kTernary;
    case 4:
      return kTwoBits;
    case 8:
      return kThreeBits;
    case 16:
      return kFourBits;
    default:
      assert(length == 256);
      return kEightBits;
  }
}

// G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014.
void random_signs(uint64_t seed, uint32_t count, float* signs) {
  for (uint32_t begin = 0; begin < count; begin += 64) {
    seed += 0x9e3779b97f4a7c15;
    uint64_t bits = seed;
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
    bits ^= bits >> 31;
    const uint32_t end = std::min(begin + 64, count);
    for (uint32_t i = begin; i < end; ++i, bits >>= 1) signs[i] = (bits & 1) != 0 ? -1.0f : 1.0f;
  }
}

Codec make_codec(uint32_t cols, uint32_t group, uint32_t length, const float* signs) {
  assert(group > 0 && group % kLanes == 0 && cols % group == 0);
  const Table& table = *scalar_table();
  Codec codec;
  codec.cols = cols;
  codec.group = group;
  codec.length = length;
  codec.words = row_words(cols, length);
  codec.rotation = make_rotation(cols);
  codec.signs = signs;
  std::byte f16[sizeof(codec.centroids) / 2];
  const std::span<const float> centroids = gaussian_centroids(length);
  table.to_f16(centroids.data(), length, f16);
  table.to_f32(Format::f16, f16, length, codec.centroids);
  for (uint32_t i = 0; i + 1 < length; ++i) {
    codec.edges[i] = (codec.centroids[i] + codec.centroids[i + 1]) / 2;
  }
  return codec;
}

void codebook_f16(const Codec& codec, std::byte* out) {
  scalar_table()->to_f16(codec.centroids, codec.length, out);
}

uint32_t encode_rows(const Codec& codec, const Table& table, const float* rows, uint32_t count,
                     const EncodeBuffers& buffers) {
  switch (codec.length) {
    case 3:
      return encode<3>(codec, table, rows, count, buffers);
    case 4:
      return encode<4>(codec, table, rows, count, buffers);
    case 8:
      return encode<8>(codec, table, rows, count, buffers);
    default:
      return encode<16>(codec, table, rows, count, buffers);
  }
}

void decode_row(const Codec& codec, const Table& table, const std::byte* words,
                const std::byte* scales, float* out) {
  switch (codec.length) {
    case 3:
      unpack_centroids<3>(codec, words, out);
      break;
    case 4:
      unpack_centroids<4>(codec, words, out);
      break;
    case 8:
      unpack_centroids<8>(codec, words, out);
      break;
    default:
      unpack_centroids<16>(codec, words, out);
  }
  for (uint32_t begin = 0; begin < codec.cols; begin += codec.group, scales += 2) {
    float scale = 0;
    table.to_f32(Format::f16, scales, 1, &scale);
    for (uint32_t i = begin; i < begin + codec.group; ++i) out[i] *= scale;
  }
}

void unrotate(const Rotation& rotation, const float* signs, const float* y, float* x) {
  if (x != y) std::copy_n(y, rotation.n, x);
  const uint32_t part = rotation.run / rotation.m;
  for (uint32_t begin = 0; begin < rotation.n; begin += rotation.run) {
    for (uint32_t i = 0; i < rotation.m; ++i) walsh_hadamard(x + begin + size_t{i} * part, part);
    if (rotation.m > 1) transposed_table(rotation, x + begin);
  }
  for (uint32_t i = 0; i < rotation.n; ++i) x[i] *= rotation.factor * signs[i];
}

}  // namespace sluice::kernels
