#include "tests/io/simulated_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "io/error.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;

std::vector<std::byte> random_bytes(size_t size_bytes) {
  std::vector<std::byte> bytes(size_bytes);
  std::mt19937_64 random(size_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

class SimulatedQueueTest : public ::testing::Test {
 protected:
  // Requests of odd sizes, one behind the other.
  std::vector<ReadRequest> requests(uint64_t count) {
    std::vector<ReadRequest> all;
    for (uint64_t tag = 0; tag < count; ++tag) {
      const uint64_t offset = tag * 30'011;
      all.push_back({.file = &file_.file(),
                     .offset = offset,
                     .size_bytes = 30'011,
                     .needed_bytes = 30'011,
                     .destination = memory_.data() + offset,
                     .tag = tag});
    }
    return all;
  }
  // Everything, in the order of arrival.
  static std::vector<ReadResult> drain(ReadQueue& queue) {
    std::vector<ReadResult> all;
    std::array<ReadResult, 2> some;
    while (queue.in_flight() > 0) {
      const size_t count = queue.wait(some);
      all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(count));
    }
    return all;
  }

  std::vector<std::byte> content_ = random_bytes(4 << 20);
  MemoryFile file_{content_};
  std::vector<std::byte> memory_ = std::vector<std::byte>(content_.size());
};

TEST_F(SimulatedQueueTest, ReadAllStartsNothingMoreAfterAFailure) {
  SimulatedQueue queue({.seed = 1, .depth = 1, .shorten = 0, .interrupt = 0, .busy = 0});
  queue.fail_range(file_.file(), 2 * 30'011, 1, EIO);
  std::vector<uint64_t> landed;
  EXPECT_THROW(read_all(queue, requests(50), [&](uint64_t tag) { landed.push_back(tag); }), Error);
  EXPECT_LE(landed.size(), 3u);           // one more was at the device when the failure came
  EXPECT_LE(queue.started().size(), 4u);  // of 50
  EXPECT_EQ(queue.in_flight(), 0u);
}

TEST_F(SimulatedQueueTest, DelaysReordersAndShortensButBringsEveryByte) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SimulatedQueue queue({.seed = seed, .shorten = 0.4, .interrupt = 0.2, .busy = 0.2});
    queue.submit(requests(50));
    const std::vector<ReadResult> results = drain(queue);
    ASSERT_EQ(results.size(), 50u);
    bool in_order = true;
    for (size_t i = 0; i < results.size(); ++i) {
      ASSERT_EQ(results[i].error, 0) << "seed " << seed;
      in_order = in_order && results[i].tag == i;
    }
    EXPECT_FALSE(in_order) << "seed " << seed;
    EXPECT_GT(queue.statistics().retries, 0u);
    ASSERT_EQ(std::memcmp(memory_.data(), content_.data(), 50 * 30'011), 0) << "seed " << seed;
  }
}

TEST_F(SimulatedQueueTest, OneSeedGivesOneOrder) {
  const auto tags = [&](uint64_t seed) {
    SimulatedQueue queue({.seed = seed, .fail = 0.1});
    queue.submit(requests(50));
    std::vector<std::pair<uint64_t, int>> order;
    for (const ReadResult& result : drain(queue)) order.emplace_back(result.tag, result.error);
    return order;
  };
  EXPECT_EQ(tags(5), tags(5));
  EXPECT_NE(tags(5), tags(6));
}

TEST_F(SimulatedQueueTest, NothingIsThereBeforeItsResult) {
  SimulatedQueue queue;
  queue.hold(true);
  queue.submit(requests(1));
  std::array<ReadResult, 1> result;
  EXPECT_EQ(queue.poll(result), 0u);
  EXPECT_NE(std::memcmp(memory_.data(), content_.data(), 30'011), 0);
  queue.hold(false);
  EXPECT_EQ(queue.wait(result), 1u);
  EXPECT_EQ(std::memcmp(memory_.data(), content_.data(), 30'011), 0);
}

TEST_F(SimulatedQueueTest, AReadThatFailsIsAValueWithItsPlaceAndSparesTheOthers) {
  SimulatedQueue queue;
  queue.fail_range(file_.file(), 3 * 30'011 + 5, 1, EIO);
  queue.submit(requests(10));
  for (const ReadResult& result : drain(queue)) {
    EXPECT_EQ(result.error, result.tag == 3 ? EIO : 0);
    if (result.tag == 3) {
      EXPECT_GE(result.error_offset, 3u * 30'011);
      EXPECT_LE(result.error_offset, 3u * 30'011 + 5);
      EXPECT_THAT(read_error_text(result, file_.file()), testing::HasSubstr("(errno 5)"));
    }
  }
  queue.clear_failures();
  EXPECT_NO_THROW(read_all(queue, requests(10)));
}

TEST_F(SimulatedQueueTest, EveryRequestEndsWhateverFails) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SimulatedQueue queue(
        {.seed = seed, .depth = 1 + static_cast<uint32_t>(seed), .shorten = 0.3, .fail = 0.3});
    queue.submit(requests(100));
    for (uint64_t tag = 0; tag < 100; tag += 7) queue.cancel(tag);
    std::map<uint64_t, int> errors;
    for (const ReadResult& result : drain(queue)) errors.emplace(result.tag, result.error);
    ASSERT_EQ(errors.size(), 100u);
    for (const auto& [tag, error] : errors) {
      if (error == 0) {
        ASSERT_EQ(
            std::memcmp(memory_.data() + tag * 30'011, content_.data() + tag * 30'011, 30'011), 0);
      }
    }
  }
}

TEST_F(SimulatedQueueTest, AFileCutBehindItsBackIsTruncated) {
  SimulatedQueue queue;
  file_.resize(100'000);
  queue.submit(requests(5));
  for (const ReadResult& result : drain(queue)) {
    EXPECT_EQ(result.error, result.tag < 3 ? 0 : ReadResult::kTruncated);
    if (result.tag == 3) {
      EXPECT_EQ(result.error_offset, 100'000u);
    }
  }
}

TEST_F(SimulatedQueueTest, TellsWhatItWasAskedFor) {
  SimulatedQueue queue({.depth = 1, .shorten = 0, .interrupt = 0, .busy = 0});
  std::vector<ReadRequest> all = requests(4);
  for (ReadRequest& request : all) request.deadline = Deadline::speculative;
  queue.submit(all);
  queue.promote(2);
  queue.cancel(3);
  drain(queue);
  EXPECT_THAT(queue.started(), ElementsAre(0, 2, 1));
  EXPECT_THAT(queue.promoted(), ElementsAre(2));
  EXPECT_THAT(queue.cancelled(), ElementsAre(3));
}

}  // namespace
}  // namespace sluice
