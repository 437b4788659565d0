#include "stream/expert_stream.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include "io/check.h"
#include "io/error.h"

namespace sluice {
namespace {

// Staging buffers: the pieces that are at the device at once (ModelOptions::io_depth is 16), as
// more could not be filled any faster.
constexpr uint32_t kMaxStagingBuffers = 16;
// What a sweep's ring should hold: twice the pieces that are at the device at once, so that the
// next experts are on their way while the ones that landed are computed.
constexpr uint64_t kSweepPieces = 32;
// A sweep takes at most this share of the slots from what decode has warmed.
constexpr uint32_t kSweepShare = 4;

constexpr uint32_t kNoBuffer = 0xffffffff;

uint64_t expert_keys(const ExpertSource& source) {
  return uint64_t{source.layers()} * source.experts();
}

uint64_t staging_buffers(const ExpertSource& source, uint64_t slots) {
  return source.packed() ? std::min<uint64_t>(slots, kMaxStagingBuffers) : 0;
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
//      (residents start at ready)                │ a read failed                        release()
//                                                └──────────────────────────────────────────►
//                                                released
enum class Phase : uint8_t { waiting, loading, ready, handed, released };

struct Item {
  uint32_t expert = 0;
  uint32_t slot = kNoSlot;
  uint32_t staging = kNoBuffer;  // packed: the buffer its extents are read into, while loading
  uint32_t outstanding = 0;      // loading: bit i is set until extent i's result came
  Phase phase = Phase::waiting;
  bool missed = false;
  bool failed = false;  // a read of it ended in an error
  ExpertSource::ExpertPlan plan;
};

// A request's tag names the expert and the extent it reads.
uint64_t make_tag(uint32_t item, uint32_t extent) { return uint64_t{item} << 32 | extent; }
uint32_t tag_item(uint64_t tag) { return static_cast<uint32_t>(tag >> 32); }
uint32_t tag_extent(uint64_t tag) { return static_cast<uint32_t>(tag); }

}  // namespace

struct ExpertStream::Impl {
  Impl(const ExpertSource& expert_source, std::span<const DirectFile* const> expert_files,
       ReadQueue& read_queue, const Options& options);

  void set_swept(uint32_t slot, bool value) {
    swept_count += value;
    swept_count -= swept[slot];
    swept[slot] = value;
  }
  // Whether the next miss would evict what decode has warmed.
  bool next_evicts_warm() const {
    const uint32_t slot = cache.next_eviction();
    return slot != kNoSlot && !swept[slot];
  }

  const ExpertSource& source;
  std::vector<const DirectFile*> files;
  ReadQueue& queue;
  ExpertCache cache;
  std::vector<ExpertSource::Places> places;  // [slots]: of the expert that is in it
  // [slots]: holds what no decode has wanted, only sweeps. A sweep recycles such slots, and evicts
  // anything else only while there are fewer of them than sweep_slots.
  std::vector<bool> swept;
  uint32_t swept_count = 0;
  std::unique_ptr<Slab> staging;  // packed: buffers of source.staging_bytes()
  std::vector<uint32_t> free_staging;
  uint32_t sweep_slots = 0;
  uint64_t wait_us = 0;
  ReadStatistics reads_before;          // the queue's, when ours were last reset
  std::unique_ptr<Fetch::State> spare;  // between fetches: keeps its vectors' memory
  Fetch::State* active = nullptr;       // the one fetch that is under way
};

ExpertStream::Impl::Impl(const ExpertSource& expert_source,
                         std::span<const DirectFile* const> expert_files, ReadQueue& read_queue,
                         const Options& options)
    : source(expert_source),
      files(expert_files.begin(), expert_files.end()),
      queue(read_queue),
      cache(cache_options(expert_source, options)),
      places(cache.slots()),
      swept(cache.slots()),
      sweep_slots(sweep_ring(expert_source, cache.slots(), options.sweep_slots)) {
  queue.register_buffer(cache.slab());
  if (const auto buffers = static_cast<uint32_t>(staging_buffers(source, cache.slots()))) {
    staging = std::make_unique<Slab>(buffers * source.staging_bytes());
    queue.register_buffer(staging->bytes());
    for (uint32_t buffer = buffers; buffer-- > 0;) free_staging.push_back(buffer);
  }
  reads_before = queue.statistics();
}

// The state machine of one fetch. Its vectors are reused by the next.
struct ExpertStream::Fetch::State {
  explicit State(Impl& owner) : impl(owner) {}

