// Embeddings: the table of token vectors; F32, F16 or BF16, or in the formats of
// stream/weight_format.h.
#pragma once

#include <span>
#include <string>

#include "model/network.h"

namespace sluice {

class Embeddings {
 public:
  Embeddings() = default;
  // Declares or binds "<prefix>.weight" [vocabulary, hidden]. Throws Error: missing, of another
  // shape, quantized otherwise.
  Embeddings(Trunk& trunk, const std::string& prefix, const ModelConfig& config);

  // y [run.tokens, hidden]: the vectors of ids. Requires: ids < vocabulary.
  void look_up(std::span<const uint32_t> ids, const Run& run, float* y) const;
  // The same table as the output matrix of tied embeddings.
  Linear as_head() const { return Linear::tied(table_); }

 private:
  kernels::Matrix table_;
};

}  // namespace sluice
