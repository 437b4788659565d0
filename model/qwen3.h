// Qwen3 and Qwen3-MoE: pre-norm transformer with per-head q/k norm, rope, GQA, and SwiGLU MLPs that
// are dense or mixtures of experts. Qwen3 technical report, arXiv:2505.09388.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/attention.h"
#include "model/mlp.h"
#include "model/moe.h"
#include "model/network.h"

namespace sluice {

class Qwen3 final : public Network {
 public:
  // experts: null for a dense model.
  Qwen3(const ModelConfig& config, Trunk& trunk, const ExpertSource* experts);

  bool forward(std::span<const uint32_t> ids, Run& run) const override;
  void logits(const float* hidden, uint32_t n, Run& run, float* logits) const override;

  static std::vector<ExpertNames> expert_names(const ModelConfig& config);

 private:
  struct Layer {
    std::vector<float> input_norm;
    Attention attention;
    std::vector<float> post_norm;
    std::optional<Mlp> mlp;  // exactly one of the two
    std::optional<Moe> moe;
  };

  uint32_t hidden_;
  uint32_t head_dim_;
  float epsilon_;
  RopeConfig rope_;
  kernels::Matrix embeddings_;
  std::vector<Layer> layers_;
  std::vector<float> final_norm_;
  Linear head_;
};

}  // namespace sluice
