// Tensors: the tensors of a checkpoint as doubles, dequantized and un-rotated.
//
// io says where a tensor lies; the bytes are read with a plain ifstream and decoded here from the
// formats' definitions. Slow and simple on purpose. Owns: the index, no tensor. Threads: any.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "tests/reference/hadamard.h"

namespace sluice::reference {

// `count` values of a tensor of F32, F16, BF16 or I64, the first being `first` of its flat order.
// Throws Error: another dtype, a range past the tensor, a file that cannot be read.
std::vector<double> read_values(const std::string& file, const TensorInfo& tensor, uint64_t first,
                                uint64_t count);

// All values of a tensor of one safetensors file, by name. Throws Error.
std::vector<double> read_all_values(const std::string& file, const std::string& name);

class Tensors {
 public:
  // rotation_none: config.json says "rotation": "none", so that matrices whose signs are all +1
  // were never rotated. Throws Error as Checkpoint::open does.
  explicit Tensors(const std::filesystem::path& directory, bool rotation_none = false);

  bool contains(const std::string& name) const { return checkpoint_.find(name) != nullptr; }
  Vector vector(const std::string& name) const;
  // The matrix of a linear layer by its path P: P.weight [rows, cols] in a float dtype, or the
  // TurboQuant tensors P.{weight,scales,codebook,signs}, decoded and un-rotated. Throws Error.
  Matrix matrix(const std::string& path) const;
  // Slab `expert` of matrices stacked over experts, [experts, rows, cols].
  Matrix expert_matrix(const std::string& path, uint64_t expert) const;

 private:
  std::vector<double> values(const TensorInfo& tensor, uint64_t first, uint64_t count) const;
  std::vector<uint32_t> words(const TensorInfo& tensor, uint64_t first, uint64_t count) const;
  Matrix slab(const std::string& path, uint64_t index) const;
  Matrix turboquant_slab(const std::string& path, uint64_t index) const;

  Checkpoint checkpoint_;
  bool rotation_none_;
};

}  // namespace sluice::reference
