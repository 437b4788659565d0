// Expert records: Sluice's own form of the experts, one aligned, contiguous record per expert, so
// that one miss is one read straight into its slot.
//
// experts-0000i-of-0000n.safetensors is a legal safetensors file:
//
//   0          8                 8+N = k · 4096                                      end of file
//   │ N: u64   │ JSON + spaces   │ record 0 │ record 1 │ ... │ record E-1 │ next layer's ...   │
//                                 └─ record_bytes, a multiple of 4096 ─┘
//
// Each layer is one tensor "<prefix>.experts.records", U8 [experts, record_bytes]. A record holds
// the projections in order (gate, up, down), and of each its parts in order:
//
//   │ data │ scales │ biases │ bias │ data │ scales │ ... │ ≥ 64 bytes │    gaps and tail are zero
//   0      every part starts at a multiple of 64          record_bytes
//
// where the parts lie is the same for all experts of a layer, and written down in "__metadata__":
//
//   "sluice.records.table:<tensor>"      {"version": 1, "projections": [{...}, ...]} as below
//   "sluice.records.checksums:<tensor>"  16 hexadecimal digits per expert: XXH3 of its record
//
//   {"name": "gate_proj", "rows": 768, "cols": 2048, "format": "turboquant", "layout": "tiles",
//    "group": 64, "codebook": 8, "data": [0, 589824], "scales": [589824, 49152]}
//   {"name": "gate_proj", "rows": 768, "cols": 2048, "format": "BF16", "data": [0, 3145728]}
//   {"name": "gate_proj", "rows": 768, "cols": 2048, "format": "mxfp4", "layout": "tiles",
//    "data": [0, 786432], "scales": [786432, 49152]}
//   {"name": "gate_proj", "rows": 768, "cols": 2048, "format": "F8_E4M3", "block": [128, 128],
//    "scale_format": "F32", "data": [0, 1572864], "scales": [1572864, 384]}
//   {"name": "gate_proj", "rows": 768, "cols": 2048, "format": "affine", "bits": 4, "group": 64,
//    "scale_format": "BF16", "data": [0, 786432], "scales": [786432, 49152],
//    "biases": [835584, 49152]}
//                                                      data, scales, biases: [offset, size_bytes]
//
// A TurboQuant matrix' codebook and signs are not here: they stay small tensors of the trunk.
// The 64 bytes of the tail are what a kernel's load may touch behind a matrix, so a slot is exactly
// a record. What this file does: describe and check; record_writer.h writes. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"
#include "stream/weight_format.h"

namespace sluice {

inline constexpr uint32_t kRecordVersion = 1;
inline constexpr uint64_t kRecordAlignment = 4096;  // of records in the file, and of their size
inline constexpr uint64_t kPartAlignment = 64;      // of parts in a record: a vector, a cache line
inline constexpr uint64_t kRecordTailBytes = 64;    // behind the last part: kSlotTailBytes
// A whole table of the largest layer is under 1 kB; what is longer is not one.
inline constexpr size_t kMaxRecordTableText = 65536;
inline constexpr uint32_t kMaxRecordProjections = 3;
inline constexpr uint32_t kMaxRecordSide = 1u << 24;  // rows, cols: no size overflows

// How a matrix' bytes are ordered.
enum class MatrixLayout : uint8_t {
  rows,     // row by row; of TurboQuant as in the MLX layout, then all scales
  tiles,    // TurboQuant and MXFP4: the kernels' own order, 16 rows at once (kernels/tiles.h)
  columns,  // plain numbers alone, and never in a record: [cols, rows], input by input
};
std::string_view layout_name(MatrixLayout layout);  // "rows", "tiles", "columns"

struct RecordPart {
  uint64_t offset = 0;  // in the record
  uint64_t size_bytes = 0;
};

struct RecordProjection {
  std::string name;  // "gate_proj"
  uint32_t rows = 0;
  uint32_t cols = 0;
  WeightFormat format = WeightFormat::plain;
  DType dtype = DType::bf16;                 // of plain: f32, f16, bf16, row-major
  MatrixLayout layout = MatrixLayout::rows;  // TurboQuant, MXFP4
  ScaledForm scaled{};                       // MXFP4, F8 blocks, affine
  // TurboQuant alone:
  uint32_t group = 0;            // 32, 64 or 128; divides cols
  uint32_t codebook_length = 0;  // 3 (ternary; rows alone), 4, 8, 16 or 256

  RecordPart data{};
  RecordPart scales{};            // TurboQuant: F16 [rows, cols / group], or in tiles; MXFP4 alike
                                  // in bytes; F8 blocks, affine as stored; else size 0
  RecordPart biases{};            // affine, as scales; else size 0
  DType bias_dtype = DType::f16;  // f32, f16 or bf16
  RecordPart bias{};              // [rows]; size 0: none
};

struct RecordTable {
  std::vector<RecordProjection> projections;
  uint64_t record_bytes = 0;
};

// 3 (ternary), 4, 8, 16 or 256: what TurboQuant's codebooks may have.
bool is_codebook_length(uint64_t length);
// U32 words that hold a row of cols indices, each word holding as many whole indices as fit.
// Requires: codebook_length is 3, 4, 8, 16 or 256.
uint64_t words_per_row(uint64_t cols, uint32_t codebook_length);

// Gives every part its place and the record its size. The projections come with everything but the
// parts; with_bias: each has a bias of its bias_dtype. Requires: a form that parse_record_table()
// accepts.
RecordTable lay_out_record(std::vector<RecordProjection> projections, bool with_bias = false);

// The JSON text above, and back. where: for messages, the file and the tensor.
// Throws Error: not of the form above, an unknown version, format or key, a part that is not
// aligned, out of bounds, overlaps another, or is not of the size that its shape implies; no room
// for the tail; record_bytes not a multiple of 4096.
std::string record_table_text(const RecordTable& table);
RecordTable parse_record_table(std::string_view text, uint64_t record_bytes,
                               const std::string& where);

// One checksum per expert. Throws Error: not 16 hexadecimal digits for each.
std::string record_checksums_text(const std::vector<uint64_t>& checksums);
std::vector<uint64_t> parse_record_checksums(std::string_view text, uint64_t experts,
                                             const std::string& where);

// "__metadata__" keys of a tensor of records.
std::string record_table_key(const std::string& tensor);
std::string record_checksums_key(const std::string& tensor);
// "<prefix>.records": prefix is that of the experts, "model.layers.3.mlp.experts".
std::string record_tensor_name(const std::string& expert_prefix);

}  // namespace sluice
