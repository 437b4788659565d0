// ExpertStream over a simulated device: what is handed out, in which order, and what stays behind
// after errors, early ends and sweeps. expert_stream_files_test.cpp runs it over the real back
// ends.
#include "stream/expert_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "io/error.h"
#include "tests/stream/toy_stream.h"

namespace sluice {
namespace {

using testing::HasSubstr;

std::vector<uint32_t> sorted(std::vector<uint32_t> experts) {
  std::sort(experts.begin(), experts.end());
  return experts;
}

const ToyLayer kPlain{.experts = 8};
const ToyLayer kStacked{.stacked = true, .experts = 8, .hidden = 128, .intermediate = 64};

TEST(ExpertStream, DeliversEveryExpertOnceForEveryLayoutBudgetAndMode) {
  for (uint32_t seed = 1; seed <= 8; ++seed) {
    for (const double share : {0.0, 1.0}) {
      ToyStream bench({kPlain, kStacked}, share, {.seed = seed, .depth = 1 + seed % 5},
                      1 + seed % 3);
      bench.bounce = seed % 4 == 0 ? Bounce::on : Bounce::off;
      std::mt19937 random(seed);
      for (uint64_t slots = 1; slots <= 17; slots += 1 + seed % 2) {
        SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << slots << " slots");
        ExpertStream stream = bench.stream(slots);
        for (int repeat = 0; repeat < 6; ++repeat) {
          std::vector<uint32_t> experts = first_experts(8);
          std::shuffle(experts.begin(), experts.end(), random);
          experts.resize(random() % 9);
          const FetchMode mode = random() % 2 == 0 ? FetchMode::decode : FetchMode::sweep;
          EXPECT_EQ(sorted(bench.visit(stream, random() % 2, experts, mode)), sorted(experts));
          EXPECT_EQ(stream.cache().leased(), 0u);
          EXPECT_EQ(stream.cache().available(), stream.cache().slots());
          stream.cache().check_invariants();
        }
      }
    }
  }
}

TEST(ExpertStream, SubmitsAllMissesOfALayerInOneDemandBatch) {
  ToyStream bench({kStacked}, 1.0);
  ExpertStream stream = bench.stream(8);
  bench.visit(stream, 0, {4});
  bench.queue.batches.clear();
  const std::vector<uint32_t> experts = {1, 4, 6, 2};
  const ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::decode);
  ASSERT_EQ(bench.queue.batches.size(), 1u);
  size_t extents = 0;
  for (const uint32_t expert : {1u, 6u, 2u}) extents += bench.source.plan(0, expert).extents.size();
  EXPECT_EQ(bench.queue.batches[0].size(), extents);
  for (const ReadRequest& request : bench.queue.batches[0]) {
    EXPECT_EQ(request.deadline, Deadline::demand);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(request.destination) % kReadAlignment, 0u);
  }
}

TEST(ExpertStream, HandsOutResidentsFirstInTheOrderGivenWithoutWaiting) {
  ToyStream bench({kPlain});
  ExpertStream stream = bench.stream(8);
  bench.visit(stream, 0, {3, 5, 7});
  bench.queue.device.hold(true);
  bench.queue.waits = 0;
  const std::vector<uint32_t> experts = {7, 0, 3, 1, 5};
  ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::decode);
  EXPECT_EQ(fetch.next(), 0u);
  EXPECT_EQ(fetch.try_next(), 2u);
  EXPECT_EQ(fetch.next(), 4u);
  EXPECT_EQ(fetch.try_next(), std::nullopt);
  EXPECT_FALSE(fetch.done());
  EXPECT_EQ(bench.queue.waits, 0);
  bench.queue.device.hold(false);
  EXPECT_TRUE(fetch.next().has_value());
}

TEST(ExpertStream, KeepsExpertsLeasedUntilTheyAreReleased) {
  ToyStream bench({kPlain});
  ExpertStream stream = bench.stream(8);
  const std::vector<uint32_t> experts = first_experts(4);
  ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::decode);
  std::vector<uint32_t> held;
  while (const auto i = fetch.next()) held.push_back(*i);
  EXPECT_EQ(held.size(), 4u);
  EXPECT_EQ(stream.cache().leased(), 4u);
  for (const uint32_t i : held) EXPECT_TRUE(bench.toy.holds(0, experts[i], fetch.view(i)));
  fetch.release(held[0]);
  EXPECT_EQ(stream.cache().leased(), 3u);
}

