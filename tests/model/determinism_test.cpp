// The same logits to the bit, whatever the budget, the back end, the depth, the threads, the
// prefill chunks: nothing that decides when something is computed may decide what comes out.
// (Instruction sets are compared by tests/tools/identity_test.cpp, since a process picks one.)

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "io/error.h"
#include "model/session.h"
#include "tests/model/golden_case.h"

namespace sluice {
namespace {

struct Setting {
  std::string name;
  double budget_share = 1;  // of all experts; 0: the floor
  ReadBackend backend = ReadBackend::automatic;
  uint32_t depth = 16;
  uint32_t threads = 1;
  uint32_t chunk = 512;
  uint32_t logits_batch = 1;
  uint32_t look_ahead = 0;
  Bounce bounce = Bounce::off;
};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const ReadBackend backend : {ReadBackend::io_uring, ReadBackend::pread}) {
    const std::string name = backend == ReadBackend::pread ? "pread" : "io_uring";
    try {
      make_read_queue(backend, 1);
    } catch (const Error& error) {
      std::fprintf(stderr, "skipped: %s\n", error.what());
      continue;
    }
    for (const double share : {0.0, 0.1, 0.5, 1.0}) {
      all.push_back({.name = name + " budget " + std::to_string(share),
                     .budget_share = share,
                     .backend = backend});
    }
    all.push_back({.name = name + " bounced",
                   .budget_share = 0.3,
                   .backend = backend,
                   .look_ahead = 4,
                   .bounce = Bounce::on});
    for (const uint32_t depth : {1u, 64u}) {
      all.push_back({.name = name + " depth " + std::to_string(depth),
                     .budget_share = 0.1,
                     .backend = backend,
                     .depth = depth});
    }
  }
  for (const uint32_t threads : {2u, 3u}) {
    all.push_back(
        {.name = "threads " + std::to_string(threads), .budget_share = 0.3, .threads = threads});
  }
  for (const uint32_t chunk : {1u, 7u, 64u}) {
    all.push_back({.name = "chunk " + std::to_string(chunk),
                   .budget_share = 0.3,
                   .threads = 2,
                   .chunk = chunk});
  }
  for (const uint32_t batch : {3u, 512u}) {
    all.push_back({.name = "logits of " + std::to_string(batch),
                   .budget_share = 0.3,
                   .threads = 2,
                   .logits_batch = batch});
  }
  for (const uint32_t ranks : {1u, 8u}) {
    for (const double share : {0.1, 0.5}) {
      all.push_back(
          {.name = "look-ahead of " + std::to_string(ranks) + ", budget " + std::to_string(share),
           .budget_share = share,
           .threads = 2,
           .look_ahead = ranks});
    }
  }
  return all;
}

ModelOptions model_options(const Setting& setting, const MemoryPlan& whole, Compute compute) {
  ModelOptions options;
  options.compute = compute;
  options.io_backend = setting.backend;
  options.io_depth = setting.depth;
  options.threads = setting.threads;
  options.prefill_chunk = setting.chunk;
  options.logits_batch = setting.logits_batch;
  options.look_ahead = setting.look_ahead;
  options.bounce = setting.bounce;
  if (setting.budget_share >= 1) {
    options.budget.kind = BudgetRequest::Kind::all;
  } else {
    const auto share =
        static_cast<uint64_t>(static_cast<double>(whole.cache_bytes) * setting.budget_share);
    options.budget = {.kind = BudgetRequest::Kind::fixed,
                      .bytes = std::max(share, whole.floor_bytes)};
  }
  return options;
}

constexpr int kDecoded = 6;

