#include "stream/expert_stream.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "io/check.h"
#include "io/error.h"
#include "stream/expert_loads.h"
#include "stream/look_ahead.h"
#include "stream/sweep_slots.h"

namespace sluice {
namespace {

// What a sweep's ring should hold: twice the pieces that are at the device at once, so that the
// next experts are on their way while the ones that landed are computed.
constexpr uint64_t kSweepPieces = 32;
// The demanded reads besides which others may be at the device.
constexpr uint64_t kLastReadsBytes = 4 * kPieceBytes;
// A sweep takes at most this share of the slots from what decode has warmed.
constexpr uint32_t kSweepShare = 4;

uint64_t expert_keys(const ExpertSource& source) {
  return uint64_t{source.layers()} * source.experts();
}

uint32_t sweep_ring(const ExpertSource& source, uint32_t slots, uint32_t asked) {
  if (asked > 0) return std::min(asked, slots);
  const uint64_t pieces_per_expert = (source.expert_bytes() + kPieceBytes - 1) / kPieceBytes;
  const uint64_t wanted = (kSweepPieces + pieces_per_expert - 1) / pieces_per_expert;
  const uint64_t ring = std::min<uint64_t>(wanted, slots / kSweepShare);
  return std::max(static_cast<uint32_t>(ring), std::min(slots, 2u));
}

ExpertCache::Options cache_options(const ExpertSource& source,
                                   const ExpertStream::Options& options) {
  const uint64_t floor_bytes = ExpertStream::floor_bytes(source, options.experts_per_token);
  if (options.budget_bytes < floor_bytes) {
    throw Error("a cache budget of ", options.budget_bytes, " bytes is below the floor of ",
                floor_bytes, ": ", options.experts_per_token, " experts of ", source.slot_bytes(),
                " bytes must fit at once; raise the cache budget");
  }
  return {.layers = source.layers(),
          .experts = source.experts(),
          .slot_bytes = source.slot_bytes(),
          .budget_bytes = options.budget_bytes,
          .expert_bytes = source.expert_bytes(),
          .policy = options.policy};
}

// What was read between two looks at a queue.
ReadStatistics operator-(const ReadStatistics& now, const ReadStatistics& before) {
  return {.requests = now.requests - before.requests,
          .pieces = now.pieces - before.pieces,
          .bytes_demanded = now.bytes_demanded - before.bytes_demanded,
          .bytes_speculated = now.bytes_speculated - before.bytes_speculated,
          .retries = now.retries - before.retries,
          .busy_us = now.busy_us - before.busy_us};
}

// One expert of a fetch:
//
//   waiting ──slot leased, reads submitted──► loading ──landed──► ready ──next()──► handed ──►
//   released
//      (residents start at ready, those that    │ a read failed                        release()
//       are being read ahead at loading)        └──────────────────────────────────────────►
//                                                released
enum class Phase : uint8_t { waiting, loading, ready, handed, released };

struct Item {
  uint32_t expert = 0;
  uint32_t slot = kNoSlot;
  uint32_t load = 0;  // while loading
  Phase phase = Phase::waiting;
  bool missed = false;
};

}  // namespace

struct ExpertStream::Impl {
  Impl(const ExpertSource& expert_source, std::span<const DirectFile* const> files,
       ReadQueue& read_queue, const Options& options);

  // Takes in what landed, and gives the device what it may have next.
  void reap(bool wait);
  void poll();
  // reap(true), and the time it took.
  void wait();

