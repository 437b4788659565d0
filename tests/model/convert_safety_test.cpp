// Conversions that are stopped, resumed, or given something bad: nothing is seen before it is
// whole.

#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "model/convert_pipeline.h"
#include "tests/model/convert_fixture.h"

namespace sluice {
namespace {

TEST_F(Convert, StoppedGoesOnAndEndsWithTheSameBytes) {
  ConvertOptions options = options_for(kGoldens + "qwen3_moe", out());
  options.settings.shard_bytes = 20'000;
  convert_model(options, {});
  const auto expected = read_directory(out());
  options.out = out("stopped");
  size_t stops = 0;
  size_t resumed_with = 0;
  for (;; ++stops) {
    ASSERT_LT(stops, 100u);
    int batches = 0;
    ConvertEvents events;
    events.planned = [&](const ConvertPlan&, size_t finished) { resumed_with = finished; };
    events.should_stop = [&] { return ++batches > 2; };
    try {
      convert_model(options, events);
      break;
    } catch (const ConvertStopped&) {
      EXPECT_FALSE(fs::exists(out("stopped")));
      EXPECT_FALSE(fs::exists(out("stopped.unfinished") / "config.json"));
    }
  }
  EXPECT_GT(stops, 0u);
  EXPECT_GT(resumed_with, 0u);
  EXPECT_EQ(read_directory(out("stopped")), expected);
  EXPECT_FALSE(fs::exists(out("stopped.unfinished")));
}

TEST_F(Convert, RefusesToResumeWithOtherSettingsOrAnotherSource) {
  const fs::path model = copy_golden("qwen3_moe");
  ConvertOptions options = options_for(model, out());
  options.settings.shard_bytes = 20'000;
  int batches = 0;
  ConvertEvents stop;
  stop.should_stop = [&] { return ++batches > 4; };
  EXPECT_THROW(convert_model(options, stop), ConvertStopped);
  ASSERT_TRUE(fs::exists(out("out.unfinished")));
  ConvertOptions other = options;
  other.settings.bits = 4;
  expect_error([&] { convert_model(other, {}); }, "of other settings");
  fs::last_write_time(model / "model-00002-of-00004.safetensors",
                      fs::file_time_type::clock::now() + std::chrono::hours(1));
  expect_error([&] { convert_model(options, {}); }, "the files of the source");
  EXPECT_TRUE(fs::exists(out("out.unfinished")));
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(Convert, ASourceThatChangesMeanwhileIsAnError) {
  const fs::path model = copy_golden("qwen3_moe");
  const fs::path shard = model / "model-00001-of-00004.safetensors";
  ConvertEvents events;
  events.progress = [&](uint64_t done, uint64_t total) {
    if (done != total) return;
    fs::last_write_time(shard, fs::file_time_type::clock::now() + std::chrono::hours(1));
  };
  expect_error([&] { convert_model(options_for(model, out()), events); }, "changed while");
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(Convert, ASourceThatVanishesIsAnErrorThatNamesIt) {
  const fs::path model = copy_golden("qwen3_moe");
  ConvertEvents events;
  events.planned = [&](const ConvertPlan&, size_t) {
    fs::remove(model / "model-00003-of-00004.safetensors");
  };
  expect_error([&] { convert_model(options_for(model, out()), events); },
               "model-00003-of-00004.safetensors");
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(Convert, WeightsThatAreNotFiniteAreNamed) {
  const fs::path model = copy_golden("qwen3_moe");
  const Checkpoint checkpoint = Checkpoint::open(model);
  const TensorInfo& tensor = checkpoint.at("model.layers.1.mlp.experts.3.up_proj.weight");
  std::fstream file(checkpoint.files()[tensor.file],
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(tensor.offset + 2 * tensor.shape[1] * 5));
  file.write("\xff\x7f", 2);  // a NaN, in row 5
  file.close();
  expect_error([&] { convert_model(options_for(model, out()), {}); },
               "model.layers.1.mlp.experts.3.up_proj.weight, expert 3, row 5");
  EXPECT_FALSE(fs::exists(out()));
}

// A file that may not grow stands for a disk that is full: the same write fails.
TEST_F(Convert, ADiskThatFillsUpIsAnErrorAndTheTargetStaysAway) {
  struct rlimit before {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit small = before;
  small.rlim_cur = 60'000;
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error([&] { convert_model(options_for(kGoldens + "qwen3_moe", out()), {}); },
               "cannot write");
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  expect_nothing_left();
}

TEST_F(Convert, BadTargetsAndSettingsAreErrorsBeforeAnythingIsWritten) {
  const fs::path model = kGoldens + "qwen3_moe";
  expect_error([&] { convert_model(options_for(model, out("no") / "such" / "place"), {}); },
               "cannot be created");
  fs::create_directory(out("there"));
  expect_error([&] { convert_model(options_for(model, out("there")), {}); }, "exists already");
  EXPECT_TRUE(fs::is_empty(out("there")));
  expect_error([&] { convert_model(options_for(out("nothing"), out()), {}); }, "nothing");
  ConvertOptions options = options_for(model, out());
  options.settings.expert_down_bits = 16;
  expect_error([&] { convert_model(options, {}); }, "all projections");
  options = options_for(model, out());
  options.settings.group = 128;
  expect_error([&] { convert_model(options, {}); }, "do not divide");
  options = options_for(model, out());
  options.memory_bytes = 1'000'000;
  expect_error([&] { convert_model(options, {}); }, "--memory-gb");
  expect_nothing_left();
}

// The tensors of a layer that config.json does not have.
TEST_F(Convert, ATensorThatIsNobodysIsAnErrorBeforeAnythingIsWritten) {
  const fs::path model = out("model");
  fs::copy(kGoldens + "qwen3", model, fs::copy_options::recursive);
  nlohmann::json config = nlohmann::json::parse(read_file(model / "config.json"));
  const auto last = config.at("num_hidden_layers").get<uint32_t>() - 1;
  config["num_hidden_layers"] = last;
  config.erase("layer_types");
  std::ofstream(model / "config.json") << config.dump();
  ConvertEvents events;
  events.planned = [](const ConvertPlan&, size_t) { ADD_FAILURE() << "it has begun"; };
  expect_error([&] { convert_model(options_for(model, out()), events); },
               "model.layers." + std::to_string(last));
  expect_nothing_left();
}

TEST_F(Convert, VerifyFindsARecordThatChanged) {
  convert_model(options_for(kGoldens + "qwen3_moe", out()), {});
  EXPECT_EQ(verify_records(out(), {}), 24u);
  const Checkpoint checkpoint = Checkpoint::open(out());
  const TensorInfo& records = checkpoint.at("model.layers.1.mlp.experts.records");
  std::fstream file(checkpoint.files()[records.file],
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(records.offset + 2 * records.shape[1] + 100));
  const int byte = file.peek();
  file.seekp(static_cast<std::streamoff>(records.offset + 2 * records.shape[1] + 100));
  file.put(static_cast<char>(byte ^ 1));
  file.close();
  expect_error([&] { verify_records(out(), {}); }, "expert 2 of model.layers.1");
}

TEST_F(Convert, RecordsAreNotConvertedAgain) {
  convert_model(options_for(kGoldens + "qwen3_moe", out("records")), {});
  expect_error([&] { convert_model(options_for(out("records"), out()), {}); }, "records already");
  expect_nothing_left();
}

TEST_F(Convert, WhatAKilledRunOfAnotherKindLeftIsRemoved) {
  const fs::path unfinished = out("out.unfinished");
  fs::create_directory(unfinished);
  std::ofstream(unfinished / ".sluice-unfinished");
  fs::copy(kGoldens + "qwen3/model-00001-of-00002.safetensors", unfinished / "stray.safetensors");
  convert_model(options_for(kGoldens + "qwen3_moe", out()), {});
  EXPECT_FALSE(fs::exists(out() / "stray.safetensors"));
}

}  // namespace
}  // namespace sluice
