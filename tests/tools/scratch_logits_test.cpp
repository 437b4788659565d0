#include "tools/scratch_logits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "io/error.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<float> row(uint64_t index, uint32_t vocabulary) {
  std::vector<float> values(vocabulary);
  for (uint32_t i = 0; i < vocabulary; ++i) {
    values[i] = static_cast<float>(index) + static_cast<float>(i) / 1024;
  }
  return values;
}

void expect_row(ScratchLogits& scratch, uint64_t index, uint32_t vocabulary) {
  const auto got = scratch.at(index);
  EXPECT_EQ(std::vector<float>(got.begin(), got.end()), row(index, vocabulary)) << index;
}

std::string error_of(const std::string& directory, const ScratchLogits::Shape& shape) {
  try {
    ScratchLogits scratch(directory, shape);
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

// Rows of few bytes share blocks, a row of two megabytes is a block of its own.
TEST(ScratchLogits, GivesBackEveryRowInAnyOrder) {
  const TemporaryDirectory temporary;
  for (const auto& [rows, vocabulary] : {std::pair(3000u, 1000u), std::pair(5u, 500'000u)}) {
    ScratchLogits scratch(temporary.path().string(), {.positions = rows, .vocabulary = vocabulary});
    for (uint64_t i = 0; i < rows; ++i) scratch.add(row(i, vocabulary));
    EXPECT_EQ(scratch.size(), rows);
    for (uint64_t i = 0; i < rows; ++i) expect_row(scratch, i, vocabulary);
    for (uint64_t i = 0; i < rows; i += 1 + rows / 20) {
      expect_row(scratch, rows - 1 - i, vocabulary);
    }
  }
}

TEST(ScratchLogits, ReadsWhileRowsAreStillAdded) {
  const TemporaryDirectory temporary;
  ScratchLogits scratch(temporary.path().string(), {.positions = 100, .vocabulary = 1000});
  for (uint64_t i = 0; i < 100; ++i) {
    scratch.add(row(i, 1000));
    expect_row(scratch, i, 1000);
    expect_row(scratch, i / 2, 1000);
  }
}

TEST(ScratchLogits, LeavesNoNameBehind) {
  const TemporaryDirectory temporary;
  ScratchLogits scratch(temporary.path().string(), {.positions = 10, .vocabulary = 10});
  scratch.add(row(0, 10));
  EXPECT_THAT(temporary.names(), IsEmpty());
}

TEST(ScratchLogits, SaysHowMuchRoomIsMissing) {
  const TemporaryDirectory temporary;
  EXPECT_THAT(
      error_of(temporary.path().string(), {.positions = uint64_t{1} << 40, .vocabulary = 1 << 18}),
      HasSubstr("--scratch"));
  EXPECT_THAT(error_of(temporary.file("nowhere"), {.positions = 1, .vocabulary = 1}),
              HasSubstr("No such file"));
}

}  // namespace
}  // namespace sluice
