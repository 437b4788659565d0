// Network: one architecture's forward pass. Families (model/families.h) make it of shared blocks
// (model/block.h): attention, mlp, moe.
//
// A network is made twice over the same code (model/trunk.h): once to declare its tensors, once to
// bind them. It holds no state of a conversation; that is in the Session's KvCache,
// RecurrentState and Activations.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/arena.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/linear.h"
#include "model/mla_activations.h"
#include "model/recurrent_state.h"
#include "model/routing_observer.h"
#include "stream/expert_stream.h"

namespace sluice {

// Sizes that working memory depends on.
struct RunLimits {
  uint32_t chunk = 1;    // tokens of one forward call at most
  uint64_t context = 1;  // positions
  uint32_t threads = 1;
  uint32_t logits = 1;  // positions whose logits are computed together; ≤ chunk
};

// Working memory of one forward call. All arrays of floats, row-major, tokens first.
struct Activations {
  float* hidden = nullptr;    // [chunk, hidden]: the residual stream
  float* normed = nullptr;    // [chunk, hidden]
  float* block = nullptr;     // [chunk, hidden]: a block's output, before it is added
  float* q = nullptr;         // [chunk, heads * head_dim]
  float* k = nullptr;         // [chunk, kv_heads * head_dim]
  float* v = nullptr;         // [chunk, kv_heads * head_dim]
  float* attended = nullptr;  // [chunk, heads * head_dim]; of recurrent layers [chunk, value_width]
  float* gated_q = nullptr;   // [chunk, heads, 2, head_dim]: where queries come with gates
  float* mixed = nullptr;     // [chunk, projection_width] of recurrent layers
  float* convolved = nullptr;  // [chunk, channels] of recurrent layers
  float* scores = nullptr;     // [threads, heads / kv_heads, context]
  MlaActivations mla;          // of latent attention, which has (model/mla.h) k [chunk,
                               // latent_width], no v, attended [chunk, heads * value_dim], and
                               // scores [threads, MlaActivations::kHeads, context]
  float* rope_cos = nullptr;   // [chunk, rope.dimensions / 2]
  float* rope_sin = nullptr;
  float* gate = nullptr;             // [mlp_vectors, mlp_width], or rows of gate and up in turn
  float* up = nullptr;               // [mlp_vectors, mlp_width]
  float* router = nullptr;           // [chunk, experts]
  float* router_scores = nullptr;    // [threads, experts]
  uint32_t* router_order = nullptr;  // [threads, experts]
  float* shared = nullptr;           // [chunk, hidden]: the shared experts' output
  float* latent = nullptr;           // [chunk, expert_latent]: the experts' input, then their sum
  // expert_width: of what routed experts read and write.
  float* expert_rows = nullptr;  // [chunk * experts_per_token, expert_width]: outputs, as in pairs
  uint32_t* chosen = nullptr;    // [chunk, experts_per_token]: expert ids in router order
  float* chosen_weights = nullptr;    // [chunk, experts_per_token]
  float* foreseen_input = nullptr;    // [hidden]: what the next layer of experts will about read
  float* foreseen_weights = nullptr;  // [experts_per_token]
  uint32_t* foreseen = nullptr;       // [experts_per_token]: what it will likely choose
  uint32_t* pairs = nullptr;   // [chunk * experts_per_token]: token * k + rank, grouped by expert
  uint32_t* places = nullptr;  // [chunk * experts_per_token]: where in pairs each pair is
  uint32_t* first_pair = nullptr;  // [experts + 1]: where each expert's pairs start
  InputScratch inputs;             // of the network's own matrices, [chunk]
  InputScratch gathered_inputs;    // of the experts at hand, [mlp_vectors]
  float* logits = nullptr;         // [limits.logits, vocabulary]
  uint32_t mlp_vectors = 0;

  static Activations layout(Arena& arena, const ModelConfig& config, const RunLimits& limits);
};

// One forward call: what to compute, with what.
struct Run {
  ComputeContext compute;
  ExpertStream* experts = nullptr;  // null for dense networks
  KvCache* kv = nullptr;
  RecurrentState* recurrent = nullptr;
  Activations* activations = nullptr;
  uint64_t position = 0;  // of the first token
  uint32_t tokens = 0;
  // The first token whose hidden state is asked for; as many as there are tokens: none is.
  uint32_t first_wanted = 0;
  RoutingObserver* routing = nullptr;  // told of every token's experts; null: nobody is
  // Of the experts that the next layer will likely want, how many to read ahead. 0: none.
  uint32_t look_ahead = 0;
  // To be called by a block of experts once its own reads are under way; says what the next one
  // will likely want. Empty: nobody looks ahead.
  std::function<void()> while_reading = {};
  // Asked between layers; true abandons the call.
  const std::function<bool()>* should_stop = nullptr;
};

class Network {
 public:
  virtual ~Network() = default;
  // From token ids to the normed hidden state of each that is wanted, in its row of
  // activations->hidden. Writes the KV cache at [position, position + tokens), and moves the
  // recurrent state on by as many tokens. Returns false if it was stopped. Throws Error on a failed
  // read of an expert.
  virtual bool forward(std::span<const uint32_t> ids, const Run& run) const = 0;
  // logits [n, vocabulary] of n normed hidden states [n, hidden]; the same bits for every n.
  // Requires: n ≤ the chunk that the activations were laid out for.
  virtual void logits(const float* hidden, uint32_t n, Run& run, float* logits) const = 0;
};

// Names of the experts of every MoE layer, for ExpertSource; empty for a dense model. As this
// checkpoint has them, or by config.names.
std::vector<ExpertNames> expert_names(const ModelConfig& config, const Checkpoint& checkpoint);
std::vector<ExpertNames> expert_names(const ModelConfig& config);

// The network of config.model_type. Throws Error naming what is wrong or unknown.
std::unique_ptr<const Network> make_network(const ModelConfig& config, Trunk& trunk,
                                            const ExpertSource* experts);

}  // namespace sluice
