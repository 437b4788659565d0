#include "io/piece_scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <vector>

#include "tests/io/simulated_queue.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using Piece = PieceScheduler::Piece;

constexpr uint64_t kMiB = 1 << 20;

// Plays the device by hand. The file is never read: outcomes are made up.
class PieceSchedulerTest : public ::testing::Test {
 protected:
  ReadRequest request(uint64_t tag, uint64_t size_bytes, Deadline deadline = Deadline::demand) {
    return {.file = &file_.file(),
            .offset = 0,
            .size_bytes = size_bytes,
            .needed_bytes = size_bytes,
            .destination = memory_.data(),
            .tag = tag,
            .deadline = deadline};
  }
  Piece* start() { return scheduler_.start(now_); }
  // Starts all that may start and returns their tags.
  std::vector<uint64_t> start_all() {
    std::vector<uint64_t> tags;
    while (Piece* piece = start()) {
      pieces_.push_back(piece);
      tags.push_back(piece->tag());
    }
    return tags;
  }
  void finish_all() {
    for (Piece* piece : pieces_) finish(piece, static_cast<int64_t>(piece->size_bytes()));
    pieces_.clear();
  }
  void finish(Piece* piece, int64_t outcome) { scheduler_.finish(piece, outcome, now_); }
  std::vector<ReadResult> results() {
    std::vector<ReadResult> all(100);
    all.resize(scheduler_.take(all));
    return all;
  }
  ReadResult only_result() {
    const std::vector<ReadResult> all = results();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? ReadResult{} : all[0];
  }

  MemoryFile file_{std::vector<std::byte>(8 * kMiB)};
  std::vector<std::byte> memory_ = std::vector<std::byte>(8 * kMiB);
  PieceScheduler scheduler_{4};
  PieceScheduler::Time now_{};
  std::vector<Piece*> pieces_;
};

TEST_F(PieceSchedulerTest, ARequestIsCutIntoPiecesThatTileIt) {
  ReadRequest unaligned = request(1, 3 * kMiB + 100);
  unaligned.offset = 5000;
  scheduler_.add(unaligned);
  uint64_t at = 5000;
  for (const Piece* piece : {start(), start(), start(), start()}) {
    ASSERT_NE(piece, nullptr);
    EXPECT_EQ(piece->offset(), at);
    EXPECT_EQ(piece->destination(), memory_.data() + (at - 5000));
    EXPECT_LE(piece->size_bytes(), kPieceBytes);
    at += piece->size_bytes();
    if (at < 5000 + unaligned.size_bytes) {
      EXPECT_EQ(at % 4096, 0u);
    }
  }
  EXPECT_EQ(at, 5000 + unaligned.size_bytes);
}

TEST_F(PieceSchedulerTest, NeverMorePiecesThanTheDepthAreAtTheDevice) {
  scheduler_.add(request(1, 8 * kMiB));
  EXPECT_EQ(start_all().size(), 4u);
  EXPECT_EQ(scheduler_.at_device(), 4u);
  finish_all();
  EXPECT_EQ(start_all().size(), 4u);
  finish_all();
  EXPECT_EQ(start(), nullptr);
  EXPECT_EQ(only_result().error, 0);
}

TEST_F(PieceSchedulerTest, DemandStartsBeforeSpeculation) {
  scheduler_.add(request(1, 2 * kMiB, Deadline::speculative));
  scheduler_.add(request(2, 2 * kMiB));
  scheduler_.add(request(3, kMiB));
  EXPECT_THAT(start_all(), ElementsAre(2, 2, 3, 1));
  finish_all();
  scheduler_.add(request(4, kMiB));
  EXPECT_THAT(start_all(), ElementsAre(4, 1));
}

TEST_F(PieceSchedulerTest, APromotedRequestMovesToTheFront) {
  for (uint64_t tag = 1; tag <= 3; ++tag) scheduler_.add(request(tag, kMiB, Deadline::speculative));
  scheduler_.add(request(4, kMiB));
  scheduler_.promote(2);
  scheduler_.promote(99);
  EXPECT_THAT(start_all(), ElementsAre(2, 4, 1, 3));
  scheduler_.promote(3);  // at the device already: counted as demand, nothing to move
  finish_all();
  EXPECT_EQ(results().size(), 4u);
  EXPECT_EQ(scheduler_.statistics().bytes_demanded, 3 * kMiB);
  EXPECT_EQ(scheduler_.statistics().bytes_speculated, kMiB);
}

