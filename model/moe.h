// Moe: the mixture-of-experts block, its experts streamed.
//
//   experts e_j and weights p_j of each token: by the router;
//   y = Σ_j p_j · W_down,e_j (silu(W_gate,e_j x) ∘ W_up,e_j x), summed in router order j = 0, 1,
//   ..., plus the shared expert's output where there is one.
//
// Resident experts, and before them the shared one,
// are computed while the missing ones are read; every (token, expert) pair writes its own row, so
// the order of arrival never shows in the sum.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/block.h"
#include "model/router.h"
#include "model/shared_expert.h"

namespace sluice {

class Moe final : public Block {
 public:
  // source_layer: this layer's index in the expert source.
  Moe(Trunk& trunk, Router router, std::optional<SharedExpert> shared, const ModelConfig& config,
      const ExpertSource& source, uint32_t source_layer);

  void forward(const float* x, Run& run, float* y) const override;

 private:
  static constexpr uint32_t kGate = 0, kUp = 1, kDown = 2;

  // An expert whose bytes are at hand, and its pairs: rows [first_row, first_row + count) of the
  // gathered arrays.
  struct Ready {
    uint32_t fetch_index = 0;
    uint32_t expert = 0;
    uint32_t first_row = 0;
    uint32_t count = 0;
    std::array<kernels::Matrix, 3> matrices;
  };
  // Rows [begin, end) of one matrix of one ready expert.
  struct Block {
    uint32_t ready = 0;
    uint32_t matrix = 0;
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  void report_routing(const Run& run) const;
  void group_pairs(Run& run) const;
  void prepare_inputs(const float* x, Run& run) const;
  void compute(std::span<Ready> ready, const float* x, Run& run) const;
  void sum_experts(Run& run, float* y) const;
  std::vector<Block> blocks(std::span<const Ready> ready, std::span<const uint32_t> matrices,
                            uint32_t threads) const;

  uint32_t hidden_;
  uint32_t width_;
  uint32_t experts_;
  uint32_t top_k_;
  uint32_t source_layer_;
  uint32_t model_layer_;
  Router router_;
  std::optional<SharedExpert> shared_;
  std::array<kernels::Matrix, 3> stored_;  // formats and shapes; the bytes differ per expert
  std::array<std::unique_ptr<const TurboQuantTables>, 3> tables_;
  std::array<uint32_t, 2> input_of_ = {kGate, kUp};  // whose prepared input gate and up read
};

}  // namespace sluice