  void start(uint32_t layer_index, std::span<const uint32_t> experts, FetchMode fetch_mode);
  void finish() noexcept;
  std::optional<uint32_t> take_ready();
  void reap(bool wait);
  void submit_misses();

  bool start_miss(uint32_t index);
  void add_requests(uint32_t index);
  void handle(const ReadResult& result);
  void land(Item& item);
  void give_up(Item& item);
  void end_lease(Item& item);
  void drain();
  bool finished() const { return handed == items.size(); }

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
  std::vector<ReadRequest> requests;
  std::array<ReadResult, 64> results;
};

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
  items.resize(experts.size());  // fresh: finish() cleared them
  for (uint32_t index = 0; index < experts.size(); ++index) {
    items[index].expert = experts[index];
    const ExpertKey key{layer, experts[index]};
    if (!impl.cache.resident(key)) {
      misses.push_back(index);
      continue;
    }
    items[index].slot = impl.cache.acquire(key).slot;
    if (mode == FetchMode::decode) impl.set_swept(items[index].slot, false);
    items[index].phase = Phase::ready;
    ready.push_back(index);
  }
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
  requests.clear();
  while (next_miss < misses.size() && start_miss(misses[next_miss])) ++next_miss;
  if (!requests.empty()) impl.queue.submit(requests);
}

// Leases a slot for the item's expert and adds its reads to requests. False if it has to wait.
bool ExpertStream::Fetch::State::start_miss(uint32_t index) {
  if (mode == FetchMode::sweep) {
    if (misses_held == impl.sweep_slots) return false;
    if (impl.swept_count >= impl.sweep_slots && impl.next_evicts_warm()) return false;
  }
  if (impl.staging && impl.free_staging.empty()) return false;
  Item& item = items[index];
  const ExpertCache::Lease lease = impl.cache.acquire({layer, item.expert});
  if (lease.outcome == ExpertCache::Outcome::full) return false;
  // Anything else than a miss: the same expert was asked for twice in one fetch.
  SLUICE_CHECK(lease.outcome == ExpertCache::Outcome::miss);
  item.slot = lease.slot;
  impl.set_swept(item.slot, mode == FetchMode::sweep);
  item.missed = true;
  item.phase = Phase::loading;
  if (impl.staging) {
    item.staging = impl.free_staging.back();
    impl.free_staging.pop_back();
  }
  ++loading;
  ++misses_held;
  add_requests(index);
  return true;
}

void ExpertStream::Fetch::State::add_requests(uint32_t index) {
  Item& item = items[index];
  item.plan = impl.source.plan(layer, item.expert);
  std::byte* destination = impl.staging
                               ? impl.staging->data() + item.staging * impl.source.staging_bytes()
                               : impl.cache.slot_data(item.slot);
  for (uint32_t i = 0; i < item.plan.extents.size(); ++i) {
    const Extent& extent = item.plan.extents[i];
    SLUICE_CHECK(extent.file < impl.files.size() && impl.files[extent.file] != nullptr);
    requests.push_back({.file = impl.files[extent.file],
                        .offset = extent.offset,
                        .size_bytes = extent.size_bytes,
                        .needed_bytes = extent.needed_bytes,
                        .destination = destination,
                        .tag = make_tag(index, i),
                        .deadline = Deadline::demand});
    destination += extent.size_bytes;
    item.outstanding |= 1u << i;
  }
}

void ExpertStream::Fetch::State::reap(bool wait) {
  const size_t count = wait ? impl.queue.wait(results) : impl.queue.poll(results);
  for (size_t i = 0; i < count; ++i) handle(results[i]);
  if (count > 0) submit_misses();
}

void ExpertStream::Fetch::State::handle(const ReadResult& result) {
  const uint32_t index = tag_item(result.tag);
  const uint32_t extent = tag_extent(result.tag);
  SLUICE_CHECK(index < items.size() && (items[index].outstanding >> extent & 1u) != 0);
  Item& item = items[index];
  item.outstanding &= ~(1u << extent);
  if (result.error != 0) {
    item.failed = true;
    if (error.empty() && result.error != ReadResult::kCancelled) {
      const DirectFile& file = *impl.files[item.plan.extents[extent].file];
      error = "layer " + std::to_string(impl.source.model_layer(layer)) + ", expert " +
              std::to_string(item.expert) + ": " + read_error_text(result, file);
    }
  }
  if (item.outstanding != 0) return;
  --loading;
  if (item.failed) {
    give_up(item);
  } else {
    land(item);
    ready.push_back(index);
  }
  if (item.staging != kNoBuffer) impl.free_staging.push_back(item.staging);
  item.staging = kNoBuffer;
}

// All extents of the item are in memory.
void ExpertStream::Fetch::State::land(Item& item) {
  if (impl.staging) {
    const std::byte* from = impl.staging->data() + item.staging * impl.source.staging_bytes();
    std::byte* to = impl.cache.slot_data(item.slot);
    for (const ExpertSource::Copy& copy : item.plan.copies) {
      std::memcpy(to + copy.to, from + copy.from, static_cast<size_t>(copy.size_bytes));
    }
  }
  impl.places[item.slot] = item.plan.places;
  impl.cache.complete(item.slot);
  item.phase = Phase::ready;
}

void ExpertStream::Fetch::State::give_up(Item& item) {
  impl.set_swept(item.slot, false);
  impl.cache.fail(item.slot);
  impl.cache.release(item.slot);
  --misses_held;
  item.phase = Phase::released;
}

void ExpertStream::Fetch::State::end_lease(Item& item) {
  impl.cache.release(item.slot, impl.swept[item.slot] ? Retention::cold : Retention::keep);
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
  for (uint32_t index = 0; index < items.size(); ++index) {
    for (uint32_t left = items[index].outstanding, extent = 0; left != 0; left >>= 1, ++extent) {
      if ((left & 1u) != 0) impl.queue.cancel(make_tag(index, extent));
    }
  }
  next_miss = misses.size();
  while (loading > 0) reap(/*wait=*/true);
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
    // handed out, and waiting would be for ever. The caller has to release() first.
    SLUICE_CHECK(state.loading > 0);
    const auto start = std::chrono::steady_clock::now();
    state.reap(/*wait=*/true);
    const auto waited = std::chrono::steady_clock::now() - start;
    state.impl.wait_us += static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(waited).count());
  }
}

std::optional<uint32_t> ExpertStream::Fetch::try_next() {
  State& state = *state_;
  if (state.loading > 0) state.reap(/*wait=*/false);
  if (!state.error.empty()) {
    state.drain();
    throw Error(state.error);
  }
  return state.take_ready();
}

bool ExpertStream::Fetch::done() const { return state_->finished(); }

ExpertView ExpertStream::Fetch::view(uint32_t i) const {
  SLUICE_CHECK(i < state_->items.size() && state_->items[i].phase == Phase::handed);
  const Impl& impl = state_->impl;
  const uint32_t slot = state_->items[i].slot;
  return impl.source.view(impl.places[slot], state_->layer, impl.cache.slot_data(slot));
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

uint64_t ExpertStream::overhead_bytes(const ExpertSource& source) {
  const uint64_t keys = expert_keys(source);
  return staging_buffers(source, keys) * source.staging_bytes() + ExpertCache::table_bytes(keys) +
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

void ExpertStream::poll() {
  if (impl_->active != nullptr && impl_->active->loading > 0) impl_->active->reap(/*wait=*/false);
}

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

}  // namespace sluice
