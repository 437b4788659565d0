// ExpertStream: experts of a layer, on demand, from cache or disk.
//
//   ExpertStream::Fetch fetch = stream.fetch(layer, experts, FetchMode::decode);
//   while (auto i = fetch.next()) {          // residents first, then misses in the order they land
//     compute(fetch.view(*i), ...);
//     fetch.release(*i);
//   }
//
// fetch() looks all experts up at once and submits every missing slice of the layer in one batch,
// demand class, before the first one is handed out; if the cache has fewer free slots than misses,
// the rest is submitted as leases are released. In sweep mode (prefill of many tokens) experts are
// visited in disk order and the misses use only a ring of slots, recycling their own, so that the
// sweep does not flush what decode has warmed.
//
// A read error ends the fetch: next() throws Error naming layer, expert, file and offset; the cache
// stays valid and the failed slot empty.
//
// Owns: the cache, the staging and the bounce buffers. Borrows: source, queue, files (must outlive
// this). Threads: one; views may be read by any thread between next() and release().
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cache/expert_cache.h"
#include "io/read_queue.h"
#include "stream/bounce_buffers.h"
#include "stream/expert_source.h"

namespace sluice {

enum class FetchMode : uint8_t { decode, sweep };

struct StreamStatistics {
  CacheStatistics cache;
  ReadStatistics reads;
  uint64_t wait_us = 0;  // time spent blocked in fetch() and next()
};

class ExpertStream {
 public:
  struct Options {
    uint64_t budget_bytes = 0;
    std::string policy = "lru";
    uint32_t experts_per_token = 1;  // the budget must hold this many: floor_bytes()
    uint32_t sweep_slots = 0;        // ring of a sweep; 0: chosen from the budget
    Bounce bounce = Bounce::automatic;
  };
  // files: opened shards by Checkpoint file index; those without experts may be null.
  // May read, to find out whether bouncing pays: the queue is then bound to this thread.
  // Throws Error (budget below floor_bytes(), out of memory).
  ExpertStream(const ExpertSource& source, std::span<const DirectFile* const> files,
               ReadQueue& queue, const Options& options);
  ~ExpertStream();

  // The least budget: experts_per_token slots of one layer.
  static uint64_t floor_bytes(const ExpertSource& source, uint32_t experts_per_token);
  // Memory beside the budget: staging and bounce buffers, and tables.
  static uint64_t overhead_bytes(const ExpertSource& source, uint64_t budget_bytes, Bounce bounce);

  class Fetch {
   public:
    Fetch(Fetch&&) noexcept;
    ~Fetch();  // waits for its reads, releases its leases
    // Index into the experts given to fetch() of one that is ready to read; each comes once;
    // nullopt after the last. next() waits, try_next() returns nullopt when none is ready at the
    // moment. Throws Error on a failed read. Requires for progress when the budget is small:
    // release().
    std::optional<uint32_t> next();
    std::optional<uint32_t> try_next();
    // Whether all were handed out.
    bool done() const;
    // Whether all are ready to read, or were.
    bool all_ready() const;
    // Valid until release(i). Requires: i was returned by next()/try_next() and not released.
    ExpertView view(uint32_t i) const;
    void release(uint32_t i);

   private:
    friend class ExpertStream;
    struct State;
    explicit Fetch(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };

  // layer: index of the source. experts: distinct ids. One fetch at a time.
  Fetch fetch(uint32_t layer, std::span<const uint32_t> experts, FetchMode mode);

  // Reads those of the experts that are missing, in one batch, and pins them all, in their order,
  // as far as the cache's share of pins allows. Returns how many are pinned. Throws Error on a
  // failed read. Requires: as fetch().
  uint32_t preload(uint32_t layer, std::span<const uint32_t> experts);

  // Experts of a layer that are likely wanted soon, likeliest first. Those that are missing are
  // read with what the device has to spare: in the speculative class, once no demanded read waits
  // to start and only the last few are on their way, and dropped when the next fetch() comes and
  // does not want them. Replaces what an earlier call asked for and was not started. To be called
  // during the fetch of the layer before, or after it. For a sweep to come they are read in the
  // order of the disk, into slots that sweeps may take.
  void look_ahead(uint32_t layer, std::span<const uint32_t> experts,
                  FetchMode mode = FetchMode::decode);

  // Lets the queue make progress (reap, submit what waits) without blocking; call between pieces of
  // compute, also while experts of a fetch are handed out.
  void poll();

  StreamStatistics statistics() const;
  void reset_statistics();
  const ExpertCache& cache() const;
  // Whether reads land in bounce buffers first.
  bool bounces() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
