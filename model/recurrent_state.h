// RecurrentState: what the layers whose memory has a constant size hold of all positions so far,
// per session: linear attention (model/gated_delta.h) and state-space models (model/mamba2.h).
//
//   [layer][kernel - 1][channels]            the last inputs of the convolution, the oldest first
//   [layer][head][kernels' own order]        one matrix a head, see kernels::RecurrentStep
//
// All F32. Unlike a KvCache it cannot go back: every token overwrites it. So a call that computed
// some of its layers and then failed or was abandoned leaves it torn, and only reset() mends that;
// begin() and commit() around each call see to it that nobody computes on with a torn state.
// Owns: the arena. Threads: one for begin(), commit() and reset(); heads and channels are their
// tasks'.
#pragma once

#include <cstdint>

#include "model/arena.h"
#include "model/config.h"

namespace sluice {

struct RecurrentShape {
  uint32_t layers = 0;  // that have such a state; 0: the model has none
  uint32_t channels = 0;
  uint32_t kernel = 0;
  uint32_t heads = 0;
  uint64_t head_floats = 0;

  static RecurrentShape of(const ModelConfig& config);
};

class RecurrentState {
 public:
  // All zeros. Throws Error (out of memory).
  explicit RecurrentState(const RecurrentShape& shape);

  static uint64_t bytes(const RecurrentShape& shape);

  // layer: counted among those that have a state.
  float* history(uint32_t layer) const;  // [kernel - 1, channels]
  float* head(uint32_t layer, uint32_t head) const;

  // Around each forward call. begin() throws Error if the call before did not commit.
  void begin();
  void commit() { torn_ = false; }
  void reset();

 private:
  RecurrentShape shape_;
  Arena arena_;
  float* histories_ = nullptr;
  float* heads_ = nullptr;
  bool torn_ = false;
};

}  // namespace sluice
