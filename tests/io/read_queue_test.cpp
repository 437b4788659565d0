#include "io/read_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "io/error.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

constexpr size_t kAlignment = 4096;

using Buffer = std::unique_ptr<std::byte, decltype(&std::free)>;

Buffer make_buffer(size_t size_bytes) {
  size_bytes = (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, size_bytes));
  std::memset(memory, 0x5a, size_bytes);
  return Buffer(memory, &std::free);
}

std::vector<std::byte> random_bytes(size_t size_bytes, uint64_t seed) {
  std::vector<std::byte> bytes(size_bytes);
  std::mt19937_64 random(seed);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// Each test runs over both back ends, shallow and deep, direct (where the filesystem allows) and
// buffered.
class ReadQueueTest : public ::testing::TestWithParam<std::tuple<ReadBackend, uint32_t, bool>> {
 protected:
  void SetUp() override {
    const auto [backend, depth, direct] = GetParam();
    if (backend == ReadBackend::io_uring) {
      std::string reason;
      if (make_read_queue(ReadBackend::automatic, 1, &reason)->description() != "io_uring") {
        GTEST_SKIP() << "no io_uring here: " << reason;
      }
    }
    queue_ = make_read_queue(backend, depth);
  }

  DirectFile open(const std::vector<std::byte>& bytes, const std::string& name = "data") {
    return DirectFile(directory_.write(name, bytes), std::get<2>(GetParam()));
  }

  // Waits for everything; results by tag.
  std::map<uint64_t, ReadResult> drain() {
    std::map<uint64_t, ReadResult> all;
    std::array<ReadResult, 3> some;
    while (queue_->in_flight() > 0) {
      const size_t count = queue_->wait(some);
      EXPECT_GT(count, 0u);
      for (const ReadResult& result : std::span(some).first(count)) {
        EXPECT_TRUE(all.emplace(result.tag, result).second) << "two results for " << result.tag;
      }
    }
    return all;
  }

  TemporaryDirectory directory_;
  std::unique_ptr<ReadQueue> queue_;
};

TEST_P(ReadQueueTest, RandomRequestsBringTheBytesOfTheirFiles) {
  std::mt19937_64 random(11);
  std::vector<std::vector<std::byte>> contents;
  std::vector<DirectFile> files;
  for (uint64_t i = 0; i < 3; ++i) {
    contents.push_back(random_bytes((5 << 20) + 1234 * i, i));
    files.push_back(open(contents.back(), "data" + std::to_string(i)));
  }
  const Buffer bounce = make_buffer(3 * kPieceBytes);
  for (const size_t bounce_buffers : {size_t{0}, size_t{1}, size_t{3}, size_t{0}}) {
    queue_->bounce_through({bounce.get(), bounce_buffers * kPieceBytes});
    std::vector<ReadRequest> requests;
    std::vector<Buffer> buffers;
    std::vector<size_t> sources;
    for (uint64_t tag = 0; tag < 40; ++tag) {
      const size_t source = random() % files.size();
      const uint64_t file_bytes = contents[source].size();
      const uint64_t offset = random() % (file_bytes / kAlignment) * kAlignment;
      const uint64_t size_bytes = (1 + random() % (tag % 8 == 0 ? 800 : 20)) * kAlignment;
      buffers.push_back(make_buffer(size_bytes));
      sources.push_back(source);
      requests.push_back({.file = &files[source],
                          .offset = offset,
                          .size_bytes = size_bytes,
                          .needed_bytes = std::min(size_bytes, file_bytes - offset),
                          .destination = buffers.back().get(),
                          .tag = tag,
                          .deadline = tag % 3 == 0 ? Deadline::speculative : Deadline::demand});
    }
    // In two batches, with a look in between.
    queue_->submit(std::span(requests).first(25));
    std::array<ReadResult, 64> early;
    const size_t early_count = queue_->poll(early);
    queue_->submit(std::span(requests).subspan(25));
    std::map<uint64_t, ReadResult> results = drain();
    for (const ReadResult& result : std::span(early).first(early_count)) {
      EXPECT_TRUE(results.emplace(result.tag, result).second);
    }
    ASSERT_EQ(results.size(), requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_EQ(results.at(i).error, 0) << read_error_text(results.at(i), *requests[i].file);
      ASSERT_EQ(
          std::memcmp(requests[i].destination, contents[sources[i]].data() + requests[i].offset,
                      requests[i].needed_bytes),
          0)
          << "request " << i;
    }
  }
  EXPECT_EQ(queue_->statistics().requests, 160u);
  EXPECT_GE(queue_->statistics().pieces, 160u);
  EXPECT_GT(queue_->statistics().bytes_demanded, 0u);
  EXPECT_GT(queue_->statistics().bytes_speculated, 0u);
}

TEST_P(ReadQueueTest, AFileMayEndBehindTheNeededBytes) {
  const std::vector<std::byte> bytes = random_bytes(10'001, 1);
  const DirectFile file = open(bytes);
  // A request that begins within the file, ends pieces later, and needs only what is there.
  const size_t size_bytes = 3 << 20;
  const Buffer buffer = make_buffer(size_bytes + kAlignment);
  const ReadRequest request{.file = &file,
                            .offset = 4096,
                            .size_bytes = size_bytes,
                            .needed_bytes = 10'001 - 4096,
                            .destination = buffer.get(),
                            .tag = 1};
  read_all(*queue_, {&request, 1});
  EXPECT_EQ(std::memcmp(buffer.get(), bytes.data() + 4096, 10'001 - 4096), 0);
  EXPECT_EQ(buffer.get()[size_bytes], std::byte{0x5a});
  EXPECT_EQ(queue_->statistics().bytes_demanded, 10'001u - 4096);
}

TEST_P(ReadQueueTest, AFileThatEndsBeforeTheNeededBytesIsTruncated) {
  const DirectFile file = open(random_bytes(10'000, 1));
  const Buffer buffer = make_buffer(16'384);
  ReadRequest request{.file = &file,
                      .size_bytes = 16'384,
                      .needed_bytes = 10'001,
                      .destination = buffer.get(),
                      .tag = 9};
  queue_->submit({&request, 1});
  ReadResult result = drain().at(9);
  EXPECT_EQ(result.error, ReadResult::kTruncated);
  EXPECT_EQ(result.error_offset, 10'000u);
  EXPECT_THAT(read_error_text(result, file),
              testing::AllOf(HasSubstr(file.path()), HasSubstr("10000")));

  // Cut since it was opened.
  std::filesystem::resize_file(file.path(), 5000);
  request.needed_bytes = 10'000;
  queue_->submit({&request, 1});
  result = drain().at(9);
  EXPECT_EQ(result.error, ReadResult::kTruncated);
  EXPECT_EQ(result.error_offset, 5000u);
  EXPECT_THROW(read_all(*queue_, {&request, 1}), Error);
}

TEST_P(ReadQueueTest, AnErrnoIsAValueAndTheQueueLivesOn) {
  const std::vector<std::byte> bytes = random_bytes(3 << 20, 1);
  DirectFile good = open(bytes, "good");
  DirectFile bad = open(bytes, "bad");
  ::close(bad.fd());  // reads of it fail with EBADF
  const Buffer first = make_buffer(bytes.size());
  const Buffer second = make_buffer(bytes.size());
  const std::array<ReadRequest, 2> requests{ReadRequest{.file = &bad,
                                                        .size_bytes = bytes.size(),
                                                        .needed_bytes = bytes.size(),
                                                        .destination = first.get(),
                                                        .tag = 1},
                                            ReadRequest{.file = &good,
                                                        .size_bytes = bytes.size(),
                                                        .needed_bytes = bytes.size(),
                                                        .destination = second.get(),
                                                        .tag = 2}};
  queue_->submit(requests);
  const std::map<uint64_t, ReadResult> results = drain();
  EXPECT_EQ(results.at(1).error, EBADF);
  EXPECT_EQ(results.at(1).error_offset, 0u);
  EXPECT_EQ(results.at(2).error, 0);
  EXPECT_EQ(std::memcmp(second.get(), bytes.data(), bytes.size()), 0);
  try {
    read_all(*queue_, requests);
    ADD_FAILURE() << "read_all did not throw";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr(bad.path()), HasSubstr("offset 0")));
  }
  EXPECT_EQ(queue_->in_flight(), 0u);
  // Its destructor closes the number again: it must not have come to mean another file meanwhile.
  ASSERT_EQ(::dup2(good.fd(), bad.fd()), bad.fd());
}

TEST_P(ReadQueueTest, ADescriptorUsedAgainDoesNotBringTheOldFilesBytes) {
  const Buffer buffer = make_buffer(4096);
  for (uint64_t i = 0; i < 5; ++i) {
    const std::vector<std::byte> bytes = random_bytes(4096, i);
    const DirectFile file = open(bytes, "data" + std::to_string(i));
    const ReadRequest request{.file = &file,
                              .size_bytes = 4096,
                              .needed_bytes = 4096,
                              .destination = buffer.get(),
                              .tag = i};
    read_all(*queue_, {&request, 1});
    EXPECT_EQ(std::memcmp(buffer.get(), bytes.data(), 4096), 0) << i;
  }
}

TEST_P(ReadQueueTest, EveryCancelledRequestStillEndsOnce) {
  const std::vector<std::byte> bytes = random_bytes(4 << 20, 1);
  const DirectFile file = open(bytes);
  std::vector<Buffer> buffers;
  std::vector<ReadRequest> requests;
  for (uint64_t tag = 0; tag < 20; ++tag) {
    buffers.push_back(make_buffer(bytes.size()));
    requests.push_back({.file = &file,
                        .size_bytes = bytes.size(),
                        .needed_bytes = bytes.size(),
                        .destination = buffers.back().get(),
                        .tag = tag,
                        .deadline = Deadline::speculative});
  }
  queue_->submit(requests);
  queue_->promote(19);
  for (uint64_t tag = 0; tag < 10; ++tag) queue_->cancel(tag);
  const std::map<uint64_t, ReadResult> results = drain();
  ASSERT_EQ(results.size(), 20u);
  for (const auto& [tag, result] : results) {
    if (result.error == 0) {
      EXPECT_EQ(std::memcmp(buffers[tag].get(), bytes.data(), bytes.size()), 0);
    } else {
      EXPECT_EQ(result.error, ReadResult::kCancelled);
      EXPECT_LT(tag, 10u);
    }
  }
}

TEST_P(ReadQueueTest, PollAloneGetsEverythingDone) {
  const std::vector<std::byte> bytes = random_bytes(3 << 20, 1);
  const DirectFile file = open(bytes);
  const Buffer buffer = make_buffer(bytes.size());
  const ReadRequest request{.file = &file,
                            .size_bytes = bytes.size(),
                            .needed_bytes = bytes.size(),
                            .destination = buffer.get(),
                            .tag = 1};
  std::array<ReadResult, 1> result;
  EXPECT_EQ(queue_->poll(result), 0u);
  queue_->submit({&request, 1});
  while (queue_->poll(result) == 0) ::sched_yield();
  EXPECT_EQ(result[0].error, 0);
  EXPECT_EQ(std::memcmp(buffer.get(), bytes.data(), bytes.size()), 0);
}

TEST_P(ReadQueueTest, ItsDestructorWaitsForReadsUnderWay) {
  const std::vector<std::byte> bytes = random_bytes(8 << 20, 1);
  const DirectFile file = open(bytes);
  for (int round = 0; round < 5; ++round) {
    std::unique_ptr<ReadQueue> queue =
        make_read_queue(std::get<0>(GetParam()), std::get<1>(GetParam()));
    const Buffer buffer = make_buffer(bytes.size());
    const ReadRequest request{.file = &file,
                              .size_bytes = bytes.size(),
                              .needed_bytes = bytes.size(),
                              .destination = buffer.get(),
                              .tag = 1};
    queue->submit({&request, 1});
    queue.reset();
    // Nothing may land from here on.
    std::memset(buffer.get(), 0x77, bytes.size());
    for (size_t i = 0; i < bytes.size(); i += 512) ASSERT_EQ(buffer.get()[i], std::byte{0x77});
  }
}

TEST_P(ReadQueueTest, RegisteredMemoryIsReadIntoLikeAnyOther) {
  const std::vector<std::byte> bytes = random_bytes(3 << 20, 1);
  const DirectFile file = open(bytes);
  const size_t slab_bytes = 8 << 20;
  void* slab =
      ::mmap(nullptr, slab_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(slab, MAP_FAILED);
  auto* memory = static_cast<std::byte*>(slab);
  // The rest of the slab stays outside, so that requests lie in it, beside it and across its end.
  const bool first = queue_->register_buffer({memory, 2 << 20});
  const bool second = queue_->register_buffer({memory + (4 << 20), 1 << 20});
  EXPECT_EQ(queue_->description().find("registered") != std::string::npos, first || second);
  EXPECT_FALSE(queue_->register_buffer({}));
  uint64_t tag = 0;
  for (const size_t place :
       {size_t{0}, size_t{1} << 20, size_t{3} << 20, (size_t{4} << 20) + 4096}) {
    std::memset(memory, 0, slab_bytes);
    const ReadRequest request{.file = &file,
                              .size_bytes = bytes.size(),
                              .needed_bytes = bytes.size(),
                              .destination = memory + place,
                              .tag = tag++};
    read_all(*queue_, {&request, 1});
    EXPECT_EQ(std::memcmp(memory + place, bytes.data(), bytes.size()), 0) << place;
  }
  queue_.reset();
  ::munmap(slab, slab_bytes);
}

std::string parameter_name(const ::testing::TestParamInfo<ReadQueueTest::ParamType>& info) {
  const auto [backend, depth, direct] = info.param;
  return std::string(backend == ReadBackend::pread ? "pread" : "io_uring") + "_depth" +
         std::to_string(depth) + (direct ? "_direct" : "_buffered");
}

INSTANTIATE_TEST_SUITE_P(BackEnds, ReadQueueTest,
                         ::testing::Combine(::testing::Values(ReadBackend::io_uring,
                                                              ReadBackend::pread),
                                            ::testing::Values(1u, 64u), ::testing::Bool()),
                         parameter_name);

TEST(MakeReadQueue, RefusesDepthsOutOfRange) {
  EXPECT_THROW(make_read_queue(ReadBackend::pread, 0), Error);
  EXPECT_THROW(make_read_queue(ReadBackend::automatic, kMaxQueueDepth + 1), Error);
  EXPECT_NO_THROW(make_read_queue(ReadBackend::automatic, kMaxQueueDepth));
}

TEST(MakeReadQueue, SaysWhyItFellBack) {
  std::string reason = "stale";
  const auto queue = make_read_queue(ReadBackend::automatic, 4, &reason);
  EXPECT_EQ(reason.empty(), queue->description() == "io_uring");
  EXPECT_EQ(make_read_queue(ReadBackend::pread, 64)->description(), "pread ×16");
}

}  // namespace
}  // namespace sluice
