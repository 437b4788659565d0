// Of config.json: which layers are recurrent, and the sizes of their state.
#include <algorithm>

#include "io/error.h"
#include "model/config_reader.h"

namespace sluice {
namespace {

// Published models have 4.
constexpr uint32_t kMaxKernel = 64;

void read_mixers(const JsonObject& json, ModelConfig& config) {
  const std::vector<std::string> types = json.texts("layer_types", kMaxLayers);
  if (types.empty()) {
    const uint32_t interval = optional_count(json, "full_attention_interval", kMaxLayers, 4);
    for (uint32_t layer = 0; layer < config.layers; ++layer) {
      config.mixers[layer] = (layer + 1) % interval == 0 ? Mixer::attention : Mixer::recurrent;
    }
    return;
  }
  if (types.size() != config.layers) {
    throw Error(json.what(), ": layer_types has ", types.size(),
                " entries; expected one per layer of num_hidden_layers, ", config.layers);
  }
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    const bool recurrent = types[layer] == "linear_attention";
    if (!recurrent && types[layer] != "full_attention") {
      throw Error(json.what(), ": layer_types[", layer, "] is ", quoted_text(types[layer]),
                  "; expected \"linear_attention\" or \"full_attention\"");
    }
    config.mixers[layer] = recurrent ? Mixer::recurrent : Mixer::attention;
  }
}

}  // namespace

void check_recurrent(const JsonObject& json, const RecurrentConfig& recurrent) {
  const auto check_width = [&](const char* what, uint32_t heads, uint32_t size) {
    if (uint64_t{heads} * size <= kMaxWidth) return;
    throw Error(json.what(), ": ", heads, " ", what, " heads of ", size,
                " in the recurrent layers are over the limit of ", kMaxWidth, " together");
  };
  check_width("key", recurrent.key_heads, recurrent.key_dim);
  check_width("value", recurrent.value_heads, recurrent.value_dim);
  if (recurrent.value_heads % recurrent.key_heads != 0) {
    throw Error(json.what(), ": ", recurrent.key_heads, " key heads (groups) and ",
                recurrent.value_heads,
                " value heads in the recurrent layers; expected a divisor of the latter");
  }
  if (recurrent.kernel < 2 || recurrent.kernel > kMaxKernel) {
    throw Error(json.what(), ": the recurrent layers' convolution has a kernel of ",
                recurrent.kernel, "; expected 2 to ", kMaxKernel);
  }
}

void read_linear_attention(const JsonObject& json, ModelConfig& config) {
  read_mixers(json, config);
  if (std::ranges::count(config.mixers, Mixer::recurrent) == 0) return;
  RecurrentConfig& linear = config.recurrent;
  linear.kernel = required_count(json, "linear_conv_kernel_dim", kMaxWidth);
  linear.key_heads = required_count(json, "linear_num_key_heads", kMaxWidth);
  linear.key_dim = required_count(json, "linear_key_head_dim", kMaxWidth);
  linear.value_heads = required_count(json, "linear_num_value_heads", kMaxWidth);
  linear.value_dim = required_count(json, "linear_value_head_dim", kMaxWidth);
  check_recurrent(json, linear);
}

}  // namespace sluice
