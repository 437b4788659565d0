#include <malloc.h>

#include <algorithm>
#include <utility>

#include "io/error.h"
#include "model/model_impl.h"
#include "model/pins.h"
#include "model/trace_facts.h"

namespace sluice {

namespace {

constexpr uint64_t kDefaultContext = 4096;
constexpr uint32_t kMostThreads = 1024;
// The ring, allocator slack, and for each thread its stack and its arena: what the process grows by
// beside what is counted (about 26 kB a thread, measured with 64 to 1024 of them).
constexpr uint64_t kRuntimeBytes = 4 << 20;
constexpr uint64_t kThreadBytes = 32 << 10;

uint64_t choose_context(const ModelOptions& options, const ModelConfig& config) {
  if (options.context == 0) return std::min(config.max_positions, kDefaultContext);
  if (options.context > config.max_positions) {
    throw Error("a context of ", options.context, " is more than the model's ",
                config.max_positions, " positions (max_position_embeddings); lower --context");
  }
  return options.context;
}

// Every tensor of the checkpoint must be somebody's: one that nobody asked for would change the
// result by being ignored.
void check_all_tensors_used(const Checkpoint& checkpoint, const Trunk& trunk,
                            const ModelConfig& config, std::span<const ExpertNames> experts) {
  const auto starts_with = [](const std::string& name, const std::string& prefix) {
    return name.compare(0, prefix.size() + 1, prefix + ".") == 0;
  };
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (tensor.size_bytes == 0 || trunk.uses(tensor.name)) continue;
    // Old exports carry what is computed here, and a copy of tied embeddings.
    if (tensor.name.ends_with(".rotary_emb.inv_freq")) continue;
    if (config.tied_embeddings && tensor.name.starts_with("lm_head.")) continue;
    const bool of_experts =
        std::any_of(experts.begin(), experts.end(), [&](const ExpertNames& names) {
          return starts_with(tensor.name, names.per_expert_prefix) ||
                 std::any_of(
                     names.stacked_prefixes.begin(), names.stacked_prefixes.end(),
                     [&](const std::string& prefix) { return starts_with(tensor.name, prefix); });
        });
    if (of_experts) continue;  // the expert source has checked those
    throw Error(checkpoint.files()[tensor.file], ": tensor ", tensor.name, " ",
                shape_text(tensor.shape), " is not part of a ", config.model_type,
                " model as config.json describes it; running without it would give wrong output. "
                "Check that the files and config.json belong together");
  }
}

void open_files(Model::Impl& impl) {
  impl.files.reserve(impl.checkpoint.files().size());
  for (const std::string& path : impl.checkpoint.files()) impl.files.emplace_back(path);
  for (const DirectFile& file : impl.files) impl.file_list.push_back(&file);
}

void make_plan(Model::Impl& impl, const Trunk& trunk) {
  const ModelConfig& config = impl.config;
  const ModelOptions& options = impl.options;
  impl.limits.context = choose_context(options, config);
  impl.limits.chunk = static_cast<uint32_t>(
      std::clamp<uint64_t>(options.prefill_chunk, 1, std::max<uint64_t>(1, impl.limits.context)));
  impl.limits.threads = options.threads == 0 ? available_threads() : options.threads;
  if (impl.limits.threads > kMostThreads) {
    throw Error(impl.limits.threads, " threads are more than the ", kMostThreads,
                " that are supported; lower --threads");
  }
  impl.kv_shape = {
      .layers = config.layers,
      .kv_heads = config.kv_heads,
      .head_dim = config.head_dim,
      .context = impl.limits.context,
      .format = options.compute == Compute::f32 ? kernels::KvFormat::f32 : kernels::KvFormat::f16};
  Arena measure;
  Activations::layout(measure, config, impl.limits);
  ::malloc_trim(0);
  impl.plan = plan_memory(
      {.process_bytes = resident_bytes() + kRuntimeBytes + impl.limits.threads * kThreadBytes,
       .trunk_bytes = trunk.bytes(),
       .kv_bytes = KvCache::bytes(impl.kv_shape),
       .scratch_bytes = measure.bytes(),
       .experts = impl.source ? &*impl.source : nullptr,
       .experts_per_token = config.experts_per_token,
       .budget = options.budget,
       .limits = memory_limits()});
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
  uint64_t trunk_bytes = 0;
  impl.trunk->load(impl.file_list, *impl.queue, [&](uint64_t done, uint64_t total) {
    trunk_bytes = total;
    if (progress.trunk_bytes) progress.trunk_bytes(done, total + pin_bytes);
  });
  if (pin_bytes == 0) return;
  impl.pins = preload_pins(pins, grid_of(*impl.source), *impl.stream, [&](uint64_t bytes) {
    if (progress.trunk_bytes) progress.trunk_bytes(trunk_bytes + bytes, trunk_bytes + pin_bytes);
  });
}

}  // namespace

Model Model::load(const std::string& directory, const ModelOptions& options,
                  const Progress& progress) {
  auto impl = std::make_unique<Impl>(options, directory);
  const std::vector<ExpertNames> names = expert_names(impl->config);
  if (!names.empty()) impl->source.emplace(impl->checkpoint, names);
  const ExpertSource* source = impl->source ? &*impl->source : nullptr;

  Trunk& trunk = impl->trunk.emplace(impl->checkpoint);
  make_network(impl->config, trunk, source);  // declares the tensors
  check_all_tensors_used(impl->checkpoint, trunk, impl->config, names);
  // Before anything large is read, so that a wrong file is known at once.
  const PinList pins = find_pins(*impl, directory);
  open_files(*impl);
  make_plan(*impl, trunk);

  impl->queue = options.make_queue ? options.make_queue()
                                   : make_read_queue(options.io_backend, options.io_depth,
                                                     &impl->io_fallback_reason);
  impl->workers.emplace(impl->limits.threads);
  if (source != nullptr) {
    impl->stream.emplace(
        *source, impl->file_list, *impl->queue,
        ExpertStream::Options{.budget_bytes = impl->plan.cache_bytes,
                              .policy = options.cache_policy,
                              .experts_per_token = impl->config.experts_per_token});
  }
  Model model(std::move(impl));
  if (progress.planned) progress.planned(model);
  Impl& loaded = *model.impl_;
  load_tensors(loaded, pins, progress);
  loaded.network = make_network(loaded.config, trunk, source);
  if (source != nullptr && RoutingRecorder::wanted(options)) {
    loaded.recorder.emplace(options, trace_facts(loaded.config, *source));
  }
  model.reset_stream_statistics();  // the trunk and the pins came through the same queue
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
uint32_t Model::cache_slots() const { return impl_->stream ? impl_->stream->cache().slots() : 0; }

std::string Model::io_description() const {
  std::string text = impl_->queue->description();
  if (!impl_->io_fallback_reason.empty()) text += " (" + impl_->io_fallback_reason + ")";
  const auto buffered = std::find_if(impl_->files.begin(), impl_->files.end(),
                                     [](const DirectFile& file) { return !file.direct(); });
  if (buffered == impl_->files.end()) return text + ", direct reads";
  return text + ", buffered reads (" + buffered->path() + ": " + buffered->buffered_reason() + ")";
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