  const ExpertSource& source;
  ReadQueue& queue;
  ExpertCache cache;
  SweepSlots swept;
  uint64_t wait_us = 0;
  ReadStatistics reads_before;          // the queue's, when ours were last reset
  std::unique_ptr<Fetch::State> spare;  // between fetches: keeps its vectors' memory
  Fetch::State* active = nullptr;       // the one fetch that is under way
  std::optional<BounceBuffers> bounce;  // ends after the loads that use it
  ExpertLoads loads;                    // ends before the slots that it fills
  LookAhead ahead;
};

ExpertStream::Impl::Impl(const ExpertSource& expert_source,
                         std::span<const DirectFile* const> files, ReadQueue& read_queue,
                         const Options& options)
    : source(expert_source),
      queue(read_queue),
      cache(cache_options(expert_source, options)),
      swept(cache, sweep_ring(expert_source, cache.slots(), options.sweep_slots)),
      loads(expert_source, files, read_queue, cache),
      ahead(expert_source, cache, loads, swept) {
  bounce.emplace(expert_source, files, read_queue, cache.slab(), options.bounce);
  reads_before = queue.statistics();
}

// The state machine of one fetch. Its vectors are reused by the next.
struct ExpertStream::Fetch::State {
  explicit State(Impl& owner) : impl(owner) {}

  void start(uint32_t layer_index, std::span<const uint32_t> experts, FetchMode fetch_mode);
  void finish() noexcept;
  std::optional<uint32_t> take_ready();
  void submit_misses();
  void ended(const ExpertLoads::Ended& load);

  bool start_miss(uint32_t index);
  void end_lease(Item& item);
  void drain();
  bool finished() const { return handed == items.size(); }
  // Whether what the device has, or will get, to do for this fetch is more than it could do besides
  // other reads: a read takes long to begin, and the last few alone would leave it half idle.
  bool reading() const {
    const bool waiting = next_miss < misses.size() && error.empty();
    return waiting || loading * impl.source.expert_bytes() > kLastReadsBytes;
  }

  Impl& impl;
  uint32_t layer = 0;
  FetchMode mode = FetchMode::decode;
  std::vector<Item> items;
  std::vector<uint32_t> misses;  // items that need a load, in the order to start them
  size_t next_miss = 0;          // the first of them that waits
  std::vector<uint32_t> ready;   // items in the order they became ready
  size_t next_ready = 0;
  size_t handed = 0;
  uint32_t loading = 0;
  uint32_t misses_held = 0;  // slots leased to them
  std::string error;         // of the first read that failed
};

void ExpertStream::Impl::reap(bool wait) {
  const std::span<const ExpertLoads::Ended> all = loads.reap(wait);
  for (const ExpertLoads::Ended& load : all) {
    ahead.ended(load);
    if (load.owner != ExpertLoads::kNobody) active->ended(load);
  }
  if (!all.empty() && active != nullptr) active->submit_misses();
}

void ExpertStream::Impl::wait() {
  const auto start = std::chrono::steady_clock::now();
  reap(/*wait=*/true);
  const auto waited = std::chrono::steady_clock::now() - start;
  wait_us +=
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(waited).count());
}

void ExpertStream::Impl::poll() {
  if (loads.under_way() > 0) reap(/*wait=*/false);
  if (active == nullptr || !active->reading()) ahead.start();
}

// Residents are leased before the first miss takes a slot, so that no miss evicts what this very
// fetch is about to use.
void ExpertStream::Fetch::State::start(uint32_t layer_index, std::span<const uint32_t> experts,
                                       FetchMode fetch_mode) {
  layer = layer_index;
  mode = fetch_mode;
  misses.clear();
  ready.clear();
  next_miss = next_ready = handed = 0;
  misses_held = 0;
  error.clear();
  while (impl.ahead.dropping_any(layer, experts)) impl.wait();
  items.resize(experts.size());  // fresh: finish() cleared them
  for (uint32_t index = 0; index < experts.size(); ++index) {
    Item& item = items[index];
    item.expert = experts[index];
    const ExpertKey key{layer, experts[index]};
    const std::optional<uint32_t> load = impl.ahead.loading(key);
    if (!load && !impl.cache.resident(key)) {
      misses.push_back(index);
      continue;
    }
    item.slot = impl.cache.acquire(key).slot;
    if (mode == FetchMode::decode) impl.swept.set(item.slot, false);
    if (load) {
      impl.loads.adopt(*load, index);
      item.load = *load;
      item.phase = Phase::loading;
      ++loading;
    } else {
      item.phase = Phase::ready;
      ready.push_back(index);
    }
  }
  impl.ahead.let_go();
  if (mode == FetchMode::sweep) {
    std::sort(misses.begin(), misses.end(), [&](uint32_t a, uint32_t b) {
      return impl.source.disk_order(layer, items[a].expert) <
             impl.source.disk_order(layer, items[b].expert);
    });
  }
  submit_misses();
}

