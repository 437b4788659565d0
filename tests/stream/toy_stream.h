// A toy model's experts behind a stream over a simulated device, and what is submitted to it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "stream/expert_stream.h"
#include "tests/io/simulated_queue.h"
#include "tests/stream/toy_checkpoint.h"

namespace sluice {

// Sees what is submitted before it goes on to the simulated device.
class RecordingQueue final : public ReadQueue {
 public:
  explicit RecordingQueue(const SimulatedQueue::Options& options) : device(options) {}

  void submit(std::span<const ReadRequest> requests) override {
    batches.emplace_back(requests.begin(), requests.end());
    device.submit(requests);
  }
  size_t poll(std::span<ReadResult> results) override { return device.poll(results); }
  size_t wait(std::span<ReadResult> results) override {
    ++waits;
    return device.wait(results);
  }
  void promote(uint64_t tag) override { device.promote(tag); }
  void cancel(uint64_t tag) override { device.cancel(tag); }
  size_t in_flight() const override { return device.in_flight(); }
  ReadStatistics statistics() const override { return device.statistics(); }
  std::string description() const override { return device.description(); }
  bool register_buffer(std::span<std::byte> memory) override {
    registered.push_back(memory);
    return false;
  }
  void bounce_through(std::span<std::byte> memory) override { device.bounce_through(memory); }

  SimulatedQueue device;
  std::vector<std::vector<ReadRequest>> batches;
  std::vector<std::span<std::byte>> registered;
  int waits = 0;
};

// A toy model, its files, and a device. stream(slots) makes the stream under test.
struct ToyStream {
  explicit ToyStream(std::vector<ToyLayer> layers, double max_padding_share = kMaxPaddingShare,
                     SimulatedQueue::Options options = {}, uint32_t shards = 2)
      : toy(std::move(layers), shards, static_cast<uint32_t>(options.seed)),
        source(toy.source(max_padding_share)),
        queue(options) {
    for (const std::string& path : toy.files()) {
      files.push_back(std::make_unique<DirectFile>(path, /*allow_direct=*/false));
      file_pointers.push_back(files.back().get());
    }
  }

  ExpertStream stream(uint64_t slots, uint32_t sweep_slots = 0) {
    return ExpertStream(source, file_pointers, queue,
                        {.budget_bytes = slots * source.slot_bytes(),
                         .policy = "lru",
                         .experts_per_token = 1,
                         .sweep_slots = sweep_slots,
                         .bounce = bounce});
  }

  // Fetches, checks every byte, releases each at once. Returns the experts in the order they came.
  std::vector<uint32_t> visit(ExpertStream& stream, uint32_t layer,
                              const std::vector<uint32_t>& experts,
                              FetchMode mode = FetchMode::decode) {
    std::vector<uint32_t> order;
    ExpertStream::Fetch fetch = stream.fetch(layer, experts, mode);
    while (const auto i = fetch.next()) {
      EXPECT_TRUE(toy.holds(layer, experts[*i], fetch.view(*i))) << "expert " << experts[*i];
      order.push_back(experts[*i]);
      fetch.release(*i);
    }
    EXPECT_TRUE(fetch.done());
    return order;
  }

  Bounce bounce = Bounce::off;  // of streams to be made
  ToyModel toy;
  ExpertSource source;
  RecordingQueue queue;
  std::vector<std::unique_ptr<DirectFile>> files;
  std::vector<const DirectFile*> file_pointers;
};

inline std::vector<uint32_t> first_experts(uint32_t count) {
  std::vector<uint32_t> experts(count);
  std::iota(experts.begin(), experts.end(), 0u);
  return experts;
}

}  // namespace sluice
