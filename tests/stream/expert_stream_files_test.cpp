// ExpertStream over the real back ends and real files, with other threads reading the views as
// compute does while reads land in neighbouring slots.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <numeric>
#include <thread>

#include "io/error.h"
#include "stream/expert_stream.h"
#include "tests/stream/toy_checkpoint.h"

namespace sluice {
namespace {

class ExpertStreamFiles : public testing::TestWithParam<ReadBackend> {
 protected:
  void SetUp() override {
    try {
      queue_ = make_read_queue(GetParam(), /*depth=*/8);
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }

  void open(const ToyModel& toy, bool allow_direct) {
    files_.clear();
    file_pointers_.clear();
    for (const std::string& path : toy.files()) {
      files_.push_back(std::make_unique<DirectFile>(path, allow_direct));
      file_pointers_.push_back(files_.back().get());
    }
  }

  ExpertStream stream(const ExpertSource& source, uint64_t slots) {
    return ExpertStream(source, file_pointers_, *queue_,
                        {.budget_bytes = slots * source.slot_bytes()});
  }

  std::unique_ptr<ReadQueue> queue_;
  std::vector<std::unique_ptr<DirectFile>> files_;
  std::vector<const DirectFile*> file_pointers_;
};

const ToyLayer kPlain{.dtype = DType::f32, .experts = 12, .hidden = 96, .intermediate = 200};
const ToyLayer kStacked{
    .stacked = true, .experts = 16, .hidden = 256, .intermediate = 128, .codebook_length = 3};

TEST_P(ExpertStreamFiles, DeliversTheBytesOfTheFiles) {
  for (const double share : {0.0, 1.0}) {
    const ToyModel toy({kPlain, kStacked}, 3, 7);
    const ExpertSource source = toy.source(share);
    for (const bool allow_direct : {true, false}) {
      open(toy, allow_direct);
      for (const uint64_t slots : {1u, 4u, 9u, 28u}) {
        ExpertStream experts = stream(source, slots);
        std::mt19937 random(static_cast<uint32_t>(slots));
        for (int repeat = 0; repeat < 10; ++repeat) {
          const uint32_t layer = random() % 2;
          std::vector<uint32_t> wanted(toy.layers()[layer].experts);
          std::iota(wanted.begin(), wanted.end(), 0u);
          std::shuffle(wanted.begin(), wanted.end(), random);
          wanted.resize(1 + random() % wanted.size());
          size_t visited = 0;
          auto fetch =
              experts.fetch(layer, wanted, repeat % 2 == 0 ? FetchMode::decode : FetchMode::sweep);
          while (const auto i = fetch.next()) {
            EXPECT_TRUE(toy.holds(layer, wanted[*i], fetch.view(*i)));
            fetch.release(*i);
            ++visited;
          }
          EXPECT_EQ(visited, wanted.size());
        }
        experts.cache().check_invariants();
      }
    }
  }
}

// What a kernel reads of a matrix: its bytes and a vector past them.
uint64_t sum_with_overread(const std::byte* data, uint64_t bytes) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < bytes + kSlotTailBytes; ++i) sum += static_cast<uint64_t>(data[i]);
  return sum;
}

TEST_P(ExpertStreamFiles, LetsOtherThreadsReadViewsWhileNeighboursAreFilled) {
  for (const double share : {0.0, 1.0}) {
    const ToyModel toy({kPlain}, 1, 3);
    const ExpertSource source = toy.source(share);
    open(toy, true);
    ExpertStream experts = stream(source, 3);
    std::vector<uint32_t> wanted(kPlain.experts);
    std::iota(wanted.begin(), wanted.end(), 0u);
    for (int repeat = 0; repeat < 20; ++repeat) {
      auto fetch = experts.fetch(0, wanted, FetchMode::decode);
      while (const auto i = fetch.next()) {
        const ExpertView view = fetch.view(*i);
        std::atomic<bool> right = false;
        std::thread compute([&] {
          const uint64_t bytes = uint64_t{kPlain.hidden} * kPlain.intermediate * sizeof(float);
          for (const ProjectionView& projection : view) {
            sum_with_overread(projection.data, bytes);
          }
          right = toy.holds(0, wanted[*i], view);
        });
        experts.poll();
        compute.join();
        EXPECT_TRUE(right);
        fetch.release(*i);
      }
    }
  }
}

TEST_P(ExpertStreamFiles, SaysThatAFileWasCutWhileItWasInUse) {
  const ToyModel toy({kPlain}, 1, 5);
  const ExpertSource source = toy.source();
  open(toy, true);
  const std::string& path = files_[0]->path();
  const uint64_t whole = files_[0]->size_bytes();
  ExpertStream experts = stream(source, 4);
  std::filesystem::resize_file(path, 4096);
  const std::vector<uint32_t> wanted = {0, 1, 2, 3};
  try {
    auto fetch = experts.fetch(0, wanted, FetchMode::decode);
    while (fetch.next()) continue;
    FAIL() << "read experts of a file that has none of them";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("layer 10"), testing::HasSubstr("expert "),
                               testing::HasSubstr(path)));
  }
  EXPECT_EQ(experts.cache().leased(), 0u);
  EXPECT_EQ(queue_->in_flight(), 0u);
  std::filesystem::resize_file(path, whole);  // zeros, but there
  auto fetch = experts.fetch(0, wanted, FetchMode::decode);
  size_t visited = 0;
  while (fetch.next()) ++visited;
  EXPECT_EQ(visited, 4u);
}

INSTANTIATE_TEST_SUITE_P(Backends, ExpertStreamFiles,
                         testing::Values(ReadBackend::io_uring, ReadBackend::pread),
                         [](const auto& backend) {
                           return backend.param == ReadBackend::pread ? "pread" : "io_uring";
                         });

}  // namespace
}  // namespace sluice
