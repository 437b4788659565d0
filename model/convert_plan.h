// ConvertPlan: what becomes of every tensor of a checkpoint, decided from names, shapes and config
// alone; and in which file of the new directory it will lie.
//
//   the matrices of linear layers ("..._proj", experts, lm_head,
//   in_proj_qkv, _z, _qkvz of linear attention)                    -> TurboQuant, bits as set
//   routers, gates, norms, embeddings, biases, anything else       -> copied byte for byte
//   16 bits, or a TurboQuant matrix of the wanted bits and group   -> moved as stored
//
// Which bits: attn_bits in self_attn, attention and linear_attn, by default more than bits, since
// there they matter most and weigh least (docs/quality.md); expert_bits for routed experts,
// expert_down_bits for their down projections; bits for the rest, lm_head included unless
// keep_head. Matrices that are applied to one input share one vector of signs, seeded by a path
// that they have in common, so that the runtime rotates and quantizes such an input once.
//
// Experts become records (stream/record_format.h), or stacks in the MLX layout. Everything is laid
// out in the order in which the source has it, which the converter then reads in one pass.
// Borrows: the checkpoint. Threads: any once made.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "model/config.h"
#include "model/source_matrix.h"
#include "stream/record_format.h"

namespace sluice {

enum class ConvertLayout : uint8_t { records, mlx };

inline constexpr uint32_t kStoredBits = 16;  // "as stored"

struct ConvertSettings {
  uint32_t bits = 3;                         // 2, 3, 4, 8, or kStoredBits; so are the others
  std::optional<uint32_t> attn_bits;         // absent: attention_bits()
  std::optional<uint32_t> expert_bits;       // absent: bits
  std::optional<uint32_t> expert_down_bits;  // absent: expert_bits
  uint32_t group = 64;                       // 32, 64 or 128
  ConvertLayout layout = ConvertLayout::records;
  bool keep_head = false;
  uint64_t shard_bytes = 1'000'000'000;  // files are cut here; a larger item has its own

  // attn_bits, or 4 beside 2 and 3 bits, 8 beside 4, bits beside the rest. What is TurboQuant in
  // the source gets no more than bits by default: it would bring nothing.
  uint32_t attention_bits() const;
  // "bits 3, attn 4, ...": everything that decides the output, the same for the same settings.
  std::string text() const;
};

// One matrix of the network, or the same matrix of all experts of a layer.
struct PlannedMatrix {
  std::string path;                   // P of what is written
  std::optional<uint32_t> layer;      // of the model
  std::vector<SourceMatrix> sources;  // one, or the experts in order
  bool stacked = false;               // over experts
  bool quantized = false;             // else moved as stored (plain rows, or indices of TurboQuant)
  uint32_t rows = 0;
  uint32_t cols = 0;
  uint32_t group = 0;            // of what is written, if that is TurboQuant; else 0
  uint32_t codebook_length = 0;  // likewise
  uint64_t sign_seed = 0;        // of what is quantized
};

// The routed experts of one layer as records.
struct PlannedRecords {
  uint32_t layer = 0;
  uint32_t experts = 0;
  std::vector<PlannedMatrix> projections;
  RecordTable table;
};

// What fills one or more neighbouring tensors of a shard.
struct PlannedItem {
  enum class Kind : uint8_t {
    copy,     // one tensor, byte for byte: index into copies
    matrix,   // weight, scales, codebook, signs: index into matrices
    tables,   // codebook, signs of a projection of records: index into records
    records,  // one tensor of records: index into records
  };
  Kind kind = Kind::copy;
  uint32_t index = 0;
  uint32_t projection = 0;    // tables
  uint32_t first_tensor = 0;  // in the shard
};

struct PlannedShard {
  std::string name;  // "model-00001-of-00002.safetensors", "experts-00001-of-00048.safetensors"
  bool records = false;
  std::vector<PlannedItem> items;
  std::vector<TensorInfo> tensors;  // names, types and shapes; offsets come when it is written
  uint64_t bytes = 0;               // of the tensors
};

struct ConvertPlan {
  std::vector<const TensorInfo*> copies;
  std::vector<PlannedMatrix> matrices;
  std::vector<PlannedRecords> records;
  std::vector<PlannedShard> shards;
  uint64_t output_bytes = 0;
};

// config: of the checkpoint. Throws Error naming the tensor: a layout of experts that is not known,
// an expert missing, shapes that differ from the config's, a width that groups do not divide,
// settings that no reader would accept together.
ConvertPlan plan_conversion(const Checkpoint& checkpoint, const ModelConfig& config,
                            const ConvertSettings& settings);

// The codebook's length for 2, 3, 4 or 8 bits.
uint32_t codebook_length(uint32_t bits);

}  // namespace sluice