TEST(ExpertStream, StartsTheRestAsLeasesAreReleasedWhenTheBudgetIsSmall) {
  ToyStream bench({kPlain});
  ExpertStream stream = bench.stream(3);
  const std::vector<uint32_t> experts = first_experts(8);
  ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::decode);
  EXPECT_EQ(stream.cache().leased(), 3u);
  for (uint32_t count = 0; count < 8; ++count) {
    const auto i = fetch.next();
    ASSERT_TRUE(i.has_value());
    EXPECT_TRUE(bench.toy.holds(0, experts[*i], fetch.view(*i)));
    fetch.release(*i);
    EXPECT_EQ(stream.cache().leased(), std::min(3u, 7 - count));
  }
  EXPECT_EQ(fetch.next(), std::nullopt);
}

TEST(ExpertStream, PollLetsReadsLandBetweenPiecesOfCompute) {
  ToyStream bench({kPlain}, kMaxPaddingShare, {.seed = 1, .busy = 0.0, .progress = 1.0});
  ExpertStream stream = bench.stream(8);
  stream.poll();  // nothing to do, no harm
  const std::vector<uint32_t> experts = {2};
  ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::decode);
  for (int i = 0; i < 1000 && bench.queue.in_flight() > 0; ++i) stream.poll();
  EXPECT_EQ(bench.queue.in_flight(), 0u);
  EXPECT_EQ(fetch.try_next(), 0u);
}

TEST(ExpertStream, SweepsInDiskOrder) {
  ToyStream bench({kPlain}, 0.0, {.seed = 3, .depth = 1});
  ExpertStream stream = bench.stream(8, /*sweep_slots=*/2);
  bench.visit(stream, 0, {6, 1, 7, 0, 3}, FetchMode::sweep);
  std::vector<std::pair<uint32_t, uint64_t>> starts;  // of each expert's first extent
  for (const auto& batch : bench.queue.batches) {
    for (const ReadRequest& request : batch) {
      if ((request.tag & 0xffffffff) != 0) continue;
      const auto file =
          std::find(bench.file_pointers.begin(), bench.file_pointers.end(), request.file);
      starts.emplace_back(file - bench.file_pointers.begin(), request.offset);
    }
  }
  EXPECT_EQ(starts.size(), 5u);
  EXPECT_TRUE(std::is_sorted(starts.begin(), starts.end()));
}

TEST(ExpertStream, LeavesTheDecodeCacheWarmInASweep) {
  ToyStream bench({kPlain, kPlain, kPlain});
  ExpertStream stream = bench.stream(12, /*sweep_slots=*/3);
  bench.visit(stream, 0, first_experts(8));
  bench.visit(stream, 1, first_experts(4));
  ASSERT_EQ(stream.statistics().cache.evictions, 0u);
  for (int repeat = 0; repeat < 3; ++repeat) {
    bench.visit(stream, 2, first_experts(8), FetchMode::sweep);
  }
  uint32_t warm = 0;
  for (uint32_t expert = 0; expert < 8; ++expert) {
    warm += stream.cache().resident({0, expert});
    warm += expert < 4 && stream.cache().resident({1, expert});
  }
  EXPECT_EQ(warm, 12u - 3u);
}

TEST(ExpertStream, KeepsWhatASweepReadOnceDecodeHasWantedIt) {
  ToyStream bench({kPlain, kPlain});
  ExpertStream stream = bench.stream(8, /*sweep_slots=*/2);
  bench.visit(stream, 0, first_experts(8), FetchMode::sweep);  // into free slots
  bench.visit(stream, 0, {5});
  bench.visit(stream, 1, first_experts(7));
  EXPECT_TRUE(stream.cache().resident({0, 5}));
}

TEST(ExpertStream, UsesNoMoreThanItsRingAtOnceInASweep) {
  ToyStream bench({kPlain});
  ExpertStream stream = bench.stream(8, /*sweep_slots=*/2);
  const std::vector<uint32_t> experts = first_experts(8);
  ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::sweep);
  uint32_t visited = 0;
  while (const auto i = fetch.next()) {
    EXPECT_LE(stream.cache().leased(), 2u);
    fetch.release(*i);
    ++visited;
  }
  EXPECT_EQ(visited, 8u);
}

