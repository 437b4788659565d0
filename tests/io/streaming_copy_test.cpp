#include "io/streaming_copy.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace sluice {
namespace {

TEST(StreamingCopy, CopiesAnySizeBetweenAnyAddressesAndNothingElse) {
  constexpr size_t kMost = 1000, kMargin = 64;
  std::mt19937 random(1);
  std::vector<std::byte> from(kMost + 2 * kMargin);
  for (std::byte& byte : from) byte = static_cast<std::byte>(random());
  for (int round = 0; round < 2000; ++round) {
    const size_t bytes = random() % kMost, source = random() % kMargin, target = random() % kMargin;
    std::vector<std::byte> to(target + bytes + kMargin, std::byte{0x5a});
    std::vector<std::byte> expected = to;
    std::copy_n(from.begin() + static_cast<ptrdiff_t>(source), bytes,
                expected.begin() + static_cast<ptrdiff_t>(target));
    streaming_copy(to.data() + target, from.data() + source, bytes);
    ASSERT_EQ(to, expected) << bytes << " bytes, " << source << " to " << target;
  }
}

}  // namespace
}  // namespace sluice
