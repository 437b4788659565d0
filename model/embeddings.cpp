#include "model/embeddings.h"

#include <array>
#include <optional>

#include "io/error.h"
#include "kernels/decode.h"

namespace sluice {

Embeddings::Embeddings(Trunk& trunk, const std::string& prefix, const ModelConfig& config) {
  const Checkpoint& checkpoint = trunk.checkpoint();
  if (const std::optional<kernels::Matrix> scaled =
          find_scaled_matrix(trunk, prefix, config.vocabulary, config.hidden)) {
    table_ = *scaled;
    return;
  }
  for (const char* quantized : {".codebook", ".scales", ".weight_scale"}) {
    if (const TensorInfo* info = checkpoint.find(prefix + quantized)) {
      throw Error(checkpoint.files()[info->file], ": tensor ", info->name,
                  ": embeddings quantized like this are not supported; convert the model with "
                  "its embeddings as F32, F16 or BF16");
    }
  }
  const std::array<uint64_t, 2> shape = {config.vocabulary, config.hidden};
  const std::string name = prefix + ".weight";
  table_.rows = config.vocabulary;
  table_.cols = config.hidden;
  table_.data = trunk.tensor(name, kPlainDTypes, shape);
  table_.format = plain_format(checkpoint.at(name).dtype);
}

void Embeddings::look_up(std::span<const uint32_t> ids, const Run& run, float* y) const {
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    float* row = y + uint64_t{t} * table_.cols;
    if (table_.scales != nullptr) return kernels::decode_row(table_, ids[t], row);
    const uint64_t width = table_.format == kernels::Format::f32 ? 4 : 2;
    run.compute.kernels->to_f32(table_.format, table_.data + ids[t] * table_.cols * width,
                                table_.cols, row);
  });
}

}  // namespace sluice
