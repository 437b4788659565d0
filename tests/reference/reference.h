// The forward pass of Qwen3 and Qwen3-MoE in double precision, written from the published
// definition: one plain pass over all positions, no cache, no blocking, no threads, nothing of
// Sluice's kernels.
//
// It is what Sluice's float32 path is compared with, and is itself compared with logits of the
// original implementation (tests/data/goldens). Weights are read from disk when they are needed and
// dropped after, so memory stays near one layer's. Throws Error on a checkpoint that is neither.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "tests/reference/tensors.h"

namespace sluice::reference {

// One expert's part in one token: the router's choice, largest weight first.
struct Choice {
  uint32_t expert = 0;
  double weight = 0;
};

struct Output {
  Matrix logits;  // [tokens, vocabulary]
  // layers + 1 of [tokens, hidden]: the embeddings, then each layer's output; the last layer's is
  // given after the final norm.
  std::vector<Matrix> hidden_states;
  // [layers][tokens][experts per token]; empty for a dense layer.
  std::vector<std::vector<std::vector<Choice>>> choices;
};

// Runs the model of a directory on token ids at positions 0, 1, 2, ... Requires: ids is not empty.
Output run(const std::filesystem::path& model_directory, const std::vector<uint32_t>& ids);

}  // namespace sluice::reference
