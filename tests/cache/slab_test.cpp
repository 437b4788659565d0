#include "cache/slab.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/error.h"

namespace sluice {
namespace {

uintptr_t address(const Slab& slab) { return reinterpret_cast<uintptr_t>(slab.data()); }

TEST(Slab, IsPageAlignedZeroedAndReadablePastItsEnd) {
  const Slab slab(3 * kPageBytes);
  EXPECT_EQ(address(slab) % kPageBytes, 0u);
  EXPECT_EQ(slab.bytes().size(), 3 * kPageBytes);
  EXPECT_EQ(slab.description(), "4 KiB pages");
  uint64_t sum = 0;
  for (uint64_t i = 0; i < 4 * kPageBytes; ++i) sum += static_cast<uint64_t>(slab.data()[i]);
  EXPECT_EQ(sum, 0u);
  slab.bytes().back() = std::byte{7};
  EXPECT_EQ(slab.data()[3 * kPageBytes - 1], std::byte{7});
}

TEST(Slab, IsHugePageAlignedAsSoonAsAHugePageFits) {
  const Slab small(kHugePageBytes - kPageBytes);
  EXPECT_EQ(small.description(), "4 KiB pages");
  const Slab large(kHugePageBytes + kPageBytes);  // the last page is a small one
  EXPECT_EQ(address(large) % kHugePageBytes, 0u);
  large.bytes().front() = std::byte{1};
  large.bytes().back() = std::byte{2};
  EXPECT_EQ(large.data()[large.bytes().size()], std::byte{0});  // the page behind the end
}

TEST(Slab, NamesTheSizeItCouldNotMap) {
  for (const uint64_t bytes : {uint64_t{1} << 60, ~uint64_t{0} - 4095}) {
    try {
      const Slab slab(bytes);
      FAIL() << "mapped " << bytes << " bytes";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(std::to_string(bytes)));
    }
  }
}

}  // namespace
}  // namespace sluice
