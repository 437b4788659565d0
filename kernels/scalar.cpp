// The scalar table: the oracle that every other table must match bit for bit. Dull on purpose:
// plain loops in the order that kernels.h promises, compiled for the baseline processor.
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/scalar_exp.h"
#include "kernels/scalar_matmul.h"
#include "kernels/scalar_recurrent.h"
#include "kernels/scalar_values.h"

namespace sluice::kernels {
namespace {

constexpr float kLargestInput = 32512.0f;  // 127 * 256, see QuantizedVectors

void quantize(const float* x, uint32_t cols, uint32_t group, const QuantizedVectors& out,
              uint32_t vector) {
  std::byte* values = out.values + 2 * size_t{vector} * out.value_stride;
  for (uint32_t g = 0; g < cols / group; ++g) {
    // As integers the magnitudes order like the numbers, and a NaN is the largest of all.
    uint32_t largest_bits = 0;
    for (uint32_t i = 0; i < group; ++i) {
      const uint32_t magnitude = std::bit_cast<uint32_t>(x[g * group + i]) & 0x7fffffff;
      if (magnitude > largest_bits) largest_bits = magnitude;
    }
    const float largest = std::bit_cast<float>(largest_bits);
    const float inverse = kLargestInput / largest;
    const bool usable = std::isfinite(largest) && std::isfinite(inverse);
    int32_t total = 0;
    for (uint32_t i = 0; i < group; ++i) {
      const float scaled = usable ? x[g * group + i] * inverse : 0.0f;
      const auto value = static_cast<int16_t>(std::nearbyint(scaled));
      std::memcpy(values + 2 * size_t{g * group + i}, &value, sizeof(value));
      total += value;
    }
    out.scales[size_t{vector} * out.group_stride + g] = largest / kLargestInput;
    out.sums[size_t{vector} * out.group_stride + g] = total;
  }
  std::memset(values + 2 * size_t{cols}, 0, 2 * size_t{(cols + 63) / 64 * 64 - cols});
}

void rotate(const Rotation& rotation, const float* signs, const float* x, float* y) {
  const uint32_t m = rotation.m;
  const uint32_t part = rotation.run / m;  // a power of two
  for (uint32_t i = 0; i < rotation.n; ++i) y[i] = x[i] * signs[i];
  for (uint32_t h = 1; h < part; h *= 2) {
    for (uint32_t i = 0; i < rotation.n; ++i) {
      if ((i & h) != 0) continue;
      const float a = y[i], b = y[i + h];
      y[i] = a + b;
      y[i + h] = a - b;
    }
  }
  for (uint32_t run = 0; m > 1 && run < rotation.n; run += rotation.run) {
    for (uint32_t i = 0; i < part; ++i) {
      float column[28];
      for (uint32_t k = 0; k < m; ++k) column[k] = y[run + k * part + i];
      for (uint32_t j = 0; j < m; ++j) {
        const int8_t* row = rotation.table + size_t{j} * m;
        float total = row[0] > 0 ? column[0] : -column[0];
        for (uint32_t k = 1; k < m; ++k) total += row[k] > 0 ? column[k] : -column[k];
        y[run + j * part + i] = total;
      }
    }
  }
  for (uint32_t i = 0; i < rotation.n; ++i) y[i] *= rotation.factor;
}

uint32_t nearest_code(const Encoding& encoding, float value, float scale) {
  if (encoding.length == 256) {
    const float place = value * (0.5f / (encoding.step * scale)) + 127.5f;
    const float least = place > 0.0f ? place : 0.0f;
    return static_cast<uint32_t>(std::nearbyint(least < 255.0f ? least : 255.0f));
  }
  uint32_t code = 0;
  for (uint32_t i = 0; i + 1 < encoding.length; ++i) {
    code += value >= encoding.edges[i] * scale ? 1 : 0;
  }
  return code;
}

// ScaleRule::search, for values [encoding.group] whose RMS, at least kSmallestRms, is rms.
float searched_scale(const Encoding& encoding, const float* values, float rms) {
  if (encoding.length == 256) {
    float largest = 0;
    for (uint32_t i = 0; i < encoding.group; ++i) {
      largest = std::max(largest, std::fabs(values[i]));
    }
    return largest / (255 * encoding.step);
  }
  const float inverse = 1 / rms;
  const uint32_t first = encoding.length / 2;  // the lowest centroid that is not negative
  float best_score = 0;
  float best = 1;
  for (const float factor : kScaleFactors) {
    Lanes products;
    Lanes squares;
    for (uint32_t i = 0; i < encoding.group; ++i) {
      const float magnitude = std::fabs(values[i] * inverse);
      uint32_t code = first;
      while (code + 1 < encoding.length && magnitude >= encoding.edges[code] * factor) ++code;
      const float centroid = encoding.centroids[code];
      float& product = products.lane[i % kLanes];
      float& square = squares.lane[i % kLanes];
      product = std::fma(magnitude, centroid, product);
      square = std::fma(centroid, centroid, square);
    }
    const float product = sum(products);
    const float ratio = product / sum(squares);  // not a number if all codes are a centroid of 0
    const float score = product * ratio;
    if (score > best_score) {
      best_score = score;
      best = ratio;
    }
  }
  return rms * best;
}

bool encode(const Encoding& encoding, const float* values, uint8_t* codes, std::byte* scales,
            size_t scale_stride, EncodingError* error) {
  for (uint32_t begin = 0; begin < encoding.cols; begin += encoding.group) {
    const uint32_t end = begin + encoding.group;
    Lanes squares;
    for (uint32_t i = begin; i < end; ++i) squares.lane[i % kLanes] += values[i] * values[i];
    const float size = sum(squares);
    float wanted = std::sqrt(size / static_cast<float>(encoding.group));
    if (!(f32_from_f16(f16_from_f32(wanted)) <= kLargestF16)) return false;  // or not a number
    wanted = wanted < kSmallestRms ? kSmallestRms : wanted;
    if (encoding.rule == ScaleRule::search) {
      wanted = searched_scale(encoding, values + begin, wanted);
      wanted = wanted < kSmallestRms ? kSmallestRms : wanted;
      wanted = wanted < kLargestF16 ? wanted : kLargestF16;
    }
    const uint16_t half = f16_from_f32(wanted);
    std::memcpy(scales + begin / encoding.group * scale_stride, &half, sizeof(half));
    // The code is decided on the scale as stored, not on the one before rounding: it is what a
    // decoder multiplies with, so every weight gets the smallest error that its scale permits.
    const float scale = f32_from_f16(half);
    Lanes errors;
    for (uint32_t i = begin; i < end; ++i) {
      const uint32_t code = nearest_code(encoding, values[i], scale);
      codes[i] = static_cast<uint8_t>(code);
      const float centroid =
          encoding.length == 256
              ? static_cast<float>(2 * static_cast<int>(code) - 255) * encoding.step
              : encoding.centroids[code];
      const float difference = values[i] - centroid * scale;
      errors.lane[i % kLanes] += difference * difference;
    }
    if (error == nullptr) continue;
    error->error += static_cast<double>(sum(errors));
    error->size += static_cast<double>(size);
  }
  return true;
}

void rms_norm(const float* x, const float* weight, uint32_t n, float epsilon, float* y) {
  Lanes squares;
  for (uint32_t i = 0; i < n; ++i) squares.lane[i % kLanes] += x[i] * x[i];
  const float inverse = 1.0f / std::sqrt(sum(squares) / static_cast<float>(n) + epsilon);
  for (uint32_t i = 0; i < n; ++i) y[i] = x[i] * inverse * weight[i];
}

void rope_halves(float* x, uint32_t heads, uint32_t head_dim, uint32_t dim, const float* cos,
                 const float* sin) {
  for (uint32_t head = 0; head < heads; ++head) {
    float* first = x + size_t{head} * head_dim;
    float* second = first + dim / 2;
    for (uint32_t i = 0; i < dim / 2; ++i) {
      const float a = first[i], b = second[i];
      first[i] = std::fma(a, cos[i], -(b * sin[i]));
      second[i] = std::fma(b, cos[i], a * sin[i]);
    }
  }
}

void rope_pairs(float* x, uint32_t heads, uint32_t head_dim, uint32_t dim, const float* cos,
                const float* sin) {
  for (uint32_t head = 0; head < heads; ++head) {
    float* pair = x + size_t{head} * head_dim;
    for (uint32_t i = 0; i < dim / 2; ++i, pair += 2) {
      const float a = pair[0], b = pair[1];
      pair[0] = std::fma(a, cos[i], -(b * sin[i]));
      pair[1] = std::fma(b, cos[i], a * sin[i]);
    }
  }
}

// sink: one more term of the sum, of which nothing comes out; null: none.
void softmax_beside(const float* sink, float* x, uint32_t n) {
  float largest = x[0];
  for (uint32_t i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  if (sink != nullptr && *sink > largest) largest = *sink;
  Lanes total;
  for (uint32_t i = 0; i < n; ++i) {
    x[i] = exp_f32(x[i] - largest);
    total.lane[i % kLanes] += x[i];
  }
  float divisor = sum(total);
  if (sink != nullptr) divisor += exp_f32(*sink - largest);
  for (uint32_t i = 0; i < n; ++i) x[i] /= divisor;
}

void softmax(float* x, uint32_t n) { softmax_beside(nullptr, x, n); }

void sigmoid(float* x, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) x[i] = 1.0f / (1.0f + exp_f32(-x[i]));
}

void swiglu(const float* gate, const float* up, uint32_t n, float* out) {
  for (uint32_t i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + exp_f32(-gate[i])) * up[i];
}

void swiglu_clamped(const float* pairs, uint32_t n, float limit, float alpha, float* out) {
  for (uint32_t i = 0; i < n; ++i) {
    const float gate = limit < pairs[2 * i] ? limit : pairs[2 * i];
    const float high = limit < pairs[2 * i + 1] ? limit : pairs[2 * i + 1];
    const float up = -limit > high ? -limit : high;
    out[i] = gate / (1.0f + exp_f32(-(alpha * gate))) * (up + 1.0f);
  }
}

void relu_squared(float* x, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) {
    const float positive = 0.0f > x[i] ? 0.0f : x[i];
    x[i] = positive * positive;
  }
}

void add(const float* x, uint32_t n, float* y) {
  for (uint32_t i = 0; i < n; ++i) y[i] += x[i];
}

void add_scaled(float factor, const float* x, uint32_t n, float* y) {
  for (uint32_t i = 0; i < n; ++i) y[i] = std::fma(factor, x[i], y[i]);
}

void attention(const AttentionTask& task) {
  const Format format = task.format == KvFormat::f16 ? Format::f16 : Format::f32;
  const uint32_t width = task.value_dim > 0 ? task.value_dim : task.head_dim;
  const uint32_t stride = task.value_stride > 0 ? task.value_stride : width;
  for (uint32_t head = 0; head < task.heads; ++head) {
    const float* q = task.q + size_t{head} * task.head_dim;
    float* scores = task.scores + size_t{head} * task.positions;
    float* out = task.out + size_t{head} * width;
    for (uint32_t t = 0; t < task.positions; ++t) {
      scores[t] = dot(format, task.k, size_t{t} * task.head_dim, q, task.head_dim) * task.scale;
    }
    softmax_beside(task.sinks == nullptr ? nullptr : task.sinks + head, scores, task.positions);
    for (uint32_t i = 0; i < width; ++i) out[i] = 0;
    for (uint32_t t = 0; t < task.positions; ++t) {
      for (uint32_t i = 0; i < width; ++i) {
        const float v = element(format, task.v, size_t{t} * stride + i);
        out[i] = std::fma(scores[t], v, out[i]);
      }
    }
  }
}

void to_f16(const float* x, size_t n, std::byte* out) {
  for (size_t i = 0; i < n; ++i) {
    const uint16_t half = f16_from_f32(x[i]);
    std::memcpy(out + i * sizeof(half), &half, sizeof(half));
  }
}

void to_f32(Format format, const std::byte* x, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = element(format, x, i);
}

constexpr Table kTable = {
    .isa = Isa::scalar,
    .name = "scalar",
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

}  // namespace

const Table* scalar_table() { return &kTable; }

}  // namespace sluice::kernels
