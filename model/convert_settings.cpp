// What the settings of a conversion say, in words.
#include <optional>
#include <string>

#include "model/convert_plan.h"

namespace sluice {

uint32_t codebook_length(uint32_t bits) { return 1u << bits; }

uint32_t ConvertSettings::attention_bits() const {
  if (attn_bits) return *attn_bits;
  return bits < 4 ? 4 : bits == 4 ? 8 : bits;
}

std::string ConvertSettings::text() const {
  const auto optional = [](const std::optional<uint32_t>& value) {
    return value ? std::to_string(*value) : std::string("as bits");
  };
  return "bits " + std::to_string(bits) + ", attn-bits " +
         (attn_bits ? std::to_string(*attn_bits) : "by default") + ", expert-bits " +
         optional(expert_bits) + ", expert-down-bits " +
         (expert_down_bits ? std::to_string(*expert_down_bits) : "as expert-bits") +
         ", group-size " + std::to_string(group) + ", layout " +
         (layout == ConvertLayout::records ? "records" : "mlx") + (keep_head ? ", keep-head" : "") +
         ", shards of " + std::to_string(shard_bytes) + " bytes";
}

}  // namespace sluice
