#include "kernels/codec.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>

#include "kernels/code_words.h"
#include "kernels/tiles.h"

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

constexpr uint32_t kLanes = 16;
constexpr size_t kScaleBytes = 2;        // an F16
constexpr uint32_t kTernaryDigits = 20;  // per word, as many as 32 bits hold

// The first code lands in the lowest digit; digits that a last word lacks are zero.
void ternary_words(const uint8_t* codes, uint32_t cols, std::byte* words) {
  for (uint32_t begin = 0; begin < cols; begin += kTernaryDigits, words += sizeof(uint32_t)) {
    const uint32_t end = std::min(begin + kTernaryDigits, cols);
    uint32_t word = 0;
    for (uint32_t i = end; i > begin; --i) word = word * 3 + codes[i - 1];
    std::memcpy(words, &word, sizeof(word));
  }
}

void pack_row(uint32_t length, const uint8_t* codes, uint32_t cols, std::byte* words) {
  switch (length) {
    case 3:
      return ternary_words(codes, cols, words);
    case 4:
      return words_of_codes<2>(codes, cols, words);
    case 8:
      return words_of_codes<3>(codes, cols, words);
    case 16:
      return words_of_codes<4>(codes, cols, words);
    default:
      return words_of_codes<8>(codes, cols, words);
  }
}

Encoding encoding_of(const Codec& codec) {
  return {.cols = codec.cols,
          .group = codec.group,
          .length = codec.length,
          .rule = codec.rule,
          .centroids = codec.centroids,
          .edges = codec.edges,
          .step = codec.step};
}

// The row as a matrix multiplies it: `values`, or the row itself where nothing rotates it.
const float* rotated(const Codec& codec, const Table& table, const float* row, float* values) {
  if (codec.signs == nullptr) return row;
  table.rotate(codec.rotation, codec.signs, row, values);
  return values;
}

float centroid(const Codec& codec, uint32_t code) {
  if (codec.length != 256) return codec.centroids[code];
  return static_cast<float>(2 * static_cast<int>(code) - 255) * codec.step;
}

template <uint32_t kBits>
void unpack_centroids(const Codec& codec, const std::byte* words, float* out) {
  constexpr uint32_t kPerWord = kCodesPerWord<kBits>;
  uint8_t codes[24];  // a word's codes, and the room that codes_of_words asks for
  for (uint32_t begin = 0; begin < codec.cols; begin += kPerWord, words += sizeof(uint32_t)) {
    codes_of_words<kBits>(words, 1, codes);
    const uint32_t count = std::min(kPerWord, codec.cols - begin);
    for (uint32_t i = 0; i < count; ++i) out[begin + i] = centroid(codec, codes[i]);
  }
}

void unpack_ternary(const Codec& codec, const std::byte* words, float* out) {
  for (uint32_t begin = 0; begin < codec.cols; begin += kTernaryDigits) {
    const uint32_t end = std::min(begin + kTernaryDigits, codec.cols);
    uint32_t word = 0;
    std::memcpy(&word, words, sizeof(word));
    words += sizeof(word);
    for (uint32_t i = begin; i < end; ++i, word /= 3) out[i] = codec.centroids[word % 3];
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

Codec make_codec(uint32_t cols, uint32_t group, uint32_t length, const float* signs,
                 ScaleRule rule) {
  assert(group > 0 && group % kLanes == 0 && cols % group == 0);
  const Table& table = *scalar_table();
  Codec codec;
  codec.cols = cols;
  codec.group = group;
  codec.length = length;
  codec.rule = rule;
  codec.words = row_words(cols, length);
  codec.rotation = make_rotation(cols);
  codec.signs = signs;
  const std::span<const float> centroids = gaussian_centroids(length);
  if (length == 256) {
    codec.step = centroids[128];
    return codec;
  }
  std::byte f16[sizeof(codec.centroids) / 2];
  table.to_f16(centroids.data(), length, f16);
  table.to_f32(Format::f16, f16, length, codec.centroids);
  for (uint32_t i = 0; i + 1 < length; ++i) {
    codec.edges[i] = (codec.centroids[i] + codec.centroids[i + 1]) / 2;
  }
  return codec;
}

void codebook_f16(const Codec& codec, std::byte* out) {
  scalar_table()->to_f16(gaussian_centroids(codec.length).data(), codec.length, out);
}

uint32_t encode_rows(const Codec& codec, const Table& table, const float* rows, uint32_t count,
                     const EncodeBuffers& buffers, EncodingError* error) {
  const Encoding encoding = encoding_of(codec);
  const size_t word_bytes = size_t{codec.words} * sizeof(uint32_t);
  const size_t scale_bytes = size_t{codec.cols / codec.group} * kScaleBytes;
  for (uint32_t row = 0; row < count; ++row) {
    const float* values = rotated(codec, table, rows + size_t{row} * codec.cols, buffers.values);
    if (!table.encode(encoding, values, buffers.indices, buffers.scales + row * scale_bytes,
                      kScaleBytes, error)) {
      return row;
    }
    pack_row(codec.length, buffers.indices, codec.cols, buffers.words + row * word_bytes);
  }
  return count;
}

uint32_t encode_tiles(const Codec& codec, const Table& table, const float* rows, uint32_t count,
                      const TileEncodeBuffers& buffers, EncodingError* error) {
  assert(has_tiles(codec.cols, codec.group, codec.length));
  const Encoding encoding = encoding_of(codec);
  constexpr size_t kScaleStride = kRowsPerTile * kScaleBytes;
  for (uint32_t first = 0; first < count; first += kRowsPerTile) {
    const uint32_t here = std::min(kRowsPerTile, count - first);
    std::byte* scales = buffers.scales + tile_scale_bytes(first, codec.cols, codec.group);
    for (uint32_t r = 0; r < here; ++r) {
      const float* values =
          rotated(codec, table, rows + size_t{first + r} * codec.cols, buffers.values);
      if (!table.encode(encoding, values, buffers.indices + size_t{r} * codec.cols,
                        scales + r * kScaleBytes, kScaleStride, error)) {
        return first + r;
      }
    }
    if (here < kRowsPerTile) {
      std::memset(buffers.indices + size_t{here} * codec.cols, 0,
                  size_t{kRowsPerTile - here} * codec.cols);
      for (uint32_t g = 0; g < codec.cols / codec.group; ++g) {
        std::memset(scales + g * kScaleStride + here * kScaleBytes, 0,
                    (kRowsPerTile - here) * kScaleBytes);
      }
    }
    pack_tile(buffers.indices, codec.cols, codec.cols, codec.length,
              buffers.codes + tile_bytes(first, codec.cols, codec.length));
  }
  return count;
}

void decode_row(const Codec& codec, const Table& table, const std::byte* words,
                const std::byte* scales, float* out) {
  switch (codec.length) {
    case 3:
      unpack_ternary(codec, words, out);
      break;
    case 4:
      unpack_centroids<2>(codec, words, out);
      break;
    case 8:
      unpack_centroids<3>(codec, words, out);
      break;
    case 16:
      unpack_centroids<4>(codec, words, out);
      break;
    default:
      unpack_centroids<8>(codec, words, out);
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
