#include "tests/reference/tensors.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>

#include "io/error.h"
#include "io/safetensors.h"

namespace sluice::reference {
namespace {

std::vector<char> read_bytes(const std::string& file, const TensorInfo& tensor, uint64_t begin,
                             uint64_t size) {
  if (begin > tensor.size_bytes || size > tensor.size_bytes - begin) {
    throw Error(file, ": tensor ", tensor.name, " has ", tensor.size_bytes, " bytes, wanted ", size,
                " from ", begin);
  }
  std::ifstream stream(file, std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(tensor.offset + begin));
  std::vector<char> bytes(size);
  stream.read(bytes.data(), static_cast<std::streamsize>(size));
  if (!stream) throw Error(file, ": tensor ", tensor.name, " cannot be read");
  return bytes;
}

template <class T>
T load(const std::vector<char>& bytes, uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// IEEE 754 binary16, case by case: 1 sign, 5 exponent (bias 15) and 10 fraction bits.
double half_value(uint16_t bits) {
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  if (exponent == 31) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

double element(DType dtype, const std::vector<char>& bytes, uint64_t index) {
  switch (dtype) {
    case DType::f32:
      return static_cast<double>(load<float>(bytes, index));
    case DType::f16:
      return half_value(load<uint16_t>(bytes, index));
    case DType::bf16:  // the upper half of a float's bits
      return static_cast<double>(
          std::bit_cast<float>(static_cast<uint32_t>(load<uint16_t>(bytes, index)) << 16));
    case DType::i64:
      return static_cast<double>(load<int64_t>(bytes, index));
    default:
      throw Error("the reference reads F32, F16, BF16 and I64 values, not ", dtype_name(dtype));
  }
}

// A word holds digits in base `length` (the codebook's), the first in the lowest place: 3 bits are
// base 8, 2 bits base 4, and so on; that the top of the word may be unused does not show here.
uint32_t digits_per_word(uint64_t length) {
  return length == 3 ? 20 : 32 / static_cast<uint32_t>(std::bit_width(length - 1));
}

}  // namespace

std::vector<double> read_values(const std::string& file, const TensorInfo& tensor, uint64_t first,
                                uint64_t count) {
  const uint64_t size = dtype_bytes(tensor.dtype);
  const std::vector<char> bytes = read_bytes(file, tensor, first * size, count * size);
  std::vector<double> result(count);
  for (uint64_t i = 0; i < count; ++i) result[i] = element(tensor.dtype, bytes, i);
  return result;
}

std::vector<double> read_all_values(const std::string& file, const std::string& name) {
  for (const TensorInfo& tensor : read_safetensors_header(file).tensors) {
    if (tensor.name != name) continue;
    return read_values(file, tensor, 0, tensor.size_bytes / dtype_bytes(tensor.dtype));
  }
  throw Error(file, ": no tensor ", name);
}

Tensors::Tensors(const std::filesystem::path& directory, bool rotation_none)
    : checkpoint_(Checkpoint::open(directory)), rotation_none_(rotation_none) {}

std::vector<double> Tensors::values(const TensorInfo& tensor, uint64_t first,
                                    uint64_t count) const {
  return read_values(checkpoint_.files().at(tensor.file), tensor, first, count);
}

std::vector<uint32_t> Tensors::words(const TensorInfo& tensor, uint64_t first,
                                     uint64_t count) const {
  const std::vector<char> bytes =
      read_bytes(checkpoint_.files().at(tensor.file), tensor, first * 4, count * 4);
  std::vector<uint32_t> result(count);
  for (uint64_t i = 0; i < count; ++i) result[i] = load<uint32_t>(bytes, i);
  return result;
}

Vector Tensors::vector(const std::string& name) const {
  const TensorInfo& tensor = checkpoint_.at(name);
  const std::vector<double> all = values(tensor, 0, tensor.size_bytes / dtype_bytes(tensor.dtype));
  return Eigen::Map<const Vector>(all.data(), static_cast<Eigen::Index>(all.size()));
}

Matrix Tensors::matrix(const std::string& path) const { return slab(path, 0); }

Matrix Tensors::expert_matrix(const std::string& path, uint64_t expert) const {
  return slab(path, expert);
}

// The last two dimensions are the matrix, whatever stands before them.
Matrix Tensors::slab(const std::string& path, uint64_t index) const {
  if (contains(path + ".codebook")) return turboquant_slab(path, index);
  const TensorInfo& tensor = checkpoint_.at(path + ".weight");
  if (tensor.shape.size() < 2) throw Error("tensor ", tensor.name, " is no matrix");
  const uint64_t rows = tensor.shape.end()[-2];
  const uint64_t cols = tensor.shape.end()[-1];
  const std::vector<double> all = values(tensor, index * rows * cols, rows * cols);
  return Eigen::Map<const Matrix>(all.data(), static_cast<Eigen::Index>(rows),
                                  static_cast<Eigen::Index>(cols));
}

Matrix Tensors::turboquant_slab(const std::string& path, uint64_t index) const {
  const TensorInfo& weight = checkpoint_.at(path + ".weight");
  const TensorInfo& scale = checkpoint_.at(path + ".scales");
  const Vector codebook = vector(path + ".codebook");
  const Vector signs = vector(path + ".signs");
  if (weight.dtype != DType::u32 || weight.shape.size() < 2 || scale.shape.size() < 2) {
    throw Error("tensor ", weight.name, " is no U32 matrix with scales");
  }
  const uint64_t rows = weight.shape.end()[-2];
  const uint64_t row_words = weight.shape.end()[-1];
  const uint64_t groups = scale.shape.end()[-1];
  const auto cols = static_cast<uint64_t>(signs.size());
  const auto length = static_cast<uint32_t>(codebook.size());
  const std::vector<uint32_t> packed = words(weight, index * rows * row_words, rows * row_words);
  const std::vector<double> scales = values(scale, index * rows * groups, rows * groups);

  const uint32_t per_word = digits_per_word(length);
  Matrix rotated(rows, cols);
  for (uint64_t row = 0; row < rows; ++row) {
    for (uint64_t col = 0; col < cols; ++col) {
      uint32_t rest = packed.at(row * row_words + col / per_word);
      for (uint64_t skip = col % per_word; skip > 0; --skip) rest /= length;
      rotated(static_cast<Eigen::Index>(row), static_cast<Eigen::Index>(col)) =
          codebook(rest % length) * scales.at(row * groups + col / (cols / groups));
    }
  }
  // A single −1 says that the matrix was rotated, whatever the config says.
  return rotation_none_ && signs.minCoeff() > 0 ? rotated : unrotated(rotated, signs);
}

}  // namespace sluice::reference
