#include "model/decoder.h"

#include <algorithm>
#include <utility>

#include "model/rope.h"

namespace sluice {

namespace {

// Of n vectors [n, weight.size()].
void norm_vectors(const ComputeContext& context, const std::vector<float>& weight, float epsilon,
                  uint32_t n, const float* x, float* y) {
  const auto size = static_cast<uint32_t>(weight.size());
  context.workers->run(n, [&](uint32_t i, uint32_t) {
    context.kernels->rms_norm(x + uint64_t{i} * size, weight.data(), size, epsilon,
                              y + uint64_t{i} * size);
  });
}

}  // namespace

Decoder::Decoder(DecoderParts parts) : parts_(std::move(parts)) {
  uint32_t count = 0;
  for (const std::vector<ResidualBlock>& layer : parts_.layers) {
    for (const ResidualBlock& residual : layer) {
      if (!residual.block->stateless()) last_with_state_ = count;
      ++count;
    }
  }
  Next next;
  for (auto layer = parts_.layers.rbegin(); layer != parts_.layers.rend(); ++layer) {
    for (auto residual = layer->rbegin(); residual != layer->rend(); ++residual) {
      --count;
      next_experts_.push_back(next);
      if (residual->block->has_experts()) next = {&*residual, count > last_with_state_};
    }
  }
  std::reverse(next_experts_.begin(), next_experts_.end());
}

// The residual stream as it is now, before what lies between is added to it, is mostly what it will
// be then: routers agree on most of the experts.
void Decoder::foresee(const Next& next, uint32_t wanted, const float* hidden, Run& run) const {
  const uint32_t first = next.behind_state ? wanted : 0;
  if (first == run.tokens) return;
  hidden += uint64_t{first} * parts_.hidden;
  float* const input = run.activations->foreseen_input;
  run.compute.kernels->rms_norm(hidden, next.residual->norm.data(), parts_.hidden, parts_.epsilon,
                                input);
  next.residual->block->foresee(input, run.tokens - first, run);
}

void Decoder::add_block(const ResidualBlock& residual, float* hidden, Run& run) const {
  Activations& a = *run.activations;
  norm_vectors(run.compute, residual.norm, parts_.epsilon, run.tokens, hidden, a.normed);
  residual.block->forward(a.normed, run, a.block);
  for (uint32_t t = run.first_wanted; t < run.tokens; ++t) {
    const uint64_t at = uint64_t{t} * parts_.hidden;
    run.compute.kernels->add(a.block + at, parts_.hidden, hidden + at);
  }
}

bool Decoder::forward(std::span<const uint32_t> ids, const Run& given) const {
  Run run = given;  // of fewer tokens in the end
  float* hidden = run.activations->hidden;
  parts_.embeddings.look_up(ids, run, hidden);
  prepare_rope(parts_.rope, run);
  uint32_t wanted = std::exchange(run.first_wanted, 0);
  uint32_t index = 0;
  for (const std::vector<ResidualBlock>& layer : parts_.layers) {
    if (run.should_stop != nullptr && *run.should_stop && (*run.should_stop)()) return false;
    for (const ResidualBlock& residual : layer) {
      if (run.tokens == 0) break;
      const Next& next = next_experts_[index];
      run.while_reading = nullptr;
      if (run.look_ahead > 0 && next.residual != nullptr) {
        run.while_reading = [&] { foresee(next, wanted, hidden, run); };
      }
      const bool last = index++ == last_with_state_;
      if (last) run.first_wanted = wanted;
      add_block(residual, hidden, run);
      if (!last) continue;
      // From here on a token's hidden state serves that token alone: the others are done with.
      hidden += uint64_t{wanted} * parts_.hidden;
      run.position += wanted;
      run.tokens -= wanted;
      run.first_wanted = wanted = 0;
    }
  }
  norm_vectors(run.compute, parts_.final_norm, parts_.epsilon, run.tokens, hidden, hidden);
  return true;
}

void Decoder::logits(const float* hidden, uint32_t n, Run& run, float* logits) const {
  const LinearCall call[] = {{&parts_.head, logits, parts_.head.rows()}};
  apply_linears(run.compute, call, hidden, parts_.hidden, n, run.activations->inputs);
}

}  // namespace sluice