TEST_F(PieceSchedulerTest, CancelDropsWhatHasNotStartedAndReportsOnce) {
  scheduler_.add(request(1, 6 * kMiB));
  scheduler_.add(request(2, kMiB));
  EXPECT_THAT(start_all(), ElementsAre(1, 1, 1, 1));
  scheduler_.cancel(1);
  scheduler_.cancel(2);
  const ReadResult never_started = only_result();
  EXPECT_EQ(never_started.tag, 2u);
  EXPECT_EQ(never_started.error, ReadResult::kCancelled);
  finish_all();
  const ReadResult half = only_result();
  EXPECT_EQ(half.tag, 1u);
  EXPECT_EQ(half.error, ReadResult::kCancelled);
  EXPECT_EQ(half.error_offset, 4 * kMiB);
  EXPECT_EQ(scheduler_.in_flight(), 0u);
  EXPECT_EQ(scheduler_.statistics().bytes_demanded, 4 * kMiB);
}

TEST_F(PieceSchedulerTest, CancelOfARequestThatIsWhollyAtTheDeviceChangesNothing) {
  scheduler_.add(request(1, 2 * kMiB));
  start_all();
  scheduler_.cancel(1);
  finish_all();
  scheduler_.cancel(1);
  EXPECT_EQ(only_result().error, 0);
}

