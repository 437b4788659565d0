#include "model/measure.h"

#include <malloc.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "io/error.h"
#include "model/families.h"

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
  std::set<std::string, std::less<>> prefixes;
  for (const ExpertNames& names : experts) {
    prefixes.insert(names.per_expert_prefix);
    prefixes.insert(names.stacked_prefixes.begin(), names.stacked_prefixes.end());
  }
  const auto is_of_experts = [&](std::string_view name) {
    for (size_t dot = name.find('.'); dot != name.npos; dot = name.find('.', dot + 1)) {
      if (prefixes.contains(name.substr(0, dot))) return true;
    }
    return false;
  };
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (tensor.size_bytes == 0 || trunk.uses(tensor.name)) continue;
    if (may_ignore_tensor(config, tensor.name)) continue;
    if (is_of_experts(tensor.name)) continue;  // the expert source has checked those
    throw Error(checkpoint.files()[tensor.file], ": tensor ", tensor.name, " ",
                shape_text(tensor.shape), " is not part of a ", config.model_type,
                " model as config.json describes it; running without it would give wrong output. "
                "Check that the files and config.json belong together");
  }
}

}  // namespace

void declare_model(const ModelConfig& config, const Checkpoint& checkpoint,
                   std::optional<ExpertSource>& experts, std::optional<Trunk>& trunk) {
  const std::vector<ExpertNames> names = expert_names(config, checkpoint);
  if (!names.empty()) experts.emplace(checkpoint, names);
  trunk.emplace(checkpoint);
  make_network(config, *trunk, experts ? &*experts : nullptr);  // declares the tensors
  check_all_tensors_used(checkpoint, *trunk, config, names);
  ::malloc_trim(0);  // what parsing took is given back before memory is measured
}

KvShape kv_shape(const ModelConfig& config, const RunLimits& limits, kernels::KvFormat format) {
  KvShape shape = {
      .layers = static_cast<uint32_t>(std::ranges::count(config.mixers, Mixer::attention)),
      .kv_heads = config.kv_heads,
      .head_dim = config.head_dim,
      .context = limits.context,
      .format = format,
      .chunk = limits.chunk};
  if (config.mla.kv_rank > 0) {
    shape.head_dim = config.mla.latent_width();
    shape.latent = true;
    shape.index_dim = config.mla.index_dim;
    return shape;
  }
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    if (config.mixers[layer] == Mixer::attention) {
      shape.windows.push_back(config.layer_window[layer]);
    }
  }
  return shape;
}

ModelMeasure measure_model(const ModelConfig& config, const ModelOptions& options,
                           const Trunk& trunk, const std::optional<ExpertSource>& experts,
                           const MemoryLimits& memory) {
  ModelMeasure measure;
  RunLimits& limits = measure.limits;
  limits.context = choose_context(options, config);
  limits.chunk = static_cast<uint32_t>(
      std::clamp<uint64_t>(options.prefill_chunk, 1, std::max<uint64_t>(1, limits.context)));
  limits.logits = std::clamp<uint32_t>(options.logits_batch, 1, limits.chunk);
  limits.threads = options.threads == 0 ? available_threads() : options.threads;
  if (limits.threads > kMostThreads) {
    throw Error(limits.threads, " threads are more than the ", kMostThreads,
                " that are supported; lower --threads");
  }
  measure.kv_shape =
      kv_shape(config, limits,
               options.compute == Compute::f32 ? kernels::KvFormat::f32 : kernels::KvFormat::f16);
  measure.recurrent_shape = RecurrentShape::of(config);
  Arena activations;
  Activations::layout(activations, config, limits);
  measure.inputs = {
      .process_bytes = resident_bytes() + kRuntimeBytes + limits.threads * kThreadBytes,
      .trunk_bytes = trunk.bytes(),
      .kv_bytes = KvCache::bytes(measure.kv_shape),
      .state_bytes = RecurrentState::bytes(measure.recurrent_shape),
      .scratch_bytes = activations.bytes(),
      .experts = experts ? &*experts : nullptr,
      .experts_per_token = config.experts_per_token,
      .budget = options.budget,
      .bounce = options.bounce,
      .limits = memory};
  return measure;
}

}  // namespace sluice
