// Block: what a layer adds to the residual stream; attention, an MLP, a mixture of experts.
#pragma once

#include "model/network.h"

namespace sluice {

class Block {
 public:
  virtual ~Block() = default;
  // x, y [run.tokens, hidden], not the same array. May write any activation but hidden and x, and
  // need not write y of tokens before run.first_wanted. Throws Error on a failed read of an expert.
  virtual void forward(const float* x, Run& run, float* y) const = 0;
  // Whether y of a token hangs on its x alone: nothing is kept of a token for those behind it.
  virtual bool stateless() const { return false; }
  // Whether it streams experts.
  virtual bool has_experts() const { return false; }
  // x [hidden]: of one token, about what forward() will soon get, for so many tokens. Has the
  // experts read ahead that it would choose of these (Run::look_ahead); for many tokens all, if
  // most will be chosen. Writes the activations foreseen*, router* and inputs.
  virtual void foresee(const float* /*x*/, uint32_t /*tokens*/, Run& /*run*/) const {}
};

}  // namespace sluice