TEST_F(PieceSchedulerTest, AShortReadIsContinuedWhereItStopped) {
  scheduler_.add(request(1, 10'000));
  Piece* piece = start();
  finish(piece, 3);
  ASSERT_EQ(start(), piece);
  EXPECT_EQ(piece->offset(), 3u);
  EXPECT_EQ(piece->size_bytes(), 9997u);
  EXPECT_EQ(piece->destination(), memory_.data() + 3);
  finish(piece, 9997);
  EXPECT_EQ(only_result().error, 0);
  EXPECT_EQ(scheduler_.statistics().retries, 1u);
  EXPECT_EQ(scheduler_.statistics().bytes_demanded, 10'000u);
}

TEST_F(PieceSchedulerTest, AShortDirectReadIsContinuedFromTheAlignedBoundary) {
  const TemporaryDirectory directory;
  const DirectFile file(directory.write("x", std::string(65'536, 'x')));
  if (!file.direct()) GTEST_SKIP() << "no direct reads here: " << file.buffered_reason();
  const std::unique_ptr<std::byte, decltype(&std::free)> memory(
      static_cast<std::byte*>(std::aligned_alloc(4096, 65'536)), &std::free);
  scheduler_.add({.file = &file,
                  .size_bytes = 65'536,
                  .needed_bytes = 65'536,
                  .destination = memory.get(),
                  .tag = 1});
  Piece* piece = start();
  const uint64_t boundary = file.alignment() * 3;
  finish(piece, static_cast<int64_t>(boundary + 5));
  ASSERT_EQ(start(), piece);
  EXPECT_EQ(piece->offset(), boundary);
  EXPECT_EQ(piece->destination(), memory.get() + boundary);
  finish(piece, static_cast<int64_t>(piece->size_bytes()));
  EXPECT_EQ(only_result().error, 0);
  EXPECT_EQ(scheduler_.statistics().bytes_demanded, 65'536u);  // what came twice counts once
}

// After a short direct read the next one begins again at a boundary, and may itself be so short
// that it brings nothing new; that is not the end of the file.
TEST_F(PieceSchedulerTest, ADirectReadThatBringsOnlyWhatHadArrivedIsAskedAgain) {
  const TemporaryDirectory directory;
  const DirectFile file(directory.write("x", std::string(65'536, 'x')));
  if (!file.direct()) GTEST_SKIP() << "no direct reads here: " << file.buffered_reason();
  const std::unique_ptr<std::byte, decltype(&std::free)> memory(
      static_cast<std::byte*>(std::aligned_alloc(4096, 65'536)), &std::free);
  const auto arrived = static_cast<int64_t>(file.alignment()) * 3 + 5;
  for (const bool file_was_cut : {false, true}) {
    scheduler_.add({.file = &file,
                    .size_bytes = 65'536,
                    .needed_bytes = 65'536,
                    .destination = memory.get(),
                    .tag = 1});
    finish(start(), arrived);
    for (int i = 0; i < 3; ++i) finish(start(), 2);
    if (file_was_cut) {
      while (Piece* piece = start()) finish(piece, 5);  // nothing but what was there, for ever
      const ReadResult result = only_result();
      EXPECT_EQ(result.error, ReadResult::kTruncated);
      EXPECT_EQ(result.error_offset, static_cast<uint64_t>(arrived));
    } else {
      Piece* piece = start();
      ASSERT_NE(piece, nullptr);
      finish(piece, static_cast<int64_t>(piece->size_bytes()));
      EXPECT_EQ(only_result().error, 0);
    }
  }
}

TEST_F(PieceSchedulerTest, TheEndOfTheFileBehindTheNeededBytesIsFine) {
  ReadRequest tail = request(1, 4096);
  tail.offset = 8 * kMiB - 100;
  tail.needed_bytes = 100;
  scheduler_.add(tail);
  finish(start(), 100);
  EXPECT_EQ(only_result().error, 0);
  EXPECT_EQ(scheduler_.statistics().retries, 0u);  // the file's size says that there is no more
}

TEST_F(PieceSchedulerTest, TheEndOfTheFileBeforeTheNeededBytesIsTruncation) {
  scheduler_.add(request(1, 4096));
  Piece* piece = start();
  finish(piece, 1000);
  ASSERT_EQ(start(), piece);
  finish(piece, 0);
  const ReadResult result = only_result();
  EXPECT_EQ(result.error, ReadResult::kTruncated);
  EXPECT_EQ(result.error_offset, 1000u);
}

TEST_F(PieceSchedulerTest, AnErrorEndsTheRequestWhenItsOtherPiecesHaveEnded) {
  scheduler_.add(request(1, 6 * kMiB));
  start_all();
  finish(pieces_[2], -EIO);
  EXPECT_EQ(start(), nullptr);  // the rest is dropped
  EXPECT_TRUE(results().empty());
  finish(pieces_[1], -ENXIO);
  finish(pieces_[3], -EBADF);
  finish(pieces_[0], static_cast<int64_t>(kMiB));
  const ReadResult result = only_result();
  EXPECT_EQ(result.error, ENXIO);  // the one with the lowest offset
  EXPECT_EQ(result.error_offset, kMiB);
}

TEST_F(PieceSchedulerTest, EintrIsRetriedAtOnceAndEagainLater) {
  scheduler_.add(request(1, 4096));
  Piece* piece = start();
  finish(piece, -EINTR);
  ASSERT_EQ(start(), piece);
  finish(piece, -EAGAIN);
  EXPECT_EQ(start(), nullptr);
  EXPECT_EQ(scheduler_.at_device(), 0u);
  ASSERT_TRUE(scheduler_.next_retry().has_value());
  EXPECT_GT(*scheduler_.next_retry(), now_);
  now_ = *scheduler_.next_retry();
  ASSERT_EQ(start(), piece);
  finish(piece, 4096);
  EXPECT_EQ(only_result().error, 0);
}

TEST_F(PieceSchedulerTest, EagainThatDoesNotGoAwayBecomesTheResultWithinSeconds) {
  scheduler_.add(request(1, 4096));
  int attempts = 0;
  while (!scheduler_.has_results()) {
    ASSERT_LT(++attempts, 10'000);
    Piece* piece = start();
    if (piece == nullptr) {
      now_ = scheduler_.next_retry().value();
    } else {
      finish(piece, -EAGAIN);
    }
  }
  EXPECT_EQ(only_result().error, EAGAIN);
  EXPECT_GT(now_.time_since_epoch(), std::chrono::milliseconds(500));
  EXPECT_LT(now_.time_since_epoch(), std::chrono::seconds(5));
}

TEST_F(PieceSchedulerTest, BusyTimeIsTheTimeWithAnythingAtTheDevice) {
  scheduler_.add(request(1, 2 * kMiB));
  start_all();
  now_ += std::chrono::microseconds(10);
  finish(pieces_[0], static_cast<int64_t>(kMiB));
  now_ += std::chrono::microseconds(5);
  finish(pieces_[1], static_cast<int64_t>(kMiB));
  now_ += std::chrono::microseconds(100);
  EXPECT_EQ(scheduler_.statistics().busy_us, 15u);
}

TEST_F(PieceSchedulerTest, ResultsAreTakenInPartsAndCountAsInFlightUntilThen) {
  for (uint64_t tag = 1; tag <= 3; ++tag) scheduler_.add(request(tag, 4096));
  start_all();
  finish_all();
  EXPECT_EQ(scheduler_.in_flight(), 3u);
  std::array<ReadResult, 2> two;
  EXPECT_EQ(scheduler_.take(two), 2u);
  EXPECT_EQ(two[1].tag, 2u);
  EXPECT_EQ(scheduler_.in_flight(), 1u);
  EXPECT_EQ(scheduler_.take(two), 1u);
  EXPECT_EQ(two[0].tag, 3u);
}

TEST_F(PieceSchedulerTest, AbandonLeavesOnlyWhatIsAtTheDevice) {
  scheduler_.add(request(1, 6 * kMiB));
  scheduler_.add(request(2, kMiB, Deadline::speculative));
  start_all();
  finish(pieces_[0], -EAGAIN);
  scheduler_.abandon();
  EXPECT_EQ(scheduler_.at_device(), 3u);
  EXPECT_EQ(start(), nullptr);
  EXPECT_FALSE(scheduler_.next_retry().has_value());
}

// One of three buffers is left, which can take what comes next.
TEST_F(PieceSchedulerTest, BouncedPiecesLandInBuffersAndAreDelivered) {
  std::vector<std::byte> buffers(3 * kMiB);
  scheduler_.bounce_through(buffers);
  scheduler_.add(request(1, 4 * kMiB));
  Piece* first = start();
  Piece* second = start();
  EXPECT_EQ(start(), nullptr);
  ASSERT_TRUE(first != nullptr && second != nullptr);
  for (const Piece* piece : {first, second}) {
    const ptrdiff_t at = piece->destination() - buffers.data();
    ASSERT_TRUE(at == 0 || at == kMiB || at == 2 * kMiB) << at;
  }
  scheduler_.came_back(second, now_);
  Piece* third = start();
  ASSERT_NE(third, nullptr);
  EXPECT_NE(third->destination(), second->destination());
  std::fill_n(second->destination(), kMiB, std::byte{2});
  second->deliver(kMiB);
  finish(second, kMiB);
  EXPECT_EQ(memory_[kMiB], std::byte{2});
  EXPECT_EQ(memory_[2 * kMiB - 1], std::byte{2});
  EXPECT_EQ(memory_[kMiB - 1], std::byte{0});
  EXPECT_EQ(memory_[2 * kMiB], std::byte{0});
}

// Of four buffers three may be at the device, one of them for speculation.
TEST_F(PieceSchedulerTest, SpeculationLeavesMostOfTheBuffersToDemand) {
  std::vector<std::byte> buffers(4 * kMiB);
  scheduler_.bounce_through(buffers);
  scheduler_.add(request(1, 4 * kMiB, Deadline::speculative));
  EXPECT_THAT(start_all(), ElementsAre(1));
  scheduler_.add(request(2, 3 * kMiB));
  EXPECT_THAT(start_all(), ElementsAre(2, 2));
  finish(pieces_[0], kMiB);
  EXPECT_THAT(start_all(), ElementsAre(2));
  finish(pieces_[1], kMiB);
  finish(pieces_[2], kMiB);
  EXPECT_EQ(start(), nullptr);
  scheduler_.promote(1);
  EXPECT_THAT(start_all(), ElementsAre(1, 1));
}

TEST_F(PieceSchedulerTest, AShortReadIntoABufferGoesOnBehindWhatCame) {
  std::vector<std::byte> buffers(kMiB);
  scheduler_.bounce_through(buffers);
  scheduler_.add(request(1, 8192));
  Piece* piece = start();
  std::fill_n(piece->destination(), 5000, std::byte{1});
  piece->deliver(5000);
  finish(piece, 5000);
  piece = start();
  ASSERT_NE(piece, nullptr);
  const uint64_t offset = piece->offset();  // a direct read begins again where it is aligned
  EXPECT_EQ(piece->destination(), buffers.data() + offset);
  std::fill_n(piece->destination(), 8192 - offset, std::byte{2});
  piece->deliver(8192 - offset);
  finish(piece, static_cast<int64_t>(8192 - offset));
  EXPECT_EQ(only_result().error, 0);
  EXPECT_EQ(memory_[offset - 1], std::byte{1});
  EXPECT_EQ(memory_[offset], std::byte{2});
  EXPECT_EQ(memory_[8191], std::byte{2});
}

TEST_F(PieceSchedulerTest, BuffersComeBackFromWhatFailsAndFromWhatIsCancelled) {
  std::vector<std::byte> buffers(2 * kMiB);
  scheduler_.bounce_through(buffers);
  for (uint64_t tag = 0; tag < 10; ++tag) {
    scheduler_.add(request(tag, 2 * kMiB));
    Piece* piece = start();
    ASSERT_NE(piece, nullptr) << tag;
    if (tag % 2 == 0) scheduler_.cancel(tag);
    finish(piece, tag % 2 == 0 ? static_cast<int64_t>(kMiB) : -EIO);
    EXPECT_NE(only_result().error, 0);
  }
  scheduler_.bounce_through({});
  scheduler_.add(request(10, kMiB));
  EXPECT_EQ(start()->destination(), memory_.data());
}

}  // namespace
}  // namespace sluice
