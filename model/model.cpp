#include <algorithm>
#include <chrono>
#include <utility>

#include "io/error.h"
#include "model/families.h"
#include "model/measure.h"
#include "model/model_impl.h"
#include "model/pins.h"
#include "model/trace_facts.h"

namespace sluice {

namespace {

class Stopwatch {
 public:
  // Seconds since the last lap, or the start.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(start_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void open_files(Model::Impl& impl) {
  impl.files.reserve(impl.checkpoint.files().size());
  for (const std::string& path : impl.checkpoint.files()) impl.files.emplace_back(path);
  for (const DirectFile& file : impl.files) impl.file_list.push_back(&file);
}

PinList find_pins(const Model::Impl& impl, const std::string& directory) {
  if (impl.source) return find_pins(directory, impl.options, grid_of(*impl.source));
  if (!impl.options.pin_file.empty() || !impl.options.trace_file.empty()) {
    throw Error(directory, ": this model has no experts; run it without --pin-file and --trace");
  }
  return {};
}

// Everything that is read before the first token: the trunk, and the experts that are to stay.
void load_tensors(Model::Impl& impl, const PinList& pins, const Progress& progress) {
  const uint64_t pin_bytes =
      impl.stream ? pins_that_fit(pins, impl.stream->cache()) * impl.source->slot_bytes() : 0;
  uint64_t& trunk_bytes = impl.load_report.trunk_bytes;
  Stopwatch watch;
  impl.trunk->load(impl.file_list, *impl.queue, [&](uint64_t done, uint64_t total) {
    trunk_bytes = total;
    if (progress.trunk_bytes) progress.trunk_bytes(done, total + pin_bytes);
  });
  impl.load_report.trunk_seconds = watch.lap();
  if (pins.file.empty()) return;
  impl.pins = preload_pins(pins, grid_of(*impl.source), *impl.stream, [&](uint64_t bytes) {
    if (progress.trunk_bytes) progress.trunk_bytes(trunk_bytes + bytes, trunk_bytes + pin_bytes);
  });
  impl.load_report.pins_seconds = watch.lap();
}

}  // namespace

Model Model::load(const std::string& directory, const ModelOptions& options,
                  const Progress& progress) {
  Stopwatch watch;
  auto impl = std::make_unique<Impl>(options, directory);
  declare_model(impl->config, impl->checkpoint, impl->source, impl->trunk);
  const ExpertSource* source = impl->source ? &*impl->source : nullptr;
  Trunk& trunk = *impl->trunk;
  // Before anything large is read, so that a wrong file is known at once.
  const PinList pins = find_pins(*impl, directory);
  open_files(*impl);
  const ModelMeasure measure =
      measure_model(impl->config, options, trunk, impl->source, memory_limits());
  impl->limits = measure.limits;
  impl->kv_shape = measure.kv_shape;
  impl->recurrent_shape = measure.recurrent_shape;
  impl->plan = plan_memory(measure.inputs);

  impl->queue = options.make_queue ? options.make_queue()
                                   : make_read_queue(options.io_backend, options.io_depth,
                                                     &impl->io_fallback_reason);
  impl->workers.emplace(impl->limits.threads);
  if (source != nullptr) {
    impl->stream.emplace(*source, impl->file_list, *impl->queue,
                         ExpertStream::Options{.budget_bytes = impl->plan.cache_bytes,
                                               .policy = options.cache_policy,
                                               .experts_per_token = impl->config.experts_per_token,
                                               .bounce = options.bounce});
  }
  Model model(std::move(impl));
  if (progress.planned) progress.planned(model);
  Impl& loaded = *model.impl_;
  if (source != nullptr && RoutingRecorder::wanted(options)) {
    loaded.recorder.emplace(options, trace_facts(loaded.config, *source));
  }
  loaded.load_report.headers_seconds = watch.lap();
  load_tensors(loaded, pins, progress);
  watch.lap();
  trunk.arrange(*loaded.workers);
  loaded.network = make_network(loaded.config, trunk, source);
  loaded.load_report.network_seconds = watch.lap();
  model.reset_stream_statistics();  // the trunk and the pins came through the same queue
  if (loaded.stream) {
    loaded.workers->between_tasks([stream = &*loaded.stream] { stream->poll(); });
  }
  return model;
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::Model(Model&&) noexcept = default;
Model::~Model() = default;

const ModelConfig& Model::config() const { return impl_->config; }
const MemoryPlan& Model::plan() const { return impl_->plan; }
bool Model::has_experts() const { return impl_->source.has_value(); }
uint64_t Model::context() const { return impl_->limits.context; }
uint32_t Model::threads() const { return impl_->limits.threads; }
const PinReport& Model::pins() const { return impl_->pins; }
const LoadReport& Model::load_report() const { return impl_->load_report; }
uint32_t Model::cache_slots() const { return impl_->stream ? impl_->stream->cache().slots() : 0; }

std::string Model::io_description() const {
  std::string text = impl_->queue->description();
  if (!impl_->io_fallback_reason.empty()) text += " (" + impl_->io_fallback_reason + ")";
  const auto buffered = std::find_if(impl_->files.begin(), impl_->files.end(),
                                     [](const DirectFile& file) { return !file.direct(); });
  const bool direct = buffered == impl_->files.end();
  text += direct ? ", direct reads" : ", buffered reads";
  if (impl_->stream && impl_->stream->bounces()) text += " through bounce buffers";
  if (direct) return text;
  return text + " (" + buffered->path() + ": " + buffered->buffered_reason() + ")";
}

std::string Model::slab_description() const {
  return impl_->stream ? impl_->stream->cache().slab_description() : std::string();
}

StreamStatistics Model::stream_statistics() const {
  return impl_->stream ? impl_->stream->statistics() : StreamStatistics{};
}

void Model::reset_stream_statistics() {
  if (impl_->stream) impl_->stream->reset_statistics();
}

}  // namespace sluice
