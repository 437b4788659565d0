// What calibration brings to a running model: pins, traces and policies never change the output,
// and a trace replays to the very figures of the run that wrote it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "io/error.h"
#include "model/session.h"
#include "model/trace_facts.h"
#include "stream/cache_replay.h"
#include "stream/calibration_files.h"
#include "stream/trace_statistics.h"
#include "tests/io/temporary_directory.h"
#include "tests/model/golden_case.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// 64 experts in each of 8 layers.
const std::string kModel = SLUICE_DEMO_MODEL;
constexpr uint32_t kTokens = 10;

ModelOptions options_with_slots(uint64_t slots) {
  ModelOptions options;
  options.context = 128;
  options.threads = 1;
  options.look_ahead = 0;  // a replay knows nothing of it
  options.budget = {.kind = BudgetRequest::Kind::fixed,
                    .bytes = slots * read_trace_facts(kModel).slot_bytes};
  return options;
}

struct Outcome {
  std::vector<float> logits;  // of all tokens
  StreamStatistics stream;
  PinReport pins;
};

// Decodes tokens that have nothing to do with one another, so that their experts are many.
Outcome decode(const ModelOptions& options, const std::string& directory = kModel) {
  Model model = Model::load(directory, options);
  Session session(model);
  Outcome outcome{.logits = {}, .stream = {}, .pins = model.pins()};
  for (uint32_t i = 0; i < kTokens; ++i) {
    const std::span<const float> logits = session.decode(50 + 701 * i);
    outcome.logits.insert(outcome.logits.end(), logits.begin(), logits.end());
  }
  outcome.stream = model.stream_statistics();
  return outcome;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::string load_error(const std::string& directory, const ModelOptions& options) {
  try {
    Model::load(directory, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class Calibration : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (temporary_.path() / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
    return path(name);
  }
  // The bundled model with a hot_experts.json of its own.
  std::string model_with_hotlist(const std::string& text) const {
    const std::filesystem::path directory = temporary_.path() / "model";
    std::filesystem::create_directory(directory);
    for (const auto& entry : std::filesystem::directory_iterator(kModel)) {
      std::filesystem::create_symlink(std::filesystem::absolute(entry.path()),
                                      directory / entry.path().filename());
    }
    std::ofstream(directory / "hot_experts.json") << text;
    return directory.string();
  }

  const TemporaryDirectory temporary_;
};

TEST_F(Calibration, AReplayedTraceGivesTheFiguresOfItsRun) {
  const uint32_t k = read_trace_facts(kModel).experts_per_token;
  for (const std::string& policy : policy_names()) {
    for (const uint32_t slots : {k, 8 * k, 100u, 512u}) {
      ModelOptions options = options_with_slots(slots);
      options.cache_policy = policy;
      options.trace_file = path("trace.jsonl");
      const CacheStatistics run = decode(options).stream.cache;
      const Trace trace = read_trace(options.trace_file);
      ASSERT_TRUE(trace.facts.has_value());
      EXPECT_EQ(*trace.facts, read_trace_facts(kModel));
      EXPECT_EQ(trace.size(), size_t{kTokens} * trace.facts->grid.layers.size());
      const DemandSequence sequence = demand_sequence(trace, trace.facts->grid);
      const CacheStatistics replayed = replay(sequence, {.slots = slots, .policy = policy});
      EXPECT_EQ(run.hits, replayed.hits) << policy << ", " << slots << " slots";
      EXPECT_EQ(run.misses, replayed.misses) << policy << ", " << slots << " slots";
      EXPECT_EQ(run.evictions, replayed.evictions) << policy << ", " << slots << " slots";
      EXPECT_LE(run.hits, optimal_hits(sequence, slots));
    }
  }
}

TEST_F(Calibration, PinsAreReadFirstAndReplayAlike) {
  ModelOptions options = options_with_slots(100);
  options.trace_file = path("trace.jsonl");
  const Outcome plain = decode(options);
  const Trace trace = read_trace(options.trace_file);
  const DemandSequence sequence = demand_sequence(trace, trace.facts->grid);

  std::vector<LayerExpert> pins;
  for (const ExpertKey key : hottest_experts(sequence, 90)) {
    pins.push_back({.layer = trace.facts->grid.layers[key.layer], .expert = key.expert});
  }
  options.pin_file = write("pin.json", pins_text(pins));
  const Outcome pinned = decode(options);
  EXPECT_EQ(pinned.pins.file, options.pin_file);
  EXPECT_EQ(pinned.pins.listed, 90u);
  EXPECT_EQ(pinned.pins.pinned, 60u);  // of 100 slots
  EXPECT_EQ(pinned.pins.bytes, 60 * trace.facts->slot_bytes);
  EXPECT_GT(pinned.stream.cache.pinned_hits, 0u);
  EXPECT_TRUE(same_bits(pinned.logits, plain.logits));

  const CacheStatistics replayed =
      replay(sequence, {.slots = 100, .policy = "lru", .pins = hottest_experts(sequence, 90)});
  EXPECT_EQ(pinned.stream.cache.hits, replayed.hits);
  EXPECT_EQ(pinned.stream.cache.pinned_hits, replayed.pinned_hits);
}

TEST_F(Calibration, PoliciesAndPinsNeverChangeTheOutput) {
  const std::vector<float> expected = decode(options_with_slots(512)).logits;
  const uint32_t k = read_trace_facts(kModel).experts_per_token;
  std::vector<LayerExpert> pins;
  for (uint32_t expert = 0; expert < 30; ++expert) pins.push_back({0, expert});
  const std::string pin_file = write("pin.json", pins_text(pins));
  for (const std::string& policy : policy_names()) {
    for (const uint32_t slots : {k, 40u, 300u}) {
      ModelOptions options = options_with_slots(slots);
      options.cache_policy = policy;
      EXPECT_TRUE(same_bits(decode(options).logits, expected)) << policy << ", " << slots;
      options.pin_file = pin_file;
      EXPECT_TRUE(same_bits(decode(options).logits, expected)) << policy << ", " << slots;
    }
  }
}

TEST_F(Calibration, SweepsOfAPromptGoOnUnderEveryPolicyBesidePins) {
  std::vector<uint32_t> prompt;
  for (uint32_t i = 0; i < 70; ++i) prompt.push_back(3 + i * 97 % 8000);
  std::vector<LayerExpert> pins;
  for (uint32_t i = 0; i < 64; ++i) pins.push_back({i % 8, i});
  const std::string pin_file = write("pin.json", pins_text(pins));
  std::vector<float> expected;
  const uint32_t k = read_trace_facts(kModel).experts_per_token;
  for (const std::string& policy : policy_names()) {
    for (const uint32_t slots : {512u, k, 60u}) {
      ModelOptions options = options_with_slots(slots);
      options.cache_policy = policy;
      options.prefill_chunk = 32;
      options.pin_file = pin_file;
      Model model = Model::load(kModel, options);
      Session session(model);
      const std::vector<float> logits = prefill_logits(session, prompt);
      if (expected.empty()) expected = logits;
      EXPECT_TRUE(same_bits(logits, expected)) << policy << ", " << slots << " slots";
    }
  }
}

TEST_F(Calibration, FindsTheHotlistOfTheModelUnlessToldNotTo) {
  const std::string directory = model_with_hotlist("{\"pin\": [[0, 3], [7, 63]]}");
  ModelOptions options = options_with_slots(100);
  std::pair<uint64_t, uint64_t> loaded;
  const Model model = Model::load(directory, options,
                                  {.planned = {},
                                   .trunk_bytes =
                                       [&](uint64_t done, uint64_t total) {
                                         loaded = {done, total};
                                       },
                                   .prompt_tokens = {}});
  EXPECT_EQ(loaded.first, loaded.second);
  EXPECT_GT(loaded.second, model.pins().bytes);
  EXPECT_EQ(model.pins().file, directory + "/hot_experts.json");
  EXPECT_EQ(model.pins().pinned, 2u);
  EXPECT_EQ(model.stream_statistics().cache.misses, 0u);  // loading them is nobody's demand
  options.no_hotlist = true;
  EXPECT_EQ(Model::load(directory, options).pins().file, "");
  options.no_hotlist = false;
  options.pin_file = write("pin.json", "{\"pin\": [[1, 1]]}");
  EXPECT_EQ(Model::load(directory, options).pins().file, options.pin_file);
}

TEST_F(Calibration, RefusesPinsOfAnotherModel) {
  ModelOptions options = options_with_slots(100);
  options.pin_file = write("pin.json", "{\"pin\": [[9, 0]]}");
  EXPECT_THAT(load_error(kModel, options), AllOf(HasSubstr("pin.json"), HasSubstr("layer 9")));
  options.pin_file = path("nothing.json");
  EXPECT_THAT(load_error(kModel, options), HasSubstr("nothing.json"));
  options.pin_file.clear();
  EXPECT_THAT(load_error(model_with_hotlist("{\"pin\": [[0, 64]]}"), options),
              AllOf(HasSubstr("hot_experts.json"), HasSubstr("--no-hotlist")));
}

TEST_F(Calibration, OfAModelWithoutExpertsIsRefused) {
  const std::string dense = SLUICE_TEST_DATA "/goldens/qwen3";
  ModelOptions options;
  options.trace_file = path("trace.jsonl");
  EXPECT_THAT(load_error(dense, options), HasSubstr("has no experts"));
  EXPECT_FALSE(std::filesystem::exists(options.trace_file));
  options.trace_file.clear();
  options.pin_file = path("pin.json");
  EXPECT_THAT(load_error(dense, options), HasSubstr("has no experts"));
}

class Listener final : public RoutingObserver {
 public:
  void routed(uint32_t layer, std::span<const uint32_t> experts) override {
    trace.add(layer, experts);
  }
  Trace trace;
};

TEST_F(Calibration, ObserversHearOfDecodedTokensAndOfPromptsOnRequest) {
  const std::vector<uint32_t> prompt = {5, 17, 40, 99, 23, 7, 150, 201, 3, 8, 64};
  for (const bool prefill : {false, true}) {
    Listener listener;
    ModelOptions options = options_with_slots(100);
    options.routing_observer = &listener;
    options.trace_prefill = prefill;
    Model model = Model::load(kModel, options);
    Session session(model);
    session.prefill(prompt);
    EXPECT_EQ(listener.trace.size(), prefill ? prompt.size() * 8 : 0u);
    session.decode(9);
    session.decode(10);
    EXPECT_EQ(listener.trace.size(), (prefill ? prompt.size() * 8 : 0u) + 16);
  }
}

TEST_F(Calibration, ATraceThatCannotBeWrittenEndsTheRun) {
  ModelOptions options = options_with_slots(100);
  options.trace_file = path("no/such/trace.jsonl");
  EXPECT_THAT(load_error(kModel, options), HasSubstr("trace.jsonl: cannot be written"));
}

}  // namespace
}  // namespace sluice
