// What the bench of the kernels multiplies: sets of matrices of every format, as they lie in the
// slots of experts, and vectors of inputs for them.
//
// The bytes are pseudo-random, the scales ordinary numbers: kernels take as long for any values,
// but for infinities and denormals, which trained weights do not have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache/slab.h"
#include "kernels/kernels.h"

namespace sluice::bench {

struct StoredFormat {
  std::string name;
  kernels::Matrix form;  // all but the size and the addresses; its codebook is in static storage
};

// Every format and layout that experts are stored in; group: inputs that share a scale, of
// TurboQuant and affine integers (32, 64 or 128). MXFP4 has 32, F8 blocks of 128 x 128.
std::vector<StoredFormat> stored_formats(uint32_t group);

struct Shape {
  uint32_t rows = 0;
  uint32_t cols = 0;  // a multiple of the format's group
};

// Equal matrices one behind the other: of each the data, then its scales, then its biases, all at
// multiples of 64 bytes. Threads: any, once made.
class WeightSet {
 public:
  // As many matrices as the memory holds, which is borrowed and written to. Throws Error: not one.
  WeightSet(const StoredFormat& format, Shape shape, std::span<std::byte> memory);

  Shape shape() const { return {form_.rows, form_.cols}; }
  const kernels::Matrix& form() const { return form_; }
  uint64_t count() const { return count_; }
  uint64_t stored_bytes() const { return stored_bytes_; }  // of one matrix, without padding
  uint64_t weights() const { return uint64_t{form_.rows} * form_.cols; }  // of one matrix
  kernels::Matrix matrix(uint64_t index) const;
  // Of matrices [first, first + count), padding between them included.
  std::span<const std::byte> bytes(uint64_t first, uint64_t count) const;

  // Bytes of one matrix of this format, padding included.
  static uint64_t bytes_of(const StoredFormat& format, Shape shape);

 private:
  kernels::Matrix form_;
  std::byte* memory_;
  uint64_t data_bytes_, scale_bytes_, stride_, stored_bytes_, count_;
};

// Gaussian vectors, as that table takes them for matrices of this form.
class Inputs {
 public:
  Inputs(const kernels::Table& table, const kernels::Matrix& form, uint32_t vectors);
  // y [vectors, w.rows] = the task's rows of w times the first of the vectors.
  void multiply(const kernels::Matrix& w, kernels::MatmulTask task, float* y) const;

 private:
  const kernels::Table& table_;
  uint32_t cols_, value_stride_;
  std::vector<float> x_;  // [vectors, cols]
  Slab values_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
  kernels::QuantizedVectors quantized_;
};

}  // namespace sluice::bench
