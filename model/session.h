// Model and Session: a loaded checkpoint, and one conversation with it.
//
//   Model model = Model::load(dir, options, progress);
//   Session session(model);
//   std::span<const float> logits = session.prefill(prompt_ids);   // of the last position
//   for (;;) { id = sampler.sample(logits); logits = session.decode(id); }
//
// A Model owns the trunk, the expert stream and the worker threads; a Session owns its KV cache,
// recurrent state and scratch, and nothing is global. One thread calls into a Model and its
// Sessions, from the first token on to their destructors: what was read ahead may still be on its
// way between calls.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/read_queue.h"
#include "model/config.h"
#include "model/plan.h"
#include "model/routing_observer.h"
#include "stream/expert_stream.h"

namespace sluice {

enum class Compute : uint8_t {
  int16,  // default: TurboQuant matrices by exact integer dot products of 16-bit inputs, F16 KV
          // cache
  f32,    // reference: float32 everywhere, F32 KV cache
};

struct ModelOptions {
  BudgetRequest budget;
  uint64_t context = 0;  // positions to plan for; 0: min(max_positions, 4096)
  uint32_t threads = 0;  // 0: as many as this process may run on
  Compute compute = Compute::int16;
  ReadBackend io_backend = ReadBackend::automatic;
  uint32_t io_depth = 16;
  Bounce bounce = Bounce::automatic;  // stream/bounce_buffers.h
  // How many of the experts that the next layer will likely want for a token are read while the
  // device has time; 0: none. Not given: all that a token uses, half or none, whichever pays. Where
  // many tokens want nearly all experts of a layer, all of them are, unless this is 0.
  std::optional<uint32_t> look_ahead;
  uint32_t prefill_chunk = 512;  // tokens; never changes the output
  // Positions whose logits are computed together when many are asked for: each is one vocabulary of
  // floats. Never changes the output.
  uint32_t logits_batch = 1;
  std::string cache_policy = "lru";
  // Experts to read before the first token and keep (stream/calibration_files.h), hottest first, as
  // far as 60 % of the budget; empty: hot_experts.json of the model directory, if it is there.
  std::string pin_file;
  bool no_hotlist = false;  // leaves that hot_experts.json alone
  // Routing goes here (stream/trace.h), of decoded tokens; empty: nowhere.
  std::string trace_file;
  // Hears of the same routing; borrowed, must outlive the model. Null: none.
  RoutingObserver* routing_observer = nullptr;
  bool trace_prefill = false;  // of prompt tokens too, for both
  // Tests put a queue that delays, reorders and fails in the place of the back end.
  std::function<std::unique_ptr<ReadQueue>()> make_queue;
};

// What pins brought into the cache when the model was loaded.
struct PinReport {
  std::string file;     // empty: none was given or found
  uint32_t listed = 0;  // in the file
  uint32_t pinned = 0;  // of them, the first ones that fit
  uint64_t bytes = 0;   // the cache's slots for them
};

// What Model::load took, part by part.
struct LoadReport {
  double headers_seconds = 0;  // config, tensor tables, plan, the cache and its trial
  double trunk_seconds = 0;    // reading it
  uint64_t trunk_bytes = 0;
  double pins_seconds = 0;     // reading them
  double network_seconds = 0;  // bringing it into the kernels' order
};

class Model;

// Called from the loading or computing thread.
struct Progress {
  std::function<void(const Model&)>
      planned;  // before the trunk is read: plan and back end are known
  std::function<void(uint64_t done, uint64_t total)>
      trunk_bytes;  // while loading, pinned experts included
  std::function<void(uint64_t done, uint64_t total)> prompt_tokens;  // while prefilling
};

class Model {
 public:
  // Throws Error: anything wrong with the directory, a budget below the floor, out of memory, pins
  // that are not this model's, a trace that cannot be written.
  static Model load(const std::string& directory, const ModelOptions& options,
                    const Progress& progress = {});
  Model(Model&&) noexcept;
  ~Model();

  const ModelConfig& config() const;
  const MemoryPlan& plan() const;
  bool has_experts() const;
  uint64_t context() const;  // positions a session may hold
  uint32_t threads() const;
  std::string io_description() const;  // "io_uring, direct reads", "pread ×8, buffered reads (…)"
  std::string slab_description() const;  // "huge pages", …; empty for dense models
  uint32_t cache_slots() const;          // 0 for dense models
  const PinReport& pins() const;
  const LoadReport& load_report() const;
  StreamStatistics stream_statistics() const;
  void reset_stream_statistics();

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class Session {
 public:
  // Borrows model (must outlive this). Throws Error (out of memory).
  explicit Session(Model& model);
  ~Session();

  // Appends ids and returns the logits [vocabulary] after the last; valid until the next call.
  // on_logits, if given, gets the logits of every position from `logits_from` on, in order.
  // should_stop, if given, is asked between chunks and layers; when it says true the call returns
  // an empty span and the session must be destroyed or reset. Throws Error: an id outside the
  // vocabulary, more positions than the context, a failed read. After a failed read the same ids
  // may be given again, but a session with recurrent layers must be reset first.
  using LogitsSink = std::function<void(uint64_t position, std::span<const float> logits)>;
  std::span<const float> prefill(std::span<const uint32_t> ids, const LogitsSink& on_logits = {},
                                 const std::function<bool()>& should_stop = {},
                                 const Progress& progress = {}, uint64_t logits_from = 0);
  // One token. Same result as prefill of one id, to the bit. Throws Error as prefill, and when the
  // trace cannot be written.
  std::span<const float> decode(uint32_t id);

  uint64_t position() const;  // tokens held
  void reset();               // forgets all tokens

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
