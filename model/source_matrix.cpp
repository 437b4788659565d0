#include "model/source_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "io/check.h"
#include "io/error.h"
#include "io/posix_file.h"
#include "kernels/codec.h"
#include "kernels/columns.h"
#include "model/block_formats.h"
#include "model/linear.h"
#include "stream/plain_stack.h"
#include "stream/record_format.h"

namespace sluice {

namespace {

std::string at(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  return checkpoint.files()[tensor.file] + ": tensor " + tensor.name;
}

bool is_plain(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

void expect(const Checkpoint& checkpoint, const TensorInfo& tensor, DType dtype,
            const std::vector<uint64_t>& shape) {
  if (tensor.dtype == dtype && tensor.shape == shape) return;
  throw Error(at(checkpoint, tensor), " is ", dtype_name(tensor.dtype), " ",
              shape_text(tensor.shape), "; expected ", dtype_name(dtype), " ", shape_text(shape));
}

// Few and small: a codebook, signs.
std::vector<float> read_half_floats(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  const std::string& path = checkpoint.files()[tensor.file];
  std::vector<std::byte> bytes(tensor.size_bytes);
  read_exactly(open_regular_file(path).fd, bytes, tensor.offset, path);
  std::vector<float> values(bytes.size() / 2);
  kernels::table().to_f32(kernels::Format::f16, bytes.data(), values.size(), values.data());
  return values;
}

}  // namespace

SourceMatrix SourceMatrix::open(const Checkpoint& checkpoint, const std::string& prefix,
                                uint64_t expert, bool config_says_rotated) {
  SourceMatrix matrix;
  const TensorInfo& weight = checkpoint.at(prefix + ".weight");
  matrix.name_ = weight.name;
  matrix.dtype_ = weight.dtype;
  if (checkpoint.find(prefix + ".codebook") != nullptr) {
    matrix.open_turboquant(checkpoint, prefix, expert, config_says_rotated);
    return matrix;
  }
  if (weight.dtype != DType::f8_e4m3 && !is_plain(weight.dtype)) {
    throw Error(
        at(checkpoint, weight), " is ", dtype_name(weight.dtype),
        "; weights in F32, F16, BF16, F8_E4M3 with scales, published MXFP4, or TurboQuant can "
        "be converted (stream-repack takes every format, and keeps it)");
  }
  const size_t rank = weight.shape.size();
  if ((rank != 2 && rank != 3) || weight.size_bytes == 0 ||
      *std::max_element(weight.shape.begin(), weight.shape.end()) >
          std::numeric_limits<uint32_t>::max() / 2 ||
      (rank == 3 && expert >= weight.shape[0])) {
    throw Error(at(checkpoint, weight), " is ", shape_text(weight.shape), "; expected a matrix");
  }
  matrix.rows_ = static_cast<uint32_t>(weight.shape[rank - 2]);
  matrix.cols_ = static_cast<uint32_t>(weight.shape[rank - 1]);
  matrix.weight_file_ = weight.file;
  matrix.weight_row_bytes_ = uint64_t{matrix.cols_} * dtype_bytes(weight.dtype);
  matrix.weight_offset_ = weight.offset + expert * matrix.rows_ * matrix.weight_row_bytes_;
  if (weight.dtype == DType::f8_e4m3) matrix.open_fp8(checkpoint, prefix);
  return matrix;
}

void SourceMatrix::open_fp8(const Checkpoint& checkpoint, const std::string& prefix) {
  const TensorInfo& scales = checkpoint.at(prefix + ".weight_scale_inv");
  if (!is_plain(scales.dtype) || scales.shape.size() != 2 || scales.size_bytes == 0) {
    throw Error(at(checkpoint, scales), " is ", dtype_name(scales.dtype), " ",
                shape_text(scales.shape),
                "; expected a matrix of scales in F32, BF16 or F16, one per block");
  }
  // The block's side follows from the shapes: the smallest power of two that gives as many blocks.
  const auto side = [&](uint64_t n, uint64_t blocks) {
    uint64_t block = 1;
    while (block < n && (n + block - 1) / block > blocks) block *= 2;
    if ((n + block - 1) / block != blocks) {
      throw Error(at(checkpoint, scales), " is ", shape_text(scales.shape), " for weights of [",
                  rows_, ", ", cols_, "]; expected one scale per block of 2^k by 2^k weights");
    }
    return static_cast<uint32_t>(block);
  };
  kind_ = Kind::fp8_blocks;
  scale_rows_ = side(rows_, scales.shape[0]);
  scale_cols_ = side(cols_, scales.shape[1]);
  scale_file_ = scales.file;
  scale_offset_ = scales.offset;
  scale_dtype_ = scales.dtype;
  scale_row_bytes_ = scales.shape[1] * dtype_bytes(scales.dtype);
}

void SourceMatrix::open_turboquant(const Checkpoint& checkpoint, const std::string& prefix,
                                   uint64_t expert, bool config_says_rotated) {
  const TensorInfo& weight = checkpoint.at(prefix + ".weight");
  const TensorInfo& scales = checkpoint.at(prefix + ".scales");
  const TensorInfo& codebook = checkpoint.at(prefix + ".codebook");
  const TensorInfo& signs = checkpoint.at(prefix + ".signs");
  if (checkpoint.find(prefix + ".qjl_packed") != nullptr) {
    throw Error(at(checkpoint, weight), " has QJL residuals beside it, which are not supported");
  }
  const uint64_t length = codebook.shape.size() == 1 ? codebook.shape[0] : 0;
  if (!is_codebook_length(length)) {
    throw Error(at(checkpoint, codebook), " is ", shape_text(codebook.shape),
                "; expected 3 (ternary), 4, 8, 16 or 256 centroids");
  }
  const uint64_t cols = signs.shape.size() == 1 ? signs.shape[0] : 0;
  const size_t rank = weight.shape.size();
  const uint64_t groups = scales.shape.empty() ? 0 : scales.shape.back();
  if (cols == 0 || cols > std::numeric_limits<uint32_t>::max() / 2 || (rank != 2 && rank != 3) ||
      groups == 0 || cols % groups != 0 || weight.shape[rank - 2] == 0 ||
      weight.shape[rank - 2] > std::numeric_limits<uint32_t>::max() / 2 ||
      (rank == 3 && expert >= weight.shape[0])) {
    throw Error(at(checkpoint, weight), " is ", shape_text(weight.shape), ", its scales ",
                shape_text(scales.shape), " and its signs ", shape_text(signs.shape),
                "; they do not fit together");
  }
  kind_ = Kind::turboquant;
  rows_ = static_cast<uint32_t>(weight.shape[rank - 2]);
  cols_ = static_cast<uint32_t>(cols);
  group_ = static_cast<uint32_t>(cols / groups);
  row_words_ = kernels::row_words(cols_, static_cast<uint32_t>(length));
  if (group_ != 32 && group_ != 64 && group_ != 128) {
    throw Error(at(checkpoint, scales), " has one scale for ", group_,
                " inputs; 32, 64 or 128 are supported");
  }
  std::vector<uint64_t> shape = weight.shape;
  shape.back() = row_words_;
  expect(checkpoint, weight, DType::u32, shape);
  shape.back() = groups;
  expect(checkpoint, scales, DType::f16, shape);
  expect(checkpoint, codebook, DType::f16, {length});
  expect(checkpoint, signs, DType::f16, {cols});
  codebook_ = read_half_floats(checkpoint, codebook);
  std::vector<float> values = read_half_floats(checkpoint, signs);
  const auto is_sign = [](float sign) { return sign == 1.0f || sign == -1.0f; };
  if (!std::all_of(values.begin(), values.end(), is_sign)) {
    throw Error(at(checkpoint, signs), " holds values other than +1 and -1; the file is damaged");
  }
  if (length == 256 && !kernels::is_uniform(codebook_.data(), 256)) {
    throw Error(at(checkpoint, codebook),
                " has 256 centroids that are not evenly spaced, which is not supported");
  }
  if (!std::all_of(codebook_.begin(), codebook_.end(), [](float c) { return std::isfinite(c); })) {
    throw Error(at(checkpoint, codebook), " holds infinities or NaN; the file is damaged");
  }
  if (config_says_rotated || std::find(values.begin(), values.end(), -1.0f) != values.end()) {
    signs_ = std::make_shared<const std::vector<float>>(std::move(values));
    rotation_ = kernels::make_rotation(cols_);
  }
  weight_file_ = weight.file;
  weight_row_bytes_ = uint64_t{row_words_} * 4;
  weight_offset_ = weight.offset + expert * rows_ * weight_row_bytes_;
  scale_file_ = scales.file;
  scale_row_bytes_ = groups * 2;
  scale_offset_ = scales.offset + expert * rows_ * scale_row_bytes_;
}

SourceMatrix SourceMatrix::open_mxfp4(const Checkpoint& checkpoint, const std::string& prefix,
                                      uint64_t expert) {
  const TensorInfo& blocks = checkpoint.at(prefix + "_blocks");
  const TensorInfo& scales = checkpoint.at(prefix + "_scales");
  if (blocks.shape.size() != 4 || blocks.dtype != DType::u8 || blocks.shape[3] != kMxfp4Block / 2 ||
      expert >= blocks.shape[0] || blocks.size_bytes == 0 ||
      blocks.shape[1] > std::numeric_limits<uint32_t>::max() / 2 ||
      blocks.shape[2] > std::numeric_limits<uint32_t>::max() / 2 / kMxfp4Block) {
    throw Error(at(checkpoint, blocks), " is ", dtype_name(blocks.dtype), " ",
                shape_text(blocks.shape), "; expected U8 [experts, rows, cols / 32, 16]");
  }
  expect(checkpoint, scales, DType::u8, {blocks.shape[0], blocks.shape[1], blocks.shape[2]});
  SourceMatrix matrix;
  matrix.kind_ = Kind::mxfp4;
  matrix.dtype_ = DType::u8;
  matrix.name_ = blocks.name;
  matrix.rows_ = static_cast<uint32_t>(blocks.shape[1]);
  matrix.cols_ = static_cast<uint32_t>(blocks.shape[2] * kMxfp4Block);
  matrix.weight_file_ = blocks.file;
  matrix.weight_row_bytes_ = blocks.shape[2] * (kMxfp4Block / 2);
  matrix.weight_offset_ = blocks.offset + expert * matrix.rows_ * matrix.weight_row_bytes_;
  matrix.scale_file_ = scales.file;
  matrix.scale_row_bytes_ = blocks.shape[2];
  matrix.scale_offset_ = scales.offset + expert * matrix.rows_ * matrix.scale_row_bytes_;
  return matrix;
}

SourceMatrix SourceMatrix::open_plain_stack(const Checkpoint& checkpoint, const ExpertNames& names,
                                            const std::string& prefix,
                                            const ExpertNames::Projection& projection) {
  const PlainStackPlace place = find_in_plain_stack(checkpoint, names, prefix, projection);
  SourceMatrix matrix;
  matrix.dtype_ = place.tensor->dtype;
  matrix.name_ = place.tensor->name;
  matrix.rows_ = projection.rows;
  matrix.cols_ = projection.cols;
  matrix.in_columns_ = names.plain_stack == ExpertNames::PlainStack::columns;
  matrix.weight_file_ = place.tensor->file;
  matrix.weight_row_bytes_ = uint64_t{matrix.cols_} * dtype_bytes(matrix.dtype_);
  matrix.weight_slab_bytes_ = place.tensor->size_bytes / names.experts;
  matrix.weight_offset_ = place.tensor->offset + place.first_row * matrix.weight_row_bytes_;
  return matrix;
}

SourceMatrix SourceMatrix::slab(uint64_t expert) const {
  SourceMatrix other = *this;
  other.weight_offset_ +=
      expert * (weight_slab_bytes_ > 0 ? weight_slab_bytes_ : rows_ * weight_row_bytes_);
  other.scale_offset_ += expert * rows_ * scale_row_bytes_;
  return other;
}

SourceMatrix::Slices SourceMatrix::slices(uint32_t begin, uint32_t end) const {
  SLUICE_CHECK(begin < end && end <= rows_);
  Slices slices;
  if (in_columns_) {
    slices.places[0] = {weight_file_, weight_offset_, rows_ * weight_row_bytes_};
    return slices;
  }
  slices.places[0] = {weight_file_, weight_offset_ + begin * weight_row_bytes_,
                      (end - begin) * weight_row_bytes_};
  if (kind_ != Kind::plain) {
    const uint64_t first = begin / scale_rows_;
    const uint64_t last = (end - 1) / scale_rows_;
    slices.places[1] = {scale_file_, scale_offset_ + first * scale_row_bytes_,
                        (last + 1 - first) * scale_row_bytes_};
    slices.count = 2;
  }
  return slices;
}

SourceMatrix::Bytes SourceMatrix::skip_rows(const Bytes& bytes, uint32_t begin, uint32_t to) const {
  Bytes rest = bytes;
  if (in_columns_) return rest;
  rest[0] += (to - begin) * weight_row_bytes_;
  if (kind_ != Kind::plain) rest[1] += (to / scale_rows_ - begin / scale_rows_) * scale_row_bytes_;
  return rest;
}

void SourceMatrix::to_f32(const kernels::Table& table, uint32_t begin, uint32_t end,
                          const Bytes& bytes, float* out) const {
  SLUICE_CHECK(begin < end && end <= rows_);
  const size_t values = size_t{end - begin} * cols_;
  switch (kind_) {
    case Kind::plain: {
      const std::byte* rows = bytes[0];
      std::vector<std::byte> transposed;
      if (in_columns_) {
        transposed.resize((end - begin) * weight_row_bytes_);
        copy_rows(begin, end, bytes, transposed.data());
        rows = transposed.data();
      }
      table.to_f32(plain_format(dtype_), rows, values, out);
      return;
    }
    case Kind::mxfp4:
      mxfp4_to_f32(bytes[0], bytes[1], values / kMxfp4Block, out);
      return;
    case Kind::turboquant:
      decode_turboquant(table, end - begin, bytes[0], bytes[1], out);
      return;
    case Kind::fp8_blocks:
      break;
  }
  e4m3_to_f32(bytes[0], values, out);
  for (uint32_t row = begin; row < end; ++row, out += cols_) {
    const std::byte* scales =
        bytes[1] + (row / scale_rows_ - begin / scale_rows_) * scale_row_bytes_;
    for (uint32_t block = 0; block < cols_;
         block += scale_cols_, scales += dtype_bytes(scale_dtype_)) {
      float scale = 0;
      table.to_f32(plain_format(scale_dtype_), scales, 1, &scale);
      for (uint32_t col = block; col < std::min(block + scale_cols_, cols_); ++col) {
        out[col] *= scale;
      }
    }
  }
}

void SourceMatrix::copy_rows(uint32_t begin, uint32_t end, const Bytes& bytes,
                             std::byte* out) const {
  SLUICE_CHECK(kind_ == Kind::plain && begin < end && end <= rows_);
  if (!in_columns_) {
    std::memcpy(out, bytes[0], (end - begin) * weight_row_bytes_);
    return;
  }
  const auto width = static_cast<uint32_t>(dtype_bytes(dtype_));
  kernels::columns_to_rows({.rows = rows_, .cols = cols_, .width = width}, begin, end, bytes[0],
                           out);
}

void SourceMatrix::decode_turboquant(const kernels::Table& table, uint32_t rows,
                                     const std::byte* words, const std::byte* scales,
                                     float* out) const {
  const auto length = codebook_length();
  const uint32_t digits = length == 3    ? 20
                          : length == 4  ? 16
                          : length == 8  ? 10
                          : length == 16 ? 8
                                         : 4;
  for (uint32_t row = 0; row < rows; ++row, out += cols_) {
    for (uint32_t begin = 0; begin < cols_; begin += digits, words += 4) {
      uint32_t word = 0;
      std::memcpy(&word, words, sizeof(word));
      for (uint32_t i = begin; i < std::min(begin + digits, cols_); ++i, word /= length) {
        out[i] = codebook_[word % length];
      }
    }
    for (uint32_t begin = 0; begin < cols_; begin += group_, scales += 2) {
      float scale = 0;
      table.to_f32(kernels::Format::f16, scales, 1, &scale);
      for (uint32_t i = begin; i < begin + group_; ++i) out[i] *= scale;
    }
    if (signs_) kernels::unrotate(rotation_, signs_->data(), out, out);
  }
}

}  // namespace sluice
