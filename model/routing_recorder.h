// RoutingRecorder: passes a run's routing on to the trace file and the observer of ModelOptions.
// Threads: one.
#pragma once

#include <optional>

#include "model/routing_observer.h"
#include "model/session.h"
#include "stream/trace.h"

namespace sluice {

class RoutingRecorder final : public RoutingObserver {
 public:
  // Throws Error: the trace file cannot be created.
  RoutingRecorder(const ModelOptions& options, const TraceFacts& facts)
      : observer_(options.routing_observer) {
    if (!options.trace_file.empty()) writer_.emplace(options.trace_file, facts);
  }
  static bool wanted(const ModelOptions& options) {
    return !options.trace_file.empty() || options.routing_observer != nullptr;
  }

  void routed(uint32_t model_layer, std::span<const uint32_t> experts) override {
    if (writer_) writer_->add(model_layer, experts);
    if (observer_ != nullptr) observer_->routed(model_layer, experts);
  }

  // After every forward call. Throws Error (disk full, ...).
  void flush() {
    if (writer_) writer_->flush();
  }

 private:
  RoutingObserver* observer_;
  std::optional<TraceWriter> writer_;
};

}  // namespace sluice
