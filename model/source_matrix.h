// SourceMatrix: one weight matrix of a checkpoint as rows of float32, whatever format its file has.
//
// It says which bytes of which files a range of rows needs, and turns those bytes into floats;
// reading them is the caller's, so that reads may run ahead. Formats: F32, F16, BF16, also in
// columns, of which any range of rows needs all bytes; F8_E4M3 with "weight_scale_inv"; MXFP4
// (blocks and scales); TurboQuant, whose rows are rotated back.
//
// Owns: small tables (codebook, signs). Threads: any once made.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/coalesce.h"
#include "kernels/kernels.h"
#include "stream/expert_layout.h"

namespace sluice {

class SourceMatrix {
 public:
  enum class Kind : uint8_t { plain, fp8_blocks, mxfp4, turboquant };
  // At most this many slices for a range of rows: weights, and what scales them.
  static constexpr size_t kMaxSlices = 2;

  // The matrix of prefix P in the checkpoint: P.weight (and P.codebook, P.scales, P.signs for
  // TurboQuant, P.weight_scale_inv for FP8), [rows, cols], or slab `expert` of stacked
  // [experts, rows, cols]. Small tables are read now. Throws Error naming the tensor: missing, of
  // an unexpected type or shape, damaged tables.
  // config_says_rotated: as for Linear: TurboQuant with all signs +1 is rotated only if so.
  static SourceMatrix open(const Checkpoint& checkpoint, const std::string& prefix, uint64_t expert,
                           bool config_says_rotated);
  // MXFP4 as published: P_blocks U8 [experts, rows, cols/32, 16], P_scales U8 [experts, rows,
  // cols/32].
  static SourceMatrix open_mxfp4(const Checkpoint& checkpoint, const std::string& prefix,
                                 uint64_t expert);

  // A projection of expert 0 in a stack of plain numbers (stream/plain_stack.h). Throws Error as
  // find_in_plain_stack().
  static SourceMatrix open_plain_stack(const Checkpoint& checkpoint, const ExpertNames& names,
                                       const std::string& prefix,
                                       const ExpertNames::Projection& projection);

  // The same of another expert of the same stack. Requires: this is slab 0 of one that holds it.
  SourceMatrix slab(uint64_t expert) const;

  Kind kind() const { return kind_; }
  DType dtype() const { return dtype_; }             // of the weights as stored
  const std::string& name() const { return name_; }  // of the weight tensor
  uint32_t rows() const { return rows_; }
  uint32_t cols() const { return cols_; }
  uint64_t row_bytes() const { return weight_row_bytes_ + scale_row_bytes_; }  // as stored, about
  bool in_columns() const { return in_columns_; }
  // TurboQuant: length of the codebook and inputs per scale, else 0.
  uint32_t codebook_length() const { return static_cast<uint32_t>(codebook_.size()); }
  uint32_t group() const { return group_; }
  const std::vector<float>& codebook() const { return codebook_; }
  // ±1 [cols]; null: not rotated.
  const std::vector<float>* signs() const { return signs_.get(); }

  // The weights and the scales of rows [begin, end). Requires: begin < end ≤ rows().
  struct Slices {
    FileSlice places[kMaxSlices];
    uint32_t count = 1;
  };
  Slices slices(uint32_t begin, uint32_t end) const;
  using Bytes = std::array<const std::byte*, kMaxSlices>;
  // Rows [begin, end). bytes: what slices(begin, ...) named, one pointer each. out: [end - begin,
  // cols].
  void to_f32(const kernels::Table& table, uint32_t begin, uint32_t end, const Bytes& bytes,
              float* out) const;
  // The same rows as they are stored, [end - begin, cols]. Requires: kind() is plain.
  void copy_rows(uint32_t begin, uint32_t end, const Bytes& bytes, std::byte* out) const;
  // The same bytes without those of the rows from begin to `to`, which a later range does not need.
  Bytes skip_rows(const Bytes& bytes, uint32_t begin, uint32_t to) const;

 private:
  void open_turboquant(const Checkpoint& checkpoint, const std::string& prefix, uint64_t expert,
                       bool config_says_rotated);
  void open_fp8(const Checkpoint& checkpoint, const std::string& prefix);
  void decode_turboquant(const kernels::Table& table, uint32_t rows, const std::byte* words,
                         const std::byte* scales, float* out) const;

  Kind kind_ = Kind::plain;
  DType dtype_ = DType::bf16;
  std::string name_;
  uint32_t rows_ = 0;
  uint32_t cols_ = 0;
  uint32_t weight_file_ = 0;
  uint64_t weight_offset_ = 0;
  uint64_t weight_row_bytes_ = 0;
  uint64_t weight_slab_bytes_ = 0;  // from one expert's weights to the next, where not its rows
  bool in_columns_ = false;
  uint32_t scale_file_ = 0;
  uint64_t scale_offset_ = 0;
  uint64_t scale_row_bytes_ = 0;
  uint32_t scale_rows_ = 1;         // weight rows that a row of scales covers (FP8 blocks)
  uint32_t scale_cols_ = 1;         // FP8: columns of a block
  DType scale_dtype_ = DType::f32;  // FP8
  uint32_t group_ = 0;
  uint32_t row_words_ = 0;
  std::vector<float> codebook_;
  std::shared_ptr<const std::vector<float>> signs_;  // null: not rotated
  kernels::Rotation rotation_;
};

}  // namespace sluice
