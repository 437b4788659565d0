// What a disk may do to a model: slow, reordered and short reads change nothing; a read error ends
// the call with a message that says where, and leaves the model usable.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "io/error.h"
#include "model/model_impl.h"
#include "tests/io/simulated_queue.h"
#include "tests/model/golden_case.h"

namespace sluice {
namespace {

const char* const kCases[] = {"qwen3_moe", "tq3_qwen3_moe"};

// Room for three of the eight experts of a layer: most of what is wanted has to be read.
ModelOptions small_budget(const std::string& directory) {
  ModelOptions options;
  options.threads = 2;
  options.budget.kind = BudgetRequest::Kind::all;
  const uint64_t floor_bytes = Model::load(directory, options).plan().floor_bytes;
  options.budget = {.kind = BudgetRequest::Kind::fixed, .bytes = floor_bytes / 2 * 3};
  return options;
}

TEST(Faults, DelayedReorderedShortAndInterruptedReadsChangeNoBit) {
  for (const char* name : kCases) {
    const GoldenCase golden(name);
    ModelOptions options = small_budget(golden.directory);
    Model plain = Model::load(golden.directory, options);
    Session plain_session(plain);
    const std::vector<float> expected = prefill_logits(plain_session, golden.ids);
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      options.make_queue = [seed] {
        return std::make_unique<SimulatedQueue>(SimulatedQueue::Options{
            .seed = seed, .depth = 3, .shorten = 0.3, .interrupt = 0.2, .busy = 0.2});
      };
      options.prefill_chunk = static_cast<uint32_t>(seed);
      Model model = Model::load(golden.directory, options);
      Session session(model);
      const std::vector<float> logits = prefill_logits(session, golden.ids);
      ASSERT_EQ(logits.size(), expected.size());
      EXPECT_EQ(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)), 0)
          << name << ", seed " << seed;
    }
  }
}

TEST(Faults, AReadErrorDuringDecodeNamesLayerExpertAndFileAndLeavesTheModelUsable) {
  for (const char* name : kCases) {
    const GoldenCase golden(name);
    ModelOptions options = small_budget(golden.directory);
    SimulatedQueue* queue = nullptr;
    options.make_queue = [&queue] {
      auto simulated = std::make_unique<SimulatedQueue>();
      queue = simulated.get();
      return simulated;
    };
    Model model = Model::load(golden.directory, options);
    Session session(model);
    const std::span<const uint32_t> prompt(golden.ids.data(), golden.prompt_length);
    session.prefill(prompt);

    for (const DirectFile& file : model.impl().files) {
      queue->fail_range(file, 0, file.size_bytes(), EIO);
    }
    std::string message;
    uint64_t position = 0;
    try {
      for (size_t t = golden.prompt_length; t < golden.ids.size(); ++t) {
        position = session.position();
        session.decode(golden.ids[t]);
      }
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_THAT(message, testing::ContainsRegex("layer [0-9]+, expert [0-9]+.*safetensors"));
    EXPECT_EQ(session.position(), position) << "the failed token was not taken";

    queue->clear_failures();
    std::vector<float> logits;
    for (size_t t = position; t < golden.ids.size(); ++t) {
      const auto span = session.decode(golden.ids[t]);
      logits.assign(span.begin(), span.end());
    }
    Session fresh(model);
    const auto expected = fresh.prefill(golden.ids);
    EXPECT_EQ(std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)), 0);
  }
}

}  // namespace
}  // namespace sluice
