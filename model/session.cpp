#include "model/session.h"

#include <algorithm>
#include <chrono>

#include "io/error.h"
#include "model/model_impl.h"

namespace sluice {

struct Session::Impl {
  explicit Impl(Model::Impl& m) : model(m), kv(m.kv_shape), recurrent(m.recurrent_shape) {
    Activations::layout(arena, m.config, m.limits);
    arena.allocate("activations");
    activations = Activations::layout(arena, m.config, m.limits);
  }

  // Computes up to limits.chunk tokens; the normed hidden states from the first wanted one on are
  // then in activations.hidden. A recorder hears of all, so all are computed.
  bool forward(std::span<const uint32_t> ids, uint32_t first_wanted,
               const std::function<bool()>& should_stop, RoutingRecorder* recorder) {
    Run run = make_run(static_cast<uint32_t>(ids.size()));
    run.first_wanted = recorder != nullptr ? 0 : first_wanted;
    run.should_stop = &should_stop;
    run.routing = recorder;
    recurrent.begin();
    if (!model.network->forward(ids, run)) return false;
    recurrent.commit();
    if (recorder != nullptr) recorder->flush();
    position += ids.size();
    return true;
  }

  // Tokens in chunks, as Session::prefill says; recorder hears of their routing if it is there.
  std::span<const float> advance(std::span<const uint32_t> ids, const LogitsSink& on_logits,
                                 const std::function<bool()>& should_stop, const Progress& progress,
                                 RoutingRecorder* recorder, uint64_t logits_from) {
    check_input(ids);
    std::span<const float> last;
    for (size_t done = 0; done < ids.size();) {
      const auto n = static_cast<uint32_t>(std::min<size_t>(ids.size() - done, model.limits.chunk));
      const uint64_t first_position = position;
      uint32_t layer = 0;
      const auto between_layers = [&] {
        if (progress.prompt_tokens) {
          progress.prompt_tokens(done + uint64_t{n} * layer++ / model.config.layers, ids.size());
        }
        return should_stop && should_stop();
      };
      const bool last_chunk = done + n == ids.size();
      uint32_t first_wanted = last_chunk ? n - 1 : n;
      const bool hand_out = on_logits && logits_from < position + n;
      if (hand_out) {
        first_wanted = static_cast<uint32_t>(std::max(logits_from, position) - position);
      }
      if (!forward(ids.subspan(done, n), first_wanted, between_layers, recorder)) return {};
      done += n;
      if (hand_out) {
        last = hand_out_logits(first_wanted, n, first_position, on_logits);
      } else if (last_chunk) {
        last = logits_of(n - 1, 1);
      }
      if (progress.prompt_tokens) progress.prompt_tokens(done, ids.size());
    }
    return last;
  }

  RoutingRecorder* recorder() const { return model.recorder ? &*model.recorder : nullptr; }

  // Logits of tokens [first, first + n) of the last forward call, [n, vocabulary].
  std::span<const float> logits_of(uint32_t first, uint32_t n) {
    Run run = make_run(n);
    model.network->logits(activations.hidden + uint64_t{first} * model.config.hidden, n, run,
                          activations.logits);
    return {activations.logits, uint64_t{n} * model.config.vocabulary};
  }

  // Hands out the logits of tokens [first, count) of the last forward call and returns the last
  // one's. at: the position of token 0.
  std::span<const float> hand_out_logits(uint32_t first, uint32_t count, uint64_t at,
                                         const LogitsSink& on_logits) {
    const uint32_t vocabulary = model.config.vocabulary;
    std::span<const float> last;
    for (uint32_t t = first; t < count;) {
      const uint32_t n = std::min(model.limits.logits, count - t);
      const std::span<const float> rows = logits_of(t, n);
      for (uint32_t i = 0; i < n; ++i) {
        last = rows.subspan(uint64_t{i} * vocabulary, vocabulary);
        on_logits(at + t + i, last);
      }
      t += n;
    }
    return last;
  }

  Run make_run(uint32_t tokens) {
    return {.compute = model.compute(),
            .experts = model.stream ? &*model.stream : nullptr,
            .kv = &kv,
            .recurrent = &recurrent,
            .activations = &activations,
            .position = position,
            .tokens = tokens,
            .first_wanted = 0,
            .routing = nullptr,
            .look_ahead = model.look_ahead(tokens),
            .should_stop = nullptr};
  }

  void check_input(std::span<const uint32_t> ids) const {
    if (ids.empty()) throw Error("the prompt has no tokens; give at least one");
    if (ids.size() > model.limits.context - position) {
      throw Error("the prompt of ", ids.size(), " tokens does not fit: the context holds ",
                  model.limits.context, " and ", position,
                  " are taken; raise --context (the model allows ", model.config.max_positions,
                  ") or shorten the prompt");
    }
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] >= model.config.vocabulary) {
        throw Error("token id ", ids[i], " at index ", i, " is outside the model's vocabulary of ",
                    model.config.vocabulary);
      }
    }
  }

  Model::Impl& model;
  KvCache kv;
  RecurrentState recurrent;
  Arena arena;
  Activations activations;
  uint64_t position = 0;
};

Session::Session(Model& model) : impl_(std::make_unique<Impl>(model.impl())) {}
Session::~Session() = default;

uint64_t Session::position() const { return impl_->position; }
void Session::reset() {
  impl_->position = 0;
  impl_->recurrent.reset();
}

std::span<const float> Session::prefill(std::span<const uint32_t> ids, const LogitsSink& on_logits,
                                        const std::function<bool()>& should_stop,
                                        const Progress& progress, uint64_t logits_from) {
  return impl_->advance(ids, on_logits, should_stop, progress,
                        impl_->model.options.trace_prefill ? impl_->recorder() : nullptr,
                        logits_from);
}

std::span<const float> Session::decode(uint32_t id) {
  Model::Impl& model = impl_->model;
  const auto start = std::chrono::steady_clock::now();
  const uint64_t read_before = model.bytes_read();
  const std::span<const float> logits = impl_->advance({&id, 1}, {}, {}, {}, impl_->recorder(), 0);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  model.look_ahead_trial.token(took.count(), model.bytes_read() - read_before);
  return logits;
}

}  // namespace sluice