void ExpertStream::Fetch::State::submit_misses() {
  if (!error.empty()) return;
  while (next_miss < misses.size() && start_miss(misses[next_miss])) ++next_miss;
  impl.loads.submit();
}

// Leases a slot for the item's expert and starts its load. False if it has to wait.
bool ExpertStream::Fetch::State::start_miss(uint32_t index) {
  if (mode == FetchMode::sweep) {
    if (misses_held == impl.swept.share() || !impl.swept.may_take_next()) return false;
  }
  if (!impl.loads.room()) return false;
  Item& item = items[index];
  const ExpertKey key{layer, item.expert};
  const ExpertCache::Lease lease = impl.cache.acquire(key);
  if (lease.outcome == ExpertCache::Outcome::full) return false;
  // Anything else than a miss: the same expert was asked for twice in one fetch.
  SLUICE_CHECK(lease.outcome == ExpertCache::Outcome::miss);
  item.slot = lease.slot;
  impl.swept.set(item.slot, mode == FetchMode::sweep);
  item.missed = true;
  item.phase = Phase::loading;
  item.load = impl.loads.start(key, item.slot, Deadline::demand, index);
  ++loading;
  ++misses_held;
  return true;
}

void ExpertStream::Fetch::State::ended(const ExpertLoads::Ended& load) {
  Item& item = items[load.owner];
  SLUICE_CHECK(item.phase == Phase::loading && item.load == load.load);
  --loading;
  if (load.ok) {
    item.phase = Phase::ready;
    ready.push_back(load.owner);
    return;
  }
  if (error.empty()) error = load.error;
  impl.swept.set(item.slot, false);
  end_lease(item);
}

void ExpertStream::Fetch::State::end_lease(Item& item) {
  impl.cache.release(item.slot, impl.swept.contains(item.slot) ? Retention::cold : Retention::keep);
  if (item.missed) --misses_held;
  item.phase = Phase::released;
}

std::optional<uint32_t> ExpertStream::Fetch::State::take_ready() {
  if (next_ready == ready.size()) return std::nullopt;
  const uint32_t index = ready[next_ready++];
  items[index].phase = Phase::handed;
  ++handed;
  return index;
}

// Waits until nothing of this fetch is at the device; what had not started is dropped.
void ExpertStream::Fetch::State::drain() {
  for (const Item& item : items) {
    if (item.phase == Phase::loading) impl.loads.cancel(item.load);
  }
  next_miss = misses.size();
  while (loading > 0) impl.reap(/*wait=*/true);
}

void ExpertStream::Fetch::State::finish() noexcept {
  drain();
  for (Item& item : items) {
    if (item.phase == Phase::ready || item.phase == Phase::handed) end_lease(item);
  }
  items.clear();
}

ExpertStream::Fetch::Fetch(std::unique_ptr<State> state) : state_(std::move(state)) {}

ExpertStream::Fetch::Fetch(Fetch&&) noexcept = default;

ExpertStream::Fetch::~Fetch() {
  if (!state_) return;
  state_->finish();
  Impl& impl = state_->impl;
  impl.active = nullptr;
  impl.spare = std::move(state_);
}

std::optional<uint32_t> ExpertStream::Fetch::next() {
  State& state = *state_;
  for (;;) {
    if (const auto index = try_next()) return index;
    if (state.finished()) return std::nullopt;
    // Nothing is on its way although experts are missing: all slots are leased to experts that were
    // handed out, and waiting would be for ever. The caller has to release() first. (A load that
    // was dropped gives its slot back when it ends.)
    SLUICE_CHECK(state.impl.loads.under_way() > 0);
    state.impl.wait();
  }
}

