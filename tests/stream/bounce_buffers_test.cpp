#include "stream/bounce_buffers.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "stream/expert_stream.h"
#include "tests/io/temporary_directory.h"
#include "tests/stream/toy_stream.h"

namespace sluice {
namespace {

constexpr uint64_t kLarge = uint64_t{1} << 40;

const ToyLayer kLayer{};

TEST(BounceBuffers, TakeMemoryOnlyWhereTheyMayPay) {
  const ToyStream in_place({kLayer}, 1.0), packed({{.stacked = true}}, 0.0);
  const auto bytes = [](const ToyStream& toy, uint64_t cache_bytes, Bounce bounce) {
    return BounceBuffers::bytes(toy.source, cache_bytes, bounce);
  };
  EXPECT_GT(bytes(in_place, kLarge, Bounce::automatic), 0u);
  EXPECT_EQ(bytes(in_place, 1 << 20, Bounce::automatic), 0u);
  EXPECT_EQ(bytes(in_place, kLarge, Bounce::off), 0u);
  EXPECT_GT(bytes(in_place, 1, Bounce::on), 0u);
  ASSERT_TRUE(packed.source.packed());
  EXPECT_EQ(bytes(packed, kLarge, Bounce::automatic), 0u);
  EXPECT_EQ(ExpertStream::overhead_bytes(in_place.source, 1, Bounce::on) -
                ExpertStream::overhead_bytes(in_place.source, 1, Bounce::off),
            bytes(in_place, 1, Bounce::on));
}

TEST(BounceBuffers, AreNotTriedOnBufferedFiles) {
  ToyStream toy({kLayer}, 1.0);
  Slab slots(256 << 20);  // never touched
  const BounceBuffers bounce(toy.source, toy.file_pointers, toy.queue, slots.bytes(),
                             Bounce::automatic);
  EXPECT_FALSE(bounce.in_use());
  EXPECT_EQ(toy.queue.statistics().requests, 0u);
}

// A sparse file takes no space. Which way wins is the machine's affair; the queue must work.
TEST(BounceBuffers, ATrialLeavesTheQueueAsItSays) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("large", std::vector<std::byte>(8192, std::byte{7}));
  ASSERT_EQ(::truncate(path.c_str(), 256 << 20), 0);
  const DirectFile file(path);
  if (!file.direct()) GTEST_SKIP() << "no direct reads here: " << file.buffered_reason();
  const DirectFile* const files[] = {nullptr, &file};
  const ToyStream toy({kLayer}, 1.0);
  for (const ReadBackend backend : {ReadBackend::automatic, ReadBackend::pread}) {
    const auto queue = make_read_queue(backend, 8);
    Slab slots(256 << 20);
    const BounceBuffers bounce(toy.source, files, *queue, slots.bytes(), Bounce::automatic);
    EXPECT_EQ(queue->in_flight(), 0u);
    // Mapped after a trial, it may lie where the buffers were.
    Slab later(16 << 20);
    std::fill_n(later.data(), 8 << 20, std::byte{1});
    const ReadRequest request{.file = &file,
                              .offset = 0,
                              .size_bytes = 8 << 20,
                              .needed_bytes = 8 << 20,
                              .destination = later.data()};
    read_all(*queue, {&request, 1});
    EXPECT_EQ(std::count(later.data(), later.data() + 8192, std::byte{7}), 8192);
    EXPECT_EQ(std::count(later.data() + 8192, later.data() + (8 << 20), std::byte{0}),
              (8 << 20) - 8192);
  }
}

}  // namespace
}  // namespace sluice
