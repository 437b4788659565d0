#include "model/decoder.h"

#include <algorithm>

#include "model/rope.h"

namespace sluice {

namespace {

void norm_tokens(const Run& run, const std::vector<float>& weight, float epsilon, const float* x,
                 float* y) {
  const auto n = static_cast<uint32_t>(weight.size());
  run.compute.workers->run(run.tokens, [&](uint32_t t, uint32_t) {
    run.compute.kernels->rms_norm(x + uint64_t{t} * n, weight.data(), n, epsilon,
                                  y + uint64_t{t} * n);
  });
}

}  // namespace

Decoder::Decoder(DecoderParts parts) : parts_(std::move(parts)) {
  const ResidualBlock* next = nullptr;
  for (auto layer = parts_.layers.rbegin(); layer != parts_.layers.rend(); ++layer) {
    for (auto residual = layer->rbegin(); residual != layer->rend(); ++residual) {
      next_experts_.push_back(next);
      if (residual->block->has_experts()) next = &*residual;
    }
  }
  std::reverse(next_experts_.begin(), next_experts_.end());
}

// The residual stream as it is now, before what lies between is added to it, is mostly what it will
// be then: routers agree on most of the experts.
void Decoder::foresee(const ResidualBlock& next, Run& run) const {
  Activations& a = *run.activations;
  run.compute.kernels->rms_norm(a.hidden, next.norm.data(), parts_.hidden, parts_.epsilon,
                                a.foreseen_input);
  next.block->foresee(a.foreseen_input, run);
}

bool Decoder::forward(std::span<const uint32_t> ids, Run& run) const {
  Activations& a = *run.activations;
  parts_.embeddings.look_up(ids, run, a.hidden);
  prepare_rope(parts_.rope, run);
  const bool look_ahead = run.look_ahead > 0;
  size_t index = 0;
  for (const std::vector<ResidualBlock>& layer : parts_.layers) {
    if (run.should_stop != nullptr && *run.should_stop && (*run.should_stop)()) return false;
    for (const ResidualBlock& residual : layer) {
      norm_tokens(run, residual.norm, parts_.epsilon, a.hidden, a.normed);
      const ResidualBlock* next = look_ahead ? next_experts_[index++] : nullptr;
      run.while_reading = nullptr;
      if (next != nullptr) run.while_reading = [&] { foresee(*next, run); };
      residual.block->forward(a.normed, run, a.block);
      for (uint32_t t = 0; t < run.tokens; ++t) {
        const uint64_t at = uint64_t{t} * parts_.hidden;
        run.compute.kernels->add(a.block + at, parts_.hidden, a.hidden + at);
      }
    }
  }
  norm_tokens(run, parts_.final_norm, parts_.epsilon, a.hidden, a.hidden);
  return true;
}

void Decoder::logits(const float* hidden, uint32_t n, Run& run, float* logits) const {
  const LinearCall call[] = {{&parts_.head, logits, parts_.head.rows()}};
  apply_linears(run.compute, call, hidden, parts_.hidden, n, run.activations->inputs);
}

}  // namespace sluice