// A prompt in one prefill, then some greedy tokens: all logits on the way.
std::vector<float> run(const std::string& directory, const ModelOptions& options,
                       std::span<const uint32_t> prompt) {
  Model model = Model::load(directory, options);
  Session session(model);
  std::vector<float> all = prefill_logits(session, prompt);
  const size_t vocabulary = model.config().vocabulary;
  for (int i = 0; i < kDecoded; ++i) {
    const auto logits = session.decode(argmax(std::span(all).last(vocabulary)));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

void expect_one_result(const std::string& directory, std::span<const uint32_t> prompt,
                       Compute compute) {
  ModelOptions whole;
  whole.compute = compute;
  whole.threads = 1;
  whole.budget.kind = BudgetRequest::Kind::all;
  const MemoryPlan plan = Model::load(directory, whole).plan();
  const std::vector<float> expected = run(directory, whole, prompt);
  for (const Setting& setting : settings()) {
    EXPECT_TRUE(same_bits(run(directory, model_options(setting, plan, compute), prompt), expected))
        << setting.name;
  }
}

class Determinism : public testing::TestWithParam<std::string> {};

TEST_P(Determinism, DefaultComputeGivesOneResult) {
  const GoldenCase golden(GetParam());
  expect_one_result(golden.directory, golden.ids, Compute::int16);
}

TEST_P(Determinism, Float32GivesOneResult) {
  const GoldenCase golden(GetParam());
  expect_one_result(golden.directory, golden.ids, Compute::f32);
}

// What the last blocks leave out of tokens whose logits nobody asks for is missed by nobody: not by
// the last token, and not by those decoded after it.
TEST_P(Determinism, UnaskedLogitsChangeNothing) {
  const GoldenCase golden(GetParam());
  for (const uint32_t chunk : {3u, 512u}) {
    ModelOptions options;
    options.prefill_chunk = chunk;
    const std::vector<float> expected = run(golden.directory, options, golden.ids);
    Model model = Model::load(golden.directory, options);
    Session session(model);
    const std::span<const float> prompt = session.prefill(golden.ids);
    std::vector<float> all(
        expected.begin(),
        expected.begin() + static_cast<std::ptrdiff_t>((golden.ids.size() - 1) * prompt.size()));
    all.insert(all.end(), prompt.begin(), prompt.end());
    for (int i = 0; i < kDecoded; ++i) {
      const auto logits = session.decode(argmax(std::span(all).last(prompt.size())));
      all.insert(all.end(), logits.begin(), logits.end());
    }
    EXPECT_TRUE(same_bits(all, expected)) << chunk;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Determinism,
                         testing::Values("qwen3", "qwen3_moe", "mistral", "gpt_oss", "glm4_moe",
                                         "qwen2_moe", "deepseek_v2", "deepseek_v3", "deepseek_v32",
                                         "qwen3_5", "nemotron_h_latent", "tq3_qwen3_5_moe",
                                         "tq3a_tq2e_qwen3_moe", "tq3_qwen3_moe_blockwise"),
                         [](const auto& test) { return test.param; });

// What on_logits is spared before logits_from changes nothing behind it, wherever chunks end.
TEST(LogitsFrom, HandsOutTheSameRowsFromThereOn) {
  const GoldenCase golden("qwen3_moe");
  for (const uint32_t chunk : {3u, 512u}) {
    ModelOptions options;
    options.prefill_chunk = chunk;
    options.logits_batch = 2;
    Model model = Model::load(golden.directory, options);
    Session session(model);
    const std::vector<float> all = prefill_logits(session, golden.ids);
    for (size_t from = 0; from <= golden.ids.size(); ++from) {
      session.reset();
      std::vector<float> rows;
      std::vector<uint64_t> positions;
      const auto sink = [&](uint64_t position, std::span<const float> logits) {
        positions.push_back(position);
        rows.insert(rows.end(), logits.begin(), logits.end());
      };
      const auto last = session.prefill(golden.ids, sink, {}, {}, from);
      ASSERT_EQ(positions.size(), golden.ids.size() - from) << from;
      if (!positions.empty()) {
        EXPECT_EQ(positions.front(), from);
      }
      const std::vector<float> expected(all.end() - static_cast<std::ptrdiff_t>(rows.size()),
                                        all.end());
      EXPECT_TRUE(same_bits(rows, expected)) << from;
      EXPECT_TRUE(
          same_bits({last.begin(), last.end()},
                    {all.end() - static_cast<std::ptrdiff_t>(golden.vocabulary), all.end()}));
    }
  }
}

// Of the last layer's experts a prompt needs those of its last token; of a chunk before it, none.
// And no others are read ahead.
TEST(LogitsFrom, DemandsNoExpertsForLogitsThatNobodyAsksFor) {
  const std::string directory = SLUICE_DEMO_MODEL;
  const ModelConfig config = read_config(directory);
  std::vector<uint32_t> prompt;
  for (uint32_t i = 0; i < 240; ++i) prompt.push_back(3 + i * 97 % 8000);
  const auto run = [&](uint32_t chunk, bool asked) {
    ModelOptions options;
    options.prefill_chunk = chunk;
    options.look_ahead = config.experts;
    options.budget.kind = BudgetRequest::Kind::all;
    Model model = Model::load(directory, options);
    Session session(model);
    const auto ignore = [](uint64_t, std::span<const float>) {};
    session.prefill(prompt, asked ? ignore : Session::LogitsSink{});
    return model.stream_statistics().cache;
  };
  const auto demands = [](const CacheStatistics& cache) {
    return cache.hits + cache.in_flight_hits + cache.misses;
  };
  EXPECT_EQ(demands(run(1, true)) - demands(run(1, false)),
            (prompt.size() - 1) * config.experts_per_token);
  const CacheStatistics unasked = run(512, false);
  EXPECT_LT(demands(unasked), demands(run(512, true)));
  EXPECT_LE(unasked.misses + unasked.speculative_loads,
            (config.layers - 1) * config.experts + config.experts_per_token);
}

// The bundled model: 64 experts of 8 layers, so that budgets between floor and all evict for real.
TEST(DeterminismOfTheBundledModel, DefaultComputeGivesOneResult) {
  std::vector<uint32_t> prompt;
  for (uint32_t i = 0; i < 70; ++i) prompt.push_back(3 + i * 97 % 8000);
  expect_one_result(SLUICE_DEMO_MODEL, prompt, Compute::int16);
}

}  // namespace
}  // namespace sluice
