// The loops that others are compared with do the work they are timed for: every page is read and
// nothing behind the last byte, every thread takes its turn, reads stay where they are told to.
#include "bench/ceiling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "cache/slab.h"
#include "io/error.h"
#include "tests/io/temporary_directory.h"

namespace sluice::bench {
namespace {

using testing::HasSubstr;

// Anonymous pages that nobody has touched, with one behind them that nobody may touch.
class UntouchedPages {
 public:
  explicit UntouchedPages(size_t pages) : pages_(pages) {
    void* mapping = mmap(nullptr, (pages + 1) * kPageBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) throw Error("mmap: ", errno_text(errno));
    data_ = static_cast<std::byte*>(mapping);
    madvise(data_, pages * kPageBytes, MADV_NOHUGEPAGE);
    mprotect(data_ + pages * kPageBytes, kPageBytes, PROT_NONE);
  }
  ~UntouchedPages() { munmap(data_, (pages_ + 1) * kPageBytes); }
  UntouchedPages(const UntouchedPages&) = delete;
  UntouchedPages& operator=(const UntouchedPages&) = delete;

  std::span<std::byte> bytes() const { return {data_, pages_ * kPageBytes}; }
  size_t touched() const {
    std::vector<unsigned char> resident(pages_);
    if (mincore(data_, pages_ * kPageBytes, resident.data()) != 0) {
      throw Error("mincore: ", errno_text(errno));
    }
    size_t count = 0;
    for (const unsigned char page : resident) count += page & 1u;
    return count;
  }

 private:
  size_t pages_;
  std::byte* data_;
};

TEST(Ceiling, ThePlainLoopReadsEveryPageAndNothingElse) {
  for (const size_t pages : {1u, 2u, 3u, 7u, 64u, 1001u}) {
    const UntouchedPages memory(pages);
    ASSERT_EQ(memory.touched(), 0u);
    read_plainly(memory.bytes());
    EXPECT_EQ(memory.touched(), pages);
  }
}

TEST(Ceiling, TheLastLinesOfOddSizesAreReadToo) {
  for (const size_t lines : {1u, 7u, 8u, 9u, 31u, 33u, 63u}) {
    const UntouchedPages memory(1);
    read_plainly(memory.bytes().last(lines * 64));  // ends at the page that may not be touched
    EXPECT_EQ(memory.touched(), 1u);
  }
}

TEST(Ceiling, ThreadsShareTheBytes) {
  for (const uint32_t threads : {1u, 2u, 3u, 5u}) {
    const UntouchedPages memory(67);
    read_plainly_on(threads, memory.bytes());
    EXPECT_EQ(memory.touched(), 67u);
  }
}

TEST(Ceiling, EveryThreadRunsOnceAndTheSlowestOneIsTheTime) {
  std::vector<std::atomic<int>> ran(4);
  const Seconds seconds = seconds_on(4, [&](uint32_t t) {
    ++ran[t];
    if (t == 2) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  });
  for (const auto& count : ran) EXPECT_EQ(count, 1);
  EXPECT_GE(seconds.wall, 0.02);         // sleeping takes time,
  EXPECT_LT(seconds.own, seconds.wall);  // and no processor
}

TEST(Ceiling, MemoryHasARate) {
  const Slab memory(4 << 20);
  std::fill(memory.bytes().begin(), memory.bytes().end(), std::byte{1});
  for (const uint32_t threads : {1u, 2u}) {
    const double rate = memory_read_rate(memory.bytes(), threads, 3);
    EXPECT_TRUE(std::isfinite(rate));
    EXPECT_GT(rate, 0);
  }
}

TEST(Ceiling, AWindowCountsWhatEndsBehindItsFirstReadAndIsNotOverBeforeTwo) {
  Window window(0, 0);  // over at once
  EXPECT_TRUE(window.add(1000));
  EXPECT_EQ(window.bytes_per_second(), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_FALSE(window.add(2000));
  EXPECT_GT(window.bytes_per_second(), 0);
  EXPECT_LE(window.bytes_per_second(), 2000 / 0.001);  // of the second read alone

  Window ramp(1000, 1);
  EXPECT_TRUE(ramp.add(1000));
  EXPECT_TRUE(ramp.add(1000));
  EXPECT_EQ(ramp.bytes_per_second(), 0);
}

class DiskCeiling : public testing::Test {
 protected:
  DiskRead task(uint64_t block_bytes, uint32_t depth) const {
    return {.path = path_, .block_bytes = block_bytes, .depth = depth, .seconds = 0.01};
  }
  static std::string error_of(const DiskRead& task) {
    try {
      disk_read_rate(task);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  TemporaryDirectory directory_;
  std::string path_ = directory_.write("blocks", std::string((1 << 20) + 100, 'x'));
};

TEST_F(DiskCeiling, BlocksAreReadAtEverySizeAndDepth) {
  for (const uint64_t block_bytes : {uint64_t{4096}, uint64_t{65536}, uint64_t{1} << 20}) {
    for (const uint32_t depth : {1u, 3u, 16u}) {
      const double rate = disk_read_rate(task(block_bytes, depth));
      EXPECT_TRUE(std::isfinite(rate));
      EXPECT_GT(rate, 0);
    }
  }
}

TEST_F(DiskCeiling, APartOfTheFileMustHoldABlock) {
  DiskRead read = task(65536, 2);
  read.first_byte = (1 << 20) - 65536;
  EXPECT_EQ(error_of(read), "no error");
  read.first_byte += 1;  // rounded up to the next page
  EXPECT_THAT(error_of(read), HasSubstr("no room for a block of 65536 bytes"));
  read.first_byte = 4096;
  read.end_byte = 65536;
  EXPECT_THAT(error_of(read), HasSubstr(path_ + ": bytes 4096 to 65536 have no room"));
  read.end_byte += 4096;
  EXPECT_EQ(error_of(read), "no error");
}

TEST_F(DiskCeiling, AFileThatIsNotThereIsNamed) {
  DiskRead read = task(4096, 1);
  read.path += ".not";
  EXPECT_THAT(error_of(read), HasSubstr(read.path));
}

}  // namespace
}  // namespace sluice::bench
