// The cache of keys and values against one that keeps everything.

#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace sluice {
namespace {

constexpr uint32_t kHeads = 2, kHeadDim = 4;

// What is written at a position: no two values are alike.
std::vector<float> row_of(uint32_t layer, uint64_t position, bool values) {
  std::vector<float> row(kHeads * kHeadDim);
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] = static_cast<float>(((position * 4 + layer) * 2 + (values ? 1 : 0)) * row.size() + i);
  }
  return row;
}

void write(KvCache& cache, uint32_t layer, uint64_t position, uint32_t tokens) {
  cache.make_room(layer, position, tokens);
  for (uint64_t p = position; p < position + tokens; ++p) {
    cache.write(layer, p, row_of(layer, p, false).data(), row_of(layer, p, true).data());
  }
}

// Whether the rows of [begin, end) are what was written there.
bool holds(const KvCache& cache, uint32_t layer, uint64_t begin, uint64_t end) {
  for (uint32_t head = 0; head < kHeads; ++head) {
    const std::byte* found[] = {cache.keys(layer, head, begin), cache.values(layer, head, begin)};
    for (uint64_t p = begin; p < end; ++p) {
      for (const bool values : {false, true}) {
        const std::vector<float> row = row_of(layer, p, values);
        constexpr size_t kBytes = kHeadDim * sizeof(float);
        if (std::memcmp(found[values] + (p - begin) * kBytes, row.data() + head * kHeadDim,
                        kBytes) != 0) {
          return false;
        }
      }
    }
  }
  return true;
}

KvShape shape_of(std::vector<uint32_t> windows, uint64_t context, uint32_t chunk) {
  return {.layers = static_cast<uint32_t>(windows.size()),
          .kv_heads = kHeads,
          .head_dim = kHeadDim,
          .context = context,
          .format = kernels::KvFormat::f32,
          .windows = std::move(windows),
          .chunk = chunk};
}

TEST(KvCache, HoldsWhatEveryTokenSeesInWhateverChunksItComes) {
  std::mt19937 random(1);
  for (const uint32_t chunk : {1u, 2u, 5u, 16u}) {
    const std::vector<uint32_t> windows = {0, 1, 3, 8};
    KvCache cache(shape_of(windows, 300, chunk));
    // A second session begins anew.
    for (const uint64_t length : {170u, 300u}) {
      for (uint64_t position = 0; position < length;) {
        const auto tokens =
            static_cast<uint32_t>(std::min<uint64_t>(1 + random() % chunk, length - position));
        for (uint32_t layer = 0; layer < windows.size(); ++layer) {
          // A call that was stopped half way is made again.
          if (random() % 8 == 0) write(cache, layer, position, tokens);
          write(cache, layer, position, tokens);
          const uint64_t window = windows[layer] == 0 ? 300 : windows[layer];
          const uint64_t begin = position + 1 > window ? position + 1 - window : 0;
          ASSERT_TRUE(holds(cache, layer, begin, position + tokens))
              << "layer " << layer << ", position " << position << ", chunks of " << chunk;
        }
        position += tokens;
      }
    }
  }
}

TEST(KvCache, OfALayerWithAWindowDoesNotGrowWithTheContext) {
  const auto expect_rows = [](const KvShape& shape, uint64_t rows) {
    const uint64_t bytes = rows * 2 * kHeads * kHeadDim * sizeof(float);
    EXPECT_GE(KvCache::bytes(shape), bytes);
    EXPECT_LE(KvCache::bytes(shape), bytes + 8192);  // whole pages, one for alignment
  };
  expect_rows(shape_of({0, 0}, 100'000, 8), 200'000);
  expect_rows(shape_of({0, 16}, 100'000, 8), 100'000 + 2 * 16 + 8);
  expect_rows(shape_of({160}, 200, 8), 200);  // never more than the context
}

}  // namespace
}  // namespace sluice
