#include "bench/kernel_weights.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>

#include "io/error.h"
#include "kernels/codec.h"
#include "kernels/tiles.h"

namespace sluice::bench {
namespace {

using kernels::Format, kernels::Layout, kernels::Matrix;

uint64_t whole_lines(uint64_t bytes) { return (bytes + 63) / 64 * 64; }
uint64_t blocks(uint32_t n, uint32_t block) { return (uint64_t{n} + block - 1) / block; }

const kernels::Codebook& gaussian_codebook(uint32_t length) {
  static std::map<uint32_t, kernels::Codebook> made;
  const auto [entry, is_new] = made.try_emplace(length);
  if (is_new) {
    entry->second = kernels::make_codebook(kernels::gaussian_centroids(length).data(), length);
  }
  return entry->second;
}

uint32_t bytes_of_float(Format format) { return format == Format::f32 ? 4 : 2; }

uint64_t data_bytes(const Matrix& m) {
  switch (m.format) {
    case Format::f32:
    case Format::f16:
    case Format::bf16:
      return uint64_t{m.rows} * m.cols * bytes_of_float(m.format);
    case Format::f8_e4m3:
      return uint64_t{m.rows} * m.cols;
    case Format::affine:
      return uint64_t{m.rows} * m.cols * m.bits / 8;
    case Format::mxfp4:
    case Format::turboquant:
      break;
  }
  const uint32_t length = m.codebook->length;
  return m.layout == Layout::tiles ? kernels::tile_bytes(m.rows, m.cols, length)
                                   : uint64_t{m.rows} * kernels::row_words(m.cols, length) * 4;
}

// How the scales of a matrix lie, and what each of them is here.
struct Scales {
  uint64_t count;
  uint32_t value, bytes;  // the lowest of the value's
};

Scales scales_of(const Matrix& m) {
  const uint32_t tile_rows = m.layout == Layout::tiles ? (m.rows + 15) / 16 * 16 : m.rows;
  switch (m.format) {
    case Format::turboquant:
      return {uint64_t{tile_rows} * (m.cols / m.group), 0x2400, 2};  // F16 1/64
    case Format::mxfp4:
      return {uint64_t{tile_rows} * (m.cols / m.group), 121, 1};  // E8M0 1/64
    case Format::f8_e4m3:
      return {blocks(m.rows, m.block_rows) * blocks(m.cols, m.group), 0x3c800000, 4};  // F32 1/64
    case Format::affine:
      return {uint64_t{m.rows} * (m.cols / m.group), 0x3c80, 2};  // BF16 1/64
    default:
      return {0, 0, 0};
  }
}

// What is done to every 32 random bits to make them data of a format.
struct Bits {
  uint32_t allowed, set;
};

// Floats have the second highest bit of their exponents cleared and the next one set: that makes
// magnitudes that products and sums of do not leave, and no denormal, each of which would cost
// Intel's processors a hundred cycles. Words of base 3 stay below 3^20.
Bits bits_of(const Matrix& m) {
  switch (m.format) {
    case Format::f32:
      return {0xbfffffff, 0x20000000};
    case Format::f16:
    case Format::bf16:
      return {0xbfffbfff, 0x20002000};
    case Format::f8_e4m3:
      return {0xbfbfbfbf, 0x20202020};
    case Format::turboquant:
      return {m.codebook->length == 3 ? 0x7fffffff : 0xffffffff, 0};
    default:
      return {0xffffffff, 0};
  }
}

Matrix sized(const StoredFormat& format, Shape shape) {
  Matrix m = format.form;
  m.rows = shape.rows;
  m.cols = shape.cols;
  return m;
}

}  // namespace

std::vector<StoredFormat> stored_formats(uint32_t group) {
  std::vector<StoredFormat> all;
  for (const Layout layout : {Layout::tiles, Layout::rows}) {
    const std::string suffix = layout == Layout::tiles ? ".tiles" : ".rows";
    for (const uint32_t bits : {2u, 3u, 4u, 8u}) {
      all.push_back({"turboquant" + std::to_string(bits) + suffix,
                     {.format = Format::turboquant,
                      .layout = layout,
                      .group = group,
                      .codebook = &gaussian_codebook(1u << bits)}});
    }
    all.push_back({"mxfp4" + suffix,
                   {.format = Format::mxfp4,
                    .layout = layout,
                    .group = 32,
                    .codebook = &kernels::mxfp4_codebook()}});
  }
  all.push_back(
      {"ternary.rows",
       {.format = Format::turboquant, .group = group, .codebook = &gaussian_codebook(3)}});
  all.push_back({"bf16", {.format = Format::bf16}});
  all.push_back({"f16", {.format = Format::f16}});
  all.push_back({"f32", {.format = Format::f32}});
  all.push_back(
      {"f8.blocks",
       {.format = Format::f8_e4m3, .group = 128, .block_rows = 128, .scale_format = Format::f32}});
  for (const uint32_t bits : {2u, 3u, 4u, 5u, 6u, 8u}) {
    all.push_back(
        {"affine" + std::to_string(bits),
         {.format = Format::affine, .group = group, .bits = bits, .scale_format = Format::bf16}});
  }
  return all;
}

uint64_t WeightSet::bytes_of(const StoredFormat& format, Shape shape) {
  const Matrix m = sized(format, shape);
  const Scales scales = scales_of(m);
  const uint64_t scale_arrays = m.format == Format::affine ? 2 : 1;
  return whole_lines(data_bytes(m)) + scale_arrays * whole_lines(scales.count * scales.bytes);
}

WeightSet::WeightSet(const StoredFormat& format, Shape shape, std::span<std::byte> memory)
    : form_(sized(format, shape)),
      memory_(memory.data()),
      data_bytes_(whole_lines(data_bytes(form_))),
      stride_(bytes_of(format, shape)),
      count_(memory.size() / stride_) {
  if (count_ == 0) {
    throw Error(format.name, ": a matrix of ", shape.rows, " x ", shape.cols, " takes ", stride_,
                " bytes, more than the ", memory.size(), " of the set; raise --mb");
  }
  const Scales scales = scales_of(form_);
  scale_bytes_ = whole_lines(scales.count * scales.bytes);
  stored_bytes_ =
      data_bytes(form_) + scales.count * scales.bytes * (form_.format == Format::affine ? 2 : 1);
  std::mt19937 random(1);
  const Bits bits = bits_of(form_);
  for (uint64_t i = 0; i < data_bytes_; i += sizeof(uint32_t)) {
    const uint32_t word = (static_cast<uint32_t>(random()) & bits.allowed) | bits.set;
    std::memcpy(memory_ + i, &word, sizeof word);
  }
  for (uint64_t i = data_bytes_; scales.bytes > 0 && i < stride_; i += scales.bytes) {
    std::memcpy(memory_ + i, &scales.value, scales.bytes);
  }
  for (uint64_t i = 1; i < count_; ++i) std::memcpy(memory_ + i * stride_, memory_, stride_);
}

Matrix WeightSet::matrix(uint64_t index) const {
  Matrix m = form_;
  m.data = memory_ + index * stride_;
  m.scales = m.data + data_bytes_;
  if (m.format == Format::affine) m.biases = m.scales + scale_bytes_;
  return m;
}

std::span<const std::byte> WeightSet::bytes(uint64_t first, uint64_t count) const {
  return {memory_ + first * stride_, count * stride_};
}

Inputs::Inputs(const kernels::Table& table, const Matrix& form, uint32_t vectors)
    : table_(table),
      cols_(form.cols),
      value_stride_((form.cols + 63) / 64 * 64 | 64),  // as the runtime's
      x_(uint64_t{vectors} * form.cols),
      values_(uint64_t{vectors} * value_stride_ * 2) {
  std::mt19937 random(1);
  std::normal_distribution<float> gaussian;
  for (float& value : x_) value = gaussian(random);
  if (!takes_integers(form.format)) return;
  const uint32_t groups = form.cols / form.group;
  scales_.resize(uint64_t{vectors} * groups);
  sums_.resize(scales_.size());
  quantized_ = {.values = values_.data(),
                .scales = scales_.data(),
                .sums = sums_.data(),
                .value_stride = value_stride_,
                .group_stride = groups};
  for (uint32_t v = 0; v < vectors; ++v) {
    table.quantize(x_.data() + uint64_t{v} * cols_, cols_, form.group, quantized_, v);
  }
}

void Inputs::multiply(const Matrix& w, kernels::MatmulTask task, float* y) const {
  task.x_stride = cols_;
  task.y_stride = w.rows;
  if (quantized_.values != nullptr) {
    table_.matmul_integer(w, task, quantized_, y);
  } else {
    table_.matmul(w, task, x_.data(), y);
  }
}

}  // namespace sluice::bench
