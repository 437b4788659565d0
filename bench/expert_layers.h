// ExpertLayers: the experts of a model directory and the arithmetic of decoding with them, without
// routers, attention and the rest.
//
// The mat-vecs are those of model/moe.cpp for one token: inputs prepared once a layer, residents
// and whatever has landed in one parallel region for gate and up, one for what lies between and one
// for down, the rows summed in the order of the ranks. The rest of a layer may be stood in for by a
// dense matrix of bf16.
//
// Owns: the opened files, codebooks, scratch, the stand-ins. Threads: one, which starts its
// workers.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache/slab.h"
#include "io/direct_file.h"
#include "model/arena.h"
#include "model/config.h"
#include "model/linear.h"
#include "model/trunk.h"
#include "stream/expert_stream.h"

namespace sluice::bench {

class ExpertLayers {
 public:
  struct Options {
    uint32_t threads = 1;
    uint64_t trunk_bytes = 0;  // of each layer's stand-in
  };
  // Throws Error: not a model directory, no experts, experts that are not gate, up and down.
  ExpertLayers(const std::filesystem::path& directory, const Options& options);

  const ExpertSource& source() const { return *source_; }
  std::span<const DirectFile* const> files() const { return file_list_; }  // by file index
  const DirectFile& largest_file() const;
  uint32_t experts_per_token() const { return config_.experts_per_token; }
  uint32_t threads() const { return workers_.threads(); }
  uint64_t trunk_bytes() const;  // of each layer's stand-in, as whole rows
  const char* isa() const { return context_.kernels->name; }

  // The dense part of a layer. The stream is polled between the tasks of this and of what follows.
  void multiply_trunk(uint32_t layer, ExpertStream& stream);
  // The experts of the fetch, one token's, to their sum.
  void multiply_experts(uint32_t layer, std::span<const uint32_t> experts,
                        ExpertStream::Fetch& fetch, ExpertStream& stream);
  // All experts of the fetch in the order they come, each with one vector so many times.
  void sweep(uint32_t layer, uint32_t products, ExpertStream::Fetch& fetch, ExpertStream& stream);
  // Of all sums since it was last asked for; the same for the same experts in the same order.
  uint64_t take_checksum();

 private:
  static constexpr uint32_t kMatrices = 3;  // gate, up, down
  static constexpr uint32_t kDown = 2;
  struct Layer {
    std::array<kernels::Matrix, kMatrices> matrices;  // without bytes
    std::array<std::unique_ptr<const TurboQuantTables>, kMatrices> tables;
    std::array<uint32_t, 2> input_of = {0, 0};  // whose prepared input gate and up read
  };
  struct Ready {
    uint32_t rank = 0;
    ExpertView view;
  };
  struct Block {
    uint32_t ready = 0, matrix = 0, begin = 0, end = 0;
  };

  void bind();
  void lay_out();
  void make_trunk(uint64_t bytes);
  void prepare_inputs(const Layer& layer);
  void multiply_ready(const Layer& layer);
  void activate(const Layer& layer, std::span<const Ready> ready);
  void multiply_blocks(const Layer& layer, std::span<const Ready> ready, uint32_t first_matrix,
                       uint32_t end_matrix, std::span<const PreparedInput> inputs);
  PreparedInput input_of(const Layer& layer, uint32_t matrix) const;

  ModelConfig config_;
  Checkpoint checkpoint_;
  std::vector<DirectFile> files_;
  std::vector<const DirectFile*> file_list_;
  std::optional<ExpertSource> source_;
  Trunk trunk_;  // codebooks and signs
  std::vector<Layer> layers_;
  Workers workers_;
  ComputeContext context_;

  Arena arena_;
  InputScratch inputs_;       // [1]: of gate and up
  InputScratch down_inputs_;  // [experts_per_token]
  float* x_ = nullptr;        // [hidden]: every layer's input
  // Outputs of gate, up and down, [experts_per_token, their rows].
  std::array<float*, kMatrices> outputs_{};
  float* sum_ = nullptr;        // [hidden]
  float* trunk_out_ = nullptr;  // [trunk_matrix_.rows]
  std::vector<Block> blocks_;
  std::vector<Ready> ready_;
  uint64_t checksum_ = 0;

  std::unique_ptr<Slab> trunk_slab_;  // the stand-ins, one behind the other
  kernels::Matrix trunk_matrix_;      // without bytes
};

// Throws Error: the machine has not so much memory for caches.
void require_cache_memory(uint64_t bytes);

}  // namespace sluice::bench