TEST(ExpertStream, CountsHitsAndMissesByDemand) {
  ToyStream bench({kPlain});
  ExpertStream stream = bench.stream(8);
  bench.visit(stream, 0, {0, 1, 2});
  bench.visit(stream, 0, {1, 2, 3, 4});
  StreamStatistics statistics = stream.statistics();
  EXPECT_EQ(statistics.cache.hits, 2u);
  EXPECT_EQ(statistics.cache.misses, 5u);
  EXPECT_EQ(statistics.cache.bytes_demanded, 7 * bench.source.expert_bytes());
  EXPECT_EQ(statistics.cache.bytes_missed, 5 * bench.source.expert_bytes());
  size_t requests = 0;
  for (const auto& batch : bench.queue.batches) requests += batch.size();
  EXPECT_EQ(statistics.reads.requests, requests);
  EXPECT_GE(statistics.reads.bytes_demanded, 5 * bench.source.expert_bytes());
  stream.reset_statistics();
  statistics = stream.statistics();
  EXPECT_EQ(statistics.cache.hits + statistics.cache.misses + statistics.reads.requests, 0u);
  EXPECT_EQ(statistics.reads.bytes_demanded + statistics.wait_us, 0u);
}

TEST(ExpertStream, CountsEachDemandOnceHoweverLongItWaitsForASlot) {
  ToyStream bench({kPlain});
  ExpertStream stream = bench.stream(1);
  bench.visit(stream, 0, first_experts(8));
  EXPECT_EQ(stream.statistics().cache.misses, 8u);
  EXPECT_EQ(stream.statistics().cache.evictions, 7u);
}

TEST(ExpertStream, NamesLayerExpertFileAndOffsetOfAFailedReadAndRecovers) {
  const ToyLayer layer{.stacked = true, .experts = 8, .hidden = 512, .intermediate = 256};
  for (const double share : {0.0, 1.0}) {
    for (uint32_t seed = 1; seed <= 10; ++seed) {
      SCOPED_TRACE(testing::Message() << "seed " << seed);
      ToyStream bench({layer}, share, {.seed = seed, .depth = 4});
      ExpertStream stream = bench.stream(6);
      bench.visit(stream, 0, {0, 1});
      // The middle of the longest extent: no other expert has bytes in that block.
      const auto plan = bench.source.plan(0, 5);
      const Extent bad = *std::max_element(
          plan.extents.begin(), plan.extents.end(),
          [](const Extent& a, const Extent& b) { return a.size_bytes < b.size_bytes; });
      const std::string path = bench.files[bad.file]->path();
      bench.queue.device.fail_range(*bench.files[bad.file], bad.offset + bad.size_bytes / 2, 1,
                                    EIO);
      const std::vector<uint32_t> experts = {0, 5, 3, 1, 7};
      try {
        ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::decode);
        while (const auto i = fetch.next()) {
          EXPECT_NE(experts[*i], 5u);
          EXPECT_TRUE(bench.toy.holds(0, experts[*i], fetch.view(*i)));
        }
        ADD_FAILURE() << "no error";
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("layer 10, expert 5: " + path));
        EXPECT_THAT(error.what(), HasSubstr("offset "));
        EXPECT_THAT(error.what(), HasSubstr("Input/output error"));
        EXPECT_EQ(bench.queue.in_flight(), 0u);
      }
      EXPECT_EQ(stream.cache().leased(), 0u);
      EXPECT_FALSE(stream.cache().resident({0, 5}));
      EXPECT_TRUE(stream.cache().resident({0, 0}));
      stream.cache().check_invariants();
      bench.queue.device.clear_failures();
      EXPECT_EQ(sorted(bench.visit(stream, 0, experts)), sorted(experts));
    }
  }
}

TEST(ExpertStream, KeepsThrowingAfterAFailedRead) {
  ToyStream bench({kPlain});
  ExpertStream stream = bench.stream(4);
  const Extent bad = bench.source.plan(0, 2).extents[0];
  bench.queue.device.fail_range(*bench.files[bad.file], bad.offset, bad.size_bytes, EIO);
  const std::vector<uint32_t> experts = {2};
  ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::decode);
  EXPECT_THROW(fetch.next(), Error);
  EXPECT_THROW(fetch.next(), Error);
  EXPECT_FALSE(fetch.done());
}

TEST(ExpertStream, ReadsNothingAfterAFailedReadThatHadNotStarted) {
  ToyStream bench({kPlain}, kMaxPaddingShare, {.seed = 1, .depth = 1});
  ExpertStream stream = bench.stream(8, /*sweep_slots=*/1);
  const std::vector<uint32_t> experts = first_experts(8);
  for (const auto& file : bench.files) {
    bench.queue.device.fail_range(*file, 0, file->size_bytes(), EIO);
  }
  ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::sweep);
  EXPECT_THROW(fetch.next(), Error);
  EXPECT_EQ(bench.queue.batches.size(), 1u);
  EXPECT_EQ(stream.statistics().cache.failures, 1u);
}

