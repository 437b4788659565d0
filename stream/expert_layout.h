// ExpertLayout: which tensors hold the experts of one layer, checked against what config.json
// promises.
//
// These layouts are known:
//   * per-expert tensors:  <prefix>.<E>.<projection>.weight  [rows, cols] of F32, F16, BF16, and
//     the formats of stream/weight_format.h
//   * stacks of plain numbers, which stream/plain_stack.h describes
//   * stacked TurboQuant (MLX layout), an expert being an axis-0 slab of the first two:
//       <prefix>.<projection>.weight    U32 [experts, rows, row_words]  codebook indices
//       <prefix>.<projection>.scales    F16 [experts, rows, cols / group]
//       <prefix>.<projection>.codebook  F16 [3 | 4 | 8 | 16]   small, part of the resident trunk
//       <prefix>.<projection>.signs     F16 [cols]             likewise
//   * stacked in the formats of stream/weight_format.h, and plain ones named <projection>.weight
//   * Sluice's expert records (stream/record_format.h), codebook and signs being as above:
//       <prefix>.records                U8 [experts, record_bytes]
// Beside any of them may lie biases, [experts, rows] for each projection, part of the trunk.
// A layer that should have experts and whose names match nothing is an Error, and so is a tensor
// among the experts that nobody would read: experts are never silently resident, nor half
// understood. Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint.h"
#include "io/coalesce.h"
#include "stream/record_format.h"
#include "stream/weight_format.h"

namespace sluice {

inline constexpr uint32_t kMaxProjections = 3;

// What a family calls the experts of one layer, and the shapes its config promises.
struct ExpertNames {
  // How stacks of plain numbers lie, if the family's checkpoints may have them: each of an expert's
  // matrices row by row, or input by input.
  enum class PlainStack : uint8_t { none, rows, columns };

  uint32_t layer = 0;
  uint32_t experts = 0;
  std::string per_expert_prefix;              // "model.layers.3.mlp.experts"
  std::vector<std::string> stacked_prefixes;  // "model.layers.3.mlp.switch_mlp", ...
  // "model.layers.3.mlp.gate": what lies under it has a row per expert, and moves with them; so
  // does the router's correction, by its whole name, where there is one.
  std::string router = {};
  std::string router_correction = {};
  struct Projection {
    std::string name;  // "gate_proj"
    uint32_t rows = 0;
    uint32_t cols = 0;
    std::string per_expert_name = name;  // where the two layouts differ: "w1"
  };
  // Gate, up, down; or of experts without a gate up, down; or of those whose gate and up are one
  // matrix that, down. Down is the last, and there are at most kMaxProjections.
  std::vector<Projection> projections;
  PlainStack plain_stack = PlainStack::none;
  // With PlainStack::rows: what a tensor of gate and up together is called, "gate_up_proj".
  std::string gate_and_up = {};
  // "<prefix>.<projection><bias_suffix>" is the bias of a projection of all experts; empty: none.
  std::string bias_suffix = {};
};

// One projection's stored form, the same for all experts of a layer.
struct ProjectionFormat {
  WeightFormat format = WeightFormat::plain;
  DType dtype = DType::bf16;  // as stored; f32, f16 or bf16: plain
  uint32_t rows = 0;
  uint32_t cols = 0;
  MatrixLayout layout = MatrixLayout::rows;
  std::string bias;  // a tensor of the trunk, plain [experts, rows]; empty: none
  // TurboQuant alone:
  uint32_t codebook_length = 0;
  uint32_t group = 0;      // inputs per scale
  uint32_t row_words = 0;  // U32 words per row, when in rows
  std::string prefix;      // "<prefix>.codebook" and ".signs" complete it
  ScaledForm scaled{};     // MXFP4, F8 blocks and affine
};

struct ExpertLayout {
  // One slice for each expert, all of the same size.
  struct Slices {
    uint64_t size_bytes = 0;
    uint64_t stride_bytes = 0;      // from one expert's to the next, where places has one entry
    std::vector<FileSlice> places;  // [experts], or the first expert's alone
    FileSlice of(uint32_t expert) const;
  };
  struct Projection {
    Slices data;
    Slices scales;  // of plain formats size_bytes 0
    Slices biases;  // affine; else size_bytes 0
    // Those that there are, data first.
    static constexpr uint32_t kParts = 3;
    std::array<const Slices*, kParts> parts() const { return {&data, &scales, &biases}; }
  };
  uint32_t model_layer = 0;
  uint32_t experts = 0;
  std::vector<ProjectionFormat> formats;  // [projections]
  std::vector<Projection> projections;    // [projections]: where they lie
};

// The names of a checkpoint in alphabetical order, to list what lies under a prefix.
class TensorNames {
 public:
  // Borrows checkpoint.
  explicit TensorNames(const Checkpoint& checkpoint);
  // Names that start with prefix.
  std::vector<std::string_view> under(std::string_view prefix) const;

 private:
  std::vector<std::string_view> names_;
};

// Throws Error: experts missing, of another type or shape than promised, in several layouts at
// once, in a format that is not supported, or with tensors beside them that are not understood.
ExpertLayout find_experts(const Checkpoint& checkpoint, const TensorNames& tensor_names,
                          const ExpertNames& names);

}  // namespace sluice
