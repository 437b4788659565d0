// RoutingObserver: hears which experts the router chose, token by token within a layer, layer by
// layer within a forward call.
//
// Called from the computing thread, between routing and reading: it must be quick, and cannot
// change anything.
#pragma once

#include <cstdint>
#include <span>

namespace sluice {

class RoutingObserver {
 public:
  virtual ~RoutingObserver() = default;
  // model_layer counts dense layers too. experts: [experts_per_token], likeliest first.
  virtual void routed(uint32_t model_layer, std::span<const uint32_t> experts) = 0;
};

}  // namespace sluice