TEST(ExpertStream, MayBeLeftEarlyAndUsedAgain) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    for (uint32_t visited = 0; visited <= 6; ++visited) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", left after " << visited);
      ToyStream bench({kPlain}, kMaxPaddingShare, {.seed = seed, .depth = 2});
      ExpertStream stream = bench.stream(4);
      const std::vector<uint32_t> experts = first_experts(7);
      try {
        ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::decode);
        for (uint32_t i = 0; i < visited; ++i) {
          const auto index = fetch.next();
          if (i % 3 != 2) fetch.release(*index);
        }
        throw std::runtime_error("the caller's compute failed");
      } catch (const std::runtime_error&) {
      }
      EXPECT_EQ(bench.queue.in_flight(), 0u);
      EXPECT_EQ(stream.cache().leased(), 0u);
      stream.cache().check_invariants();
      EXPECT_EQ(sorted(bench.visit(stream, 0, experts)), experts);
    }
  }
}

TEST(ExpertStream, CanMoveAFetch) {
  ToyStream bench({kPlain});
  ExpertStream stream = bench.stream(8);
  const std::vector<uint32_t> experts = {1};
  ExpertStream::Fetch first = stream.fetch(0, experts, FetchMode::decode);
  ExpertStream::Fetch second = std::move(first);
  EXPECT_EQ(second.next(), 0u);
  EXPECT_EQ(second.next(), std::nullopt);
}

TEST(ExpertStream, RegistersWhatReadsLandIn) {
  ToyStream packed({kStacked}, 0.0);
  const ExpertStream stream = packed.stream(4);
  ASSERT_EQ(packed.queue.registered.size(), 2u);
  EXPECT_EQ(packed.queue.registered[0].size(), 4 * packed.source.slot_bytes());
  EXPECT_EQ(packed.queue.registered[1].size(), 4 * packed.source.staging_bytes());
  ToyStream in_place({kStacked}, 1.0);
  const ExpertStream other = in_place.stream(4);
  EXPECT_EQ(in_place.queue.registered.size(), 1u);
}

TEST(ExpertStream, SaysWhatTheBudgetMustHold) {
  ToyStream bench({kPlain});
  const uint64_t floor = ExpertStream::floor_bytes(bench.source, 4);
  EXPECT_EQ(floor, 4 * bench.source.slot_bytes());
  const auto make = [&](uint64_t budget) {
    ExpertStream stream(bench.source, bench.file_pointers, bench.queue,
                        {.budget_bytes = budget, .policy = "lru", .experts_per_token = 4});
    return stream.cache().slots();
  };
  EXPECT_EQ(make(floor), 4u);
  try {
    make(floor - 1);
    FAIL() << "accepted a budget below the floor";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(floor)));
  }
}

TEST(ExpertStream, CountsStagingInItsOverheadOnlyWhenPacked) {
  const ToyStream packed({kStacked}, 0.0);
  const ToyStream in_place({kStacked}, 1.0);
  const auto overhead = [](const ToyStream& toy) {
    return ExpertStream::overhead_bytes(toy.source, uint64_t{1} << 40, Bounce::off);
  };
  const uint64_t difference = overhead(packed) - overhead(in_place);
  EXPECT_EQ(difference, 8 * packed.source.staging_bytes());  // 8 experts, so 8 slots at most
}

TEST(ExpertStreamDeathTest, AbortsOnMisuse) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ToyStream bench({kPlain});
  bench.toy.remove();
  ExpertStream stream = bench.stream(1);
  const std::vector<uint32_t> twice = {3, 3};
  EXPECT_DEATH(
      {
        ExpertStream roomy = bench.stream(4);
        roomy.fetch(0, twice, FetchMode::decode);
      },
      "bug in sluice");
  const std::vector<uint32_t> experts = {0, 1};
  ExpertStream::Fetch fetch = stream.fetch(0, experts, FetchMode::decode);
  EXPECT_DEATH(stream.fetch(0, experts, FetchMode::decode), "bug in sluice");
  EXPECT_DEATH(fetch.view(0), "bug in sluice");
  ASSERT_TRUE(fetch.next().has_value());
  EXPECT_DEATH(fetch.next(), "bug in sluice");  // the only slot was never released
}

}  // namespace
}  // namespace sluice
