// Mistral: Llama with attention over a sliding window, arXiv:2310.06825; later models have none.
#include "model/config_reader.h"
#include "model/transformer.h"

namespace sluice {
namespace {

void read(const JsonObject& json, ModelConfig& config) {
  read_heads(json, config);
  read_rope(json, config);
  read_window(json, config, 4096);  // where the file does not name it, as the first model had it
  read_dense_mlp(json, config);
}

TransformerVariant variant(const ModelConfig&) { return {}; }

}  // namespace

Family mistral_family() {
  return transformer_family({.model_type = "mistral",
                             .models = "Mistral 7B, Mistral Nemo, Mistral Small (text)",
                             .read_config = read,
                             .variant = variant});
}

}  // namespace sluice