std::optional<uint32_t> ExpertStream::Fetch::try_next() {
  State& state = *state_;
  state.impl.poll();
  if (!state.error.empty()) {
    state.drain();
    throw Error(state.error);
  }
  return state.take_ready();
}

bool ExpertStream::Fetch::done() const { return state_->finished(); }
bool ExpertStream::Fetch::all_ready() const { return state_->ready.size() == state_->items.size(); }

ExpertView ExpertStream::Fetch::view(uint32_t i) const {
  SLUICE_CHECK(i < state_->items.size() && state_->items[i].phase == Phase::handed);
  const Impl& impl = state_->impl;
  const uint32_t slot = state_->items[i].slot;
  return impl.loads.view(slot, state_->layer);
}

void ExpertStream::Fetch::release(uint32_t i) {
  State& state = *state_;
  SLUICE_CHECK(i < state.items.size() && state.items[i].phase == Phase::handed);
  state.end_lease(state.items[i]);
  state.submit_misses();
}

ExpertStream::ExpertStream(const ExpertSource& source, std::span<const DirectFile* const> files,
                           ReadQueue& queue, const Options& options)
    : impl_(std::make_unique<Impl>(source, files, queue, options)) {
  impl_->spare = std::make_unique<Fetch::State>(*impl_);
}

ExpertStream::~ExpertStream() = default;

uint64_t ExpertStream::floor_bytes(const ExpertSource& source, uint32_t experts_per_token) {
  return experts_per_token * source.slot_bytes();
}

uint64_t ExpertStream::overhead_bytes(const ExpertSource& source, uint64_t budget_bytes,
                                      Bounce bounce) {
  const uint64_t keys = expert_keys(source);
  return ExpertLoads::staging_buffers(source, keys) * source.staging_bytes() +
         BounceBuffers::bytes(source, budget_bytes, bounce) + ExpertCache::table_bytes(keys) +
         keys * sizeof(ExpertSource::Places);
}

ExpertStream::Fetch ExpertStream::fetch(uint32_t layer, std::span<const uint32_t> experts,
                                        FetchMode mode) {
  SLUICE_CHECK(layer < impl_->source.layers());
  SLUICE_CHECK(impl_->active == nullptr);  // one fetch at a time
  Fetch fetch(std::move(impl_->spare));
  impl_->active = fetch.state_.get();
  impl_->active->start(layer, experts, mode);
  return fetch;
}

uint32_t ExpertStream::preload(uint32_t layer, std::span<const uint32_t> experts) {
  const uint32_t room = impl_->cache.max_pinned() - impl_->cache.pinned();
  const std::span<const uint32_t> wanted = experts.first(std::min<size_t>(room, experts.size()));
  uint32_t pinned = 0;
  Fetch loads = fetch(layer, wanted, FetchMode::decode);
  while (const auto i = loads.next()) {
    pinned += impl_->cache.pin({layer, wanted[*i]});
    loads.release(*i);
  }
  return pinned;
}

void ExpertStream::look_ahead(uint32_t layer, std::span<const uint32_t> experts, FetchMode mode) {
  SLUICE_CHECK(layer < impl_->source.layers());
  impl_->ahead.expect(layer, experts, mode == FetchMode::sweep);
  impl_->poll();
}

void ExpertStream::poll() { impl_->poll(); }

StreamStatistics ExpertStream::statistics() const {
  return {.cache = impl_->cache.statistics(),
          .reads = impl_->queue.statistics() - impl_->reads_before,
          .wait_us = impl_->wait_us};
}

void ExpertStream::reset_statistics() {
  impl_->cache.reset_statistics();
  impl_->reads_before = impl_->queue.statistics();
  impl_->wait_us = 0;
}

const ExpertCache& ExpertStream::cache() const { return impl_->cache; }

bool ExpertStream::bounces() const { return impl_->bounce->in_use(); }

}  // namespace sluice
