// Decoder: the network that all families make, each of its own blocks.
//
//   h = embedding of each token;
//   for every layer, for every block of it:  h += block(RMS norm(h));
//   h = RMS norm(h);   logits = W_head h
//
// Most layers are an attention block and a feed-forward block; nothing here knows which.
#pragma once

#include <memory>
#include <vector>

#include "model/block.h"
#include "model/embeddings.h"
#include "model/network.h"

namespace sluice {

struct ResidualBlock {
  std::vector<float> norm;  // [hidden]
  std::unique_ptr<const Block> block;
};

// What a family fills in.
struct DecoderParts {
  uint32_t hidden = 0;
  float epsilon = 0;  // of all norms here
  RopeConfig rope;    // turned before the layers, for all of them
  Embeddings embeddings;
  std::vector<std::vector<ResidualBlock>> layers;
  std::vector<float> final_norm;  // [hidden]
  Linear head;                    // [vocabulary, hidden]
};

class Decoder final : public Network {
 public:
  explicit Decoder(DecoderParts parts);

  bool forward(std::span<const uint32_t> ids, const Run& given) const override;
  void logits(const float* hidden, uint32_t n, Run& run, float* logits) const override;

 private:
  struct Next {
    const ResidualBlock* residual = nullptr;
    bool behind_state = false;  // of the last block that keeps something of a token
  };
  // wanted: as run.first_wanted was when the call began, of the tokens at `hidden`.
  void foresee(const Next& next, uint32_t wanted, const float* hidden, Run& run) const;
  // hidden [run.tokens, parts_.hidden] += block(RMS norm(hidden)).
  void add_block(const ResidualBlock& residual, float* hidden, Run& run) const;

  DecoderParts parts_;
  uint32_t last_with_state_ = 0;  // of all blocks, in the order of computation
  // For every block in that order: the next one behind it that streams experts, if one does.
  std::vector<Next> next_experts_;
};

}  // namespace sluice
