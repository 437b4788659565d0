// Moe: the mixture-of-experts block, its experts streamed.
//
//   experts e_j and weights p_j of each token: by the router;
//   y = Σ_j p_j · W_down,e_j (silu(W_gate,e_j x) ∘ W_up,e_j x), summed in router order j = 0, 1,
//   ..., plus the shared expert's output where there is one.
//
// Families differ in what lies between (ExpertActivation), in biases, and in whether the experts
// work on x itself or on a narrower projection of it (ExpertForm::latent).
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

// Of gpt_oss: beyond it gates and ups are cut off.
inline constexpr float kSwigluLimit = 7.0f;

// How an expert turns the outputs of its first matrices into the input of down.
enum class ExpertActivation : uint8_t {
  swiglu,          // silu(gate) ∘ up; projections gate, up, down
  swiglu_clamped,  // rows of gate and up in turn (kernels.h); projections gate_up, down
  relu_squared,    // max(up, 0)²; projections up, down
};

// What a family's experts do otherwise than most.
struct ExpertForm {
  ExpertActivation activation = ExpertActivation::swiglu;
  // Where ModelConfig::expert_latent is not 0: from hidden to that and back.
  struct Latent {
    Linear in, out;
  };
  std::optional<Latent> latent = std::nullopt;
};

class Moe final : public Block {
 public:
  // source_layer: this layer's index in the expert source, whose projections are as the form says.
  Moe(Trunk& trunk, Router router, std::optional<SharedExpert> shared, const ModelConfig& config,
      const ExpertSource& source, uint32_t source_layer, ExpertForm form = {});

  void forward(const float* x, Run& run, float* y) const override;
  bool stateless() const override { return true; }
  bool has_experts() const override { return true; }
  void foresee(const float* x, uint32_t tokens, Run& run) const override;

 private:
  // Of kMaxProjections matrices of an expert, those that read the block's input come first, and the
  // last is down.
  using Matrices = std::array<kernels::Matrix, kMaxProjections>;

  // An expert whose bytes are at hand, and its pairs: `count` from first_pair on, which are rows
  // from first_row on of the gathered arrays.
  struct Ready {
    uint32_t fetch_index = 0;
    uint32_t expert = 0;
    uint32_t first_row = 0;
    uint32_t count = 0;
    Matrices matrices;
  };
  // Rows [begin, end) of one matrix of one ready expert.
  struct Block {
    uint32_t ready = 0;
    uint32_t matrix = 0;
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  // The biases of one matrix, [experts, rows] as stored; null: none.
  struct Bias {
    const std::byte* data = nullptr;
    kernels::Format format = kernels::Format::f32;
  };

  void bind(Trunk& trunk, const ModelConfig& config, const ProjectionFormat& format, uint32_t m);
  const float* experts_input(const float* x, Run& run) const;
  void report_routing(const Run& run) const;
  void group_pairs(Run& run) const;
  void prepare_inputs(const float* x, Run& run) const;
  void compute(std::span<Ready> ready, const float* x, Run& run) const;
  void multiply_blocks(std::span<const Ready> ready, uint32_t first_matrix, uint32_t end_matrix,
                       std::span<const PreparedInput> inputs, Run& run,
                       const std::array<float*, kMaxProjections>& outputs) const;
  void add_bias(const ComputeContext& context, const Block& block, const Ready& expert,
                float* out) const;
  const float* activate(uint32_t row, Run& run) const;
  void sum_experts(Run& run, float* y) const;
  std::vector<Block> blocks(std::span<const Ready> ready, uint32_t first_matrix,
                            uint32_t end_matrix, uint32_t threads) const;

  uint32_t hidden_;
  uint32_t inputs_;  // what an expert reads and writes: hidden_, or the latent size
  uint32_t width_;   // what down reads
  uint32_t experts_;
  uint32_t top_k_;
  uint32_t source_layer_;
  uint32_t model_layer_;
  Router router_;
  std::optional<SharedExpert> shared_;
  ExpertForm form_;
  uint32_t down_ = 0;  // the last matrix
  Matrices stored_;    // formats and shapes; the bytes differ per expert
  std::array<std::unique_ptr<const TurboQuantTables>, kMaxProjections> tables_;
  std::array<Bias, kMaxProjections> biases_;
  std::array<uint32_t, 2> input_of_ = {0, 1};  // whose prepared input each first matrix reads
};

}  // namespace sluice
