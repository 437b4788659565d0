// What is read ahead of its demand: when, how it is found, and what becomes of what nobody wanted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "io/error.h"
#include "tests/stream/toy_stream.h"

namespace sluice {
namespace {

const ToyLayer kPlain{.experts = 8};
const ToyLayer kStacked{.stacked = true, .experts = 8, .hidden = 128, .intermediate = 64};

// A device that delivers what it has whenever it is asked.
SimulatedQueue::Options prompt_device() {
  return {.seed = 1, .shorten = 0, .interrupt = 0, .busy = 0, .progress = 1.0};
}

size_t speculative_requests(const RecordingQueue& queue) {
  size_t count = 0;
  for (const auto& batch : queue.batches) {
    for (const ReadRequest& request : batch) count += request.deadline == Deadline::speculative;
  }
  return count;
}

std::vector<uint32_t> sorted(std::vector<uint32_t> experts) {
  std::ranges::sort(experts);
  return experts;
}

// Until all that may be read ahead is there.
void poll_often(ExpertStream& stream) {
  for (int i = 0; i < 200; ++i) stream.poll();
}

TEST(LookAhead, FindsWhatItReadWithoutADemandedRead) {
  ToyStream bench({kPlain, kPlain}, kMaxPaddingShare, prompt_device());
  ExpertStream stream = bench.stream(12);
  bench.visit(stream, 0, {0, 1});
  stream.look_ahead(1, std::vector<uint32_t>{5, 3});
  poll_often(stream);
  EXPECT_EQ(stream.cache().leased(), 2u);
  const uint64_t demanded = stream.statistics().reads.bytes_demanded;
  EXPECT_EQ(bench.visit(stream, 1, {3, 5}), (std::vector<uint32_t>{3, 5}));
  const StreamStatistics statistics = stream.statistics();
  EXPECT_EQ(statistics.reads.bytes_demanded, demanded);
  EXPECT_EQ(statistics.cache.speculative_loads, 2u);
  EXPECT_EQ(statistics.cache.speculative_used, 2u);
  EXPECT_EQ(statistics.cache.hits, 2u);
  EXPECT_EQ(stream.cache().leased(), 0u);
  stream.cache().check_invariants();
}

TEST(LookAhead, WaitsUntilEveryDemandedReadIsOnItsWay) {
  ToyStream bench({kPlain, kPlain}, kMaxPaddingShare, prompt_device());
  ExpertStream stream = bench.stream(3);
  const std::vector<uint32_t> experts = {0, 1, 2, 3};  // one more than there are slots
  ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::decode);
  stream.look_ahead(1, std::vector<uint32_t>{4});
  poll_often(stream);
  EXPECT_EQ(speculative_requests(bench.queue), 0u);
  while (const auto i = fetch.next()) fetch.release(*i);
  poll_often(stream);
  EXPECT_GT(speculative_requests(bench.queue), 0u);
}

TEST(LookAhead, HandsOverWhatIsStillOnItsWayAndMakesItUrgent) {
  ToyStream bench({kPlain, kPlain}, kMaxPaddingShare, prompt_device());
  ExpertStream stream = bench.stream(12);
  bench.queue.device.hold(true);
  stream.look_ahead(1, std::vector<uint32_t>{6});
  const std::vector<uint32_t> experts = {6};
  ExpertStream::Fetch fetch = stream.fetch(1, experts, FetchMode::decode);
  EXPECT_FALSE(bench.queue.device.promoted().empty());
  EXPECT_EQ(fetch.try_next(), std::nullopt);
  bench.queue.device.hold(false);
  ASSERT_EQ(fetch.next(), 0u);
  EXPECT_TRUE(bench.toy.holds(1, 6, fetch.view(0)));
  EXPECT_EQ(stream.statistics().cache.in_flight_hits, 1u);
  EXPECT_EQ(stream.statistics().cache.speculative_used, 1u);
  EXPECT_EQ(stream.statistics().reads.bytes_speculated, 0u);  // it was wanted in the end
  fetch.release(0);
  EXPECT_EQ(stream.cache().leased(), 0u);
}

TEST(LookAhead, DropsWhatTheLayerDoesNotWant) {
  SimulatedQueue::Options device = prompt_device();
  device.depth = 1;
  ToyStream bench({kPlain, kPlain}, kMaxPaddingShare, device);
  ExpertStream stream = bench.stream(12);
  bench.queue.device.hold(true);
  stream.look_ahead(1, std::vector<uint32_t>{1, 2});
  bench.queue.device.hold(false);
  bench.visit(stream, 1, {7});
  EXPECT_FALSE(bench.queue.device.cancelled().empty());
  poll_often(stream);
  EXPECT_EQ(stream.cache().leased(), 0u);
  EXPECT_EQ(stream.statistics().cache.speculative_used, 0u);
  // What was dropped half-way can be had again at once.
  bench.visit(stream, 1, {2, 1});
  stream.cache().check_invariants();
}

TEST(LookAhead, EvictsFirstWhatItReadInVain) {
  ToyStream bench({kPlain, kPlain}, kMaxPaddingShare, prompt_device());
  ExpertStream stream = bench.stream(4);
  bench.visit(stream, 0, {0, 1, 2});
  stream.look_ahead(1, std::vector<uint32_t>{5});
  poll_often(stream);
  bench.visit(stream, 1, {6});
  EXPECT_FALSE(stream.cache().resident({1, 5}));
  for (const uint32_t expert : {0u, 1u, 2u}) EXPECT_TRUE(stream.cache().resident({0, expert}));
}

TEST(LookAhead, NeverEvictsAnExpertThatIsExpectedToo) {
  ToyStream bench({kPlain, kPlain}, kMaxPaddingShare, prompt_device());
  ExpertStream stream = bench.stream(2);
  bench.visit(stream, 1, {3});
  bench.visit(stream, 0, {0});
  for (const FetchMode mode : {FetchMode::decode, FetchMode::sweep}) {
    stream.look_ahead(1, std::vector<uint32_t>{3, 4, 5}, mode);
    poll_often(stream);
    EXPECT_TRUE(stream.cache().resident({1, 3}));
    EXPECT_EQ(stream.statistics().cache.speculative_loads, 0u);
  }
}

TEST(LookAhead, ReadsForASweepInTheOrderOfTheDiskAndLeavesWhatDecodeWarmed) {
  ToyStream bench({kPlain, kPlain}, kMaxPaddingShare, prompt_device(), 1);
  ExpertStream stream = bench.stream(8, /*sweep_slots=*/2);
  bench.visit(stream, 0, {0, 1, 2, 3, 4, 5});
  bench.queue.batches.clear();
  stream.look_ahead(1, std::vector<uint32_t>{7, 6, 5, 4, 3, 2, 1, 0}, FetchMode::sweep);
  poll_often(stream);
  EXPECT_EQ(stream.statistics().cache.speculative_loads, 2u);
  std::vector<uint32_t> by_place = first_experts(8);
  std::ranges::sort(by_place, {}, [&](uint32_t e) { return bench.source.disk_order(1, e); });
  for (uint32_t i = 0; i < 8; ++i) {
    EXPECT_EQ(stream.cache().resident({1, by_place[i]}), i < 2) << i;
  }
  EXPECT_EQ(sorted(bench.visit(stream, 1, first_experts(8), FetchMode::sweep)), first_experts(8));
  for (uint32_t expert = 0; expert < 6; ++expert) {
    EXPECT_TRUE(stream.cache().resident({0, expert})) << expert;
  }
  EXPECT_EQ(stream.statistics().cache.speculative_used, 2u);
}

TEST(LookAhead, SaysNothingOfAnErrorUntilTheExpertIsWanted) {
  ToyStream bench({kPlain, kPlain}, kMaxPaddingShare, prompt_device());
  ExpertStream stream = bench.stream(12);
  const ExpertSource::ExpertPlan plan = bench.source.plan(1, 4);
  const Extent& extent = plan.extents[0];
  bench.queue.device.fail_range(*bench.file_pointers[extent.file], extent.offset, extent.size_bytes,
                                EIO);
  stream.look_ahead(1, std::vector<uint32_t>{4});
  poll_often(stream);
  EXPECT_EQ(stream.cache().leased(), 0u);
  bench.visit(stream, 1, {0});
  const std::vector<uint32_t> experts = {4};
  {
    ExpertStream::Fetch fetch = stream.fetch(1, experts, FetchMode::decode);
    EXPECT_THROW(fetch.next(), Error);
  }
  bench.queue.device.clear_failures();
  bench.visit(stream, 1, {4});
  stream.cache().check_invariants();
}

TEST(LookAhead, EndsItsReadsWithTheStream) {
  ToyStream bench({kPlain, kPlain}, kMaxPaddingShare, prompt_device());
  {
    ExpertStream stream = bench.stream(12);
    stream.look_ahead(1, std::vector<uint32_t>{1, 2, 3});
  }
  EXPECT_EQ(bench.queue.in_flight(), 0u);
}

// Whatever is expected, whenever, and however the device behaves, every fetch brings the experts it
// asked for, and no lease is left.
TEST(LookAhead, NeverChangesWhatAFetchBrings) {
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    for (const double share : {0.0, 1.0}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", padding share " << share);
      ToyStream bench({kPlain, kStacked}, share, {.seed = seed, .depth = 1 + seed % 5});
      bench.bounce = seed % 3 == 0 ? Bounce::on : Bounce::off;
      ExpertStream stream = bench.stream(1 + seed % 12);
      std::mt19937 random(seed);
      const auto some = [&] {
        std::vector<uint32_t> experts = first_experts(8);
        std::shuffle(experts.begin(), experts.end(), random);
        experts.resize(random() % 9);
        return experts;
      };
      for (int step = 0; step < 60; ++step) {
        const uint32_t layer = random() % 2;
        const std::vector<uint32_t> experts = some();
        const FetchMode mode = random() % 4 == 0 ? FetchMode::sweep : FetchMode::decode;
        ExpertStream::Fetch fetch = stream.fetch(layer, experts, mode);
        stream.look_ahead(1 - layer, some(),
                          random() % 4 == 0 ? FetchMode::sweep : FetchMode::decode);
        size_t count = 0;
        const bool early_end = random() % 8 == 0;
        while (const auto i = fetch.next()) {
          EXPECT_TRUE(bench.toy.holds(layer, experts[*i], fetch.view(*i)));
          fetch.release(*i);
          ++count;
          if (early_end) break;
        }
        if (!early_end) {
          EXPECT_EQ(count, experts.size());
        }
        for (uint32_t polls = random() % 4; polls > 0; --polls) stream.poll();
        stream.cache().check_invariants();
      }
      // Whoever wants an expert whose read was dropped waits for its end.
      for (const uint32_t layer : {0u, 1u}) bench.visit(stream, layer, first_experts(8));
      EXPECT_EQ(stream.cache().leased(), 0u);
    }
  }
}

}  // namespace
}  // namespace sluice
