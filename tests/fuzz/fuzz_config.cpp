// config.json and generation_config.json: any bytes either parse or throw Error.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "io/check.h"
#include "io/error.h"
#include "model/config.h"
#include "model/recurrent_state.h"
#include "model/rope.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  const std::string_view text(reinterpret_cast<const char*>(data), size_bytes);
  try {
    const sluice::ModelConfig config = sluice::parse_config(text, "config.json");
    // What the rest of the program relies on.
    SLUICE_CHECK(config.layers > 0 && config.layers == config.moe_layer.size());
    SLUICE_CHECK(config.kv_heads > 0 && config.heads % config.kv_heads == 0);
    SLUICE_CHECK(config.head_dim > 0 && config.head_dim % 2 == 0);
    SLUICE_CHECK(config.experts == 0 || config.experts_per_token > 0);
    SLUICE_CHECK(config.experts_per_token <= config.experts);
    SLUICE_CHECK(config.layers == config.layer_window.size());
    SLUICE_CHECK(config.layers == config.mixers.size());
    const auto recurrent = std::ranges::count(config.mixers, sluice::Mixer::recurrent);
    SLUICE_CHECK(recurrent == 0 || config.recurrent.kernel >= 2);
    SLUICE_CHECK(recurrent == 0 || config.recurrent.value_heads % config.recurrent.key_heads == 0);
    SLUICE_CHECK(config.recurrent.channels() <= 3 * sluice::kMaxWidth);
    sluice::RecurrentState::bytes(sluice::RecurrentShape::of(config));
    SLUICE_CHECK(config.experts % config.router.groups == 0);
    const auto moe_layers = std::ranges::count(config.moe_layer, true);
    SLUICE_CHECK((moe_layers > 0) == (config.experts > 0));
    SLUICE_CHECK(sluice::expert_names(config).size() == static_cast<size_t>(moe_layers));
    SLUICE_CHECK(config.rope.dimensions > 0 && config.rope.dimensions % 2 == 0);
    SLUICE_CHECK(config.rope.dimensions <= config.head_dim);
    for (const uint64_t context : {uint64_t{1}, config.max_positions}) {
      const sluice::RopeFrequencies rope = sluice::rope_frequencies(config.rope, context);
      SLUICE_CHECK(std::isfinite(rope.amplitude));
      SLUICE_CHECK(std::ranges::all_of(rope.radians, [](double f) { return std::isfinite(f); }));
    }
  } catch (const sluice::Error&) {
  }
  try {
    sluice::parse_generation_config(text, "generation_config.json");
  } catch (const sluice::Error&) {
  }
  return 0;
}
