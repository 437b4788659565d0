// What a Model is made of; shared by model.cpp, which loads it, and session.cpp, which runs it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/direct_file.h"
#include "model/network.h"
#include "model/routing_recorder.h"
#include "model/session.h"
#include "model/trunk.h"
#include "model/workers.h"
#include "stream/look_ahead_trial.h"

namespace sluice {

// Members are destroyed in reverse order: what borrows comes after what it borrows from.
struct Model::Impl {
  Impl(const ModelOptions& o, const std::string& directory)
      : options(o),
        config(read_config(directory)),
        checkpoint(Checkpoint::open(directory)),
        look_ahead_trial(config.experts_per_token) {}

  ModelOptions options;
  ModelConfig config;
  Checkpoint checkpoint;
  std::vector<DirectFile> files;  // by checkpoint file index
  std::vector<const DirectFile*> file_list;
  std::string io_fallback_reason;
  std::unique_ptr<ReadQueue> queue;
  std::optional<ExpertSource> source;  // none for dense models
  MemoryPlan plan;
  RunLimits limits;
  KvShape kv_shape;
  RecurrentShape recurrent_shape;
  std::optional<Workers> workers;
  std::optional<ExpertStream> stream;
  LookAheadTrial look_ahead_trial;
  PinReport pins;
  LoadReport load_report;
  std::optional<RoutingRecorder> recorder;  // none: nobody wants to know
  std::optional<Trunk> trunk;
  std::unique_ptr<const Network> network;

  // How many experts of a layer to read ahead for so many tokens. Of many tokens most experts are
  // wanted anyway, and what is read ahead is read once.
  uint32_t look_ahead(uint32_t tokens) const {
    if (options.look_ahead) return *options.look_ahead;
    if (tokens > 1) return config.experts;
    return look_ahead_trial.experts();
  }
  uint64_t bytes_read() const {
    const ReadStatistics reads = queue->statistics();
    return reads.bytes_demanded + reads.bytes_speculated;
  }

  ComputeContext compute() {
    return {.kernels = &kernels::table(), .workers = &*workers, .compute = options.compute};
  }
};

}  // namespace sluice
