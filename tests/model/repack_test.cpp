// A repacked model is the same model: the same logits to the bit, in every mode, in any order of
// its experts. And a repacking that fails leaves nothing.

#include "model/repack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <numeric>
#include <random>

#include "io/checkpoint.h"
#include "io/error.h"
#include "model/network.h"
#include "model/session.h"
#include "stream/calibration_files.h"
#include "stream/record_layout.h"
#include "tests/io/temporary_directory.h"
#include "tests/model/golden_case.h"
#include "tests/model/synthetic_checkpoint.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

std::string golden_directory(const std::string& name) {
  return std::string(SLUICE_TEST_DATA "/goldens/") + name;
}

// A prefill and some decoded tokens with as few slots as there may be.
std::vector<float> logits_of(const fs::path& model_directory, const GoldenCase& golden,
                             Compute compute) {
  ModelOptions options;
  options.compute = compute;
  options.threads = 2;
  options.budget.kind = BudgetRequest::Kind::all;
  const uint64_t floor = Model::load(model_directory, options).plan().floor_bytes;
  options.budget = {.kind = BudgetRequest::Kind::fixed, .bytes = floor};
  Model model = Model::load(model_directory, options);
  Session session(model);
  std::vector<float> all =
      prefill_logits(session, std::span(golden.ids).first(golden.prompt_length));
  for (size_t t = golden.prompt_length; t < golden.ids.size(); ++t) {
    const std::span<const float> logits = session.decode(golden.ids[t]);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

void expect_same_model(const fs::path& repacked, const GoldenCase& golden) {
  for (const Compute compute : {Compute::f32, Compute::int16}) {
    const std::vector<float> expected = logits_of(golden.directory, golden, compute);
    const std::vector<float> found = logits_of(repacked, golden, compute);
    ASSERT_EQ(found.size(), expected.size());
    EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0)
        << (compute == Compute::f32 ? "f32" : "int16");
  }
}

// A perm.json that shuffles every layer's experts.
std::string shuffled(const fs::path& model, uint32_t seed, bool inverse = false) {
  std::mt19937 random(seed);
  Permutation permutation;
  for (const ExpertNames& names : expert_names(read_config(model))) {
    std::vector<uint32_t> order(names.experts);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), random);
    if (inverse) {
      std::vector<uint32_t> back(order.size());
      for (uint32_t i = 0; i < order.size(); ++i) back[order[i]] = i;
      order = back;
    }
    permutation[names.layer] = order;
  }
  return permutation_text(permutation);
}

std::string bytes_of(const fs::path& path) {
  return read_text_file(path.string(), uint64_t{1} << 30);
}

std::map<std::string, std::string> content(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    files[entry.path().filename()] = bytes_of(entry.path());
  }
  return files;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// The fixture of all checkpoints, and of one of each layout for what does not depend on numbers.
class RepackedGolden : public testing::TestWithParam<std::string> {
 protected:
  RepackReport repack_golden(RepackOptions options = {}) {
    options.model = golden_.directory;
    options.out = out_;
    options.threads = 2;
    return repack(options, {});
  }

  GoldenCase golden_{GetParam()};
  TemporaryDirectory directory_;
  fs::path out_ = directory_.path() / "out";
};

class RepackedFiles : public RepackedGolden {};

TEST_P(RepackedGolden, HasTheSameLogitsToTheBit) {
  const RepackReport report = repack_golden({.verify = true});
  EXPECT_EQ(report.verified_records, report.layers * report.experts);
  expect_same_model(out_, golden_);
}

TEST_P(RepackedGolden, HasTheSameLogitsWithItsExpertsRelabelled) {
  repack_golden({.permutation = directory_.write("perm.json", shuffled(golden_.directory, 5)),
                 .verify = true});
  expect_same_model(out_, golden_);
}

TEST_P(RepackedGolden, HasTheSameLogitsInRows) {
  repack_golden({.verify = true, .layout = MatrixLayout::rows});
  expect_same_model(out_, golden_);
}

TEST_P(RepackedFiles, IsReadInOneExtentAnExpertInPlace) {
  repack_golden();
  const Checkpoint checkpoint = Checkpoint::open(out_);
  const std::vector<ExpertNames> names = expert_names(read_config(out_));
  const ExpertSource source(checkpoint, names);
  EXPECT_FALSE(source.packed());
  for (uint32_t layer = 0; layer < source.layers(); ++layer) {
    const TensorInfo& records = checkpoint.at(record_tensor_name(names[layer].per_expert_prefix));
    EXPECT_EQ(source.slot_bytes(), records.shape[1]);
    for (uint32_t expert = 0; expert < source.experts(); ++expert) {
      const ExpertSource::ExpertPlan plan = source.plan(layer, expert);
      ASSERT_EQ(plan.extents.size(), 1);
      EXPECT_EQ(plan.extents[0].offset, records.offset + expert * records.shape[1]);
      EXPECT_TRUE(plan.copies.empty());
      for (const auto& places : plan.places) EXPECT_EQ(places[0] % 64, 0);
    }
  }
}

TEST_P(RepackedFiles, KeepsEverythingThatIsNoExpertByteForByte) {
  repack_golden();
  const Checkpoint source = Checkpoint::open(golden_.directory);
  const Checkpoint copy = Checkpoint::open(out_);
  const std::map<std::string, std::string> files = content(out_);
  size_t kept = 0;
  for (const TensorInfo& tensor : source.tensors()) {
    const TensorInfo* found = copy.find(tensor.name);
    if (found == nullptr) {
      EXPECT_THAT(tensor.name, testing::ContainsRegex("experts|switch_mlp"));
      continue;
    }
    ++kept;
    EXPECT_EQ(found->dtype, tensor.dtype);
    EXPECT_EQ(found->shape, tensor.shape);
    const std::string before = bytes_of(source.files()[tensor.file]);
    const std::string& after = files.at(fs::path(copy.files()[found->file]).filename());
    EXPECT_EQ(before.substr(tensor.offset, tensor.size_bytes),
              after.substr(found->offset, tensor.size_bytes))
        << tensor.name;
  }
  EXPECT_EQ(copy.tensors().size(), kept + expert_names(read_config(out_)).size());
  EXPECT_EQ(files.at("config.json"), bytes_of(fs::path(golden_.directory) / "config.json"));
  EXPECT_EQ(files.at("case.json"), bytes_of(fs::path(golden_.directory) / "case.json"));
  EXPECT_FALSE(files.contains("golden.safetensors"));
  EXPECT_THAT(directory_.names(), testing::ElementsAre("out"));
}

TEST_P(RepackedFiles, RelabelledBackIsTheSameFile) {
  const std::string there = directory_.write("there.json", shuffled(golden_.directory, 9));
  const std::string back = directory_.write("back.json", shuffled(golden_.directory, 9, true));
  repack_golden();
  repack({.model = golden_.directory, .out = directory_.file("there"), .permutation = there}, {});
  repack({.model = directory_.file("there"),
          .out = directory_.file("back"),
          .permutation = back,
          .verify = true},
         {});
  EXPECT_NE(content(directory_.file("there")), content(out_));
  const std::map<std::string, std::string> again = content(directory_.file("back"));
  EXPECT_EQ(again.at("experts-00001-of-00001.safetensors"),
            content(out_).at("experts-00001-of-00001.safetensors"));
}

INSTANTIATE_TEST_SUITE_P(Cases, RepackedFiles, testing::Values("qwen3_moe", "tq3a_tq2e_qwen3_moe"),
                         [](const auto& test) { return test.param; });

INSTANTIATE_TEST_SUITE_P(Cases, RepackedGolden,
                         testing::Values("mixtral", "qwen2_moe", "qwen3_moe", "glm4_moe",
                                         "minimax_m2", "gpt_oss", "gpt_oss_mxfp4",
                                         "deepseek_v2_lite", "qwen3_next", "qwen3_5_moe",
                                         "nemotron_h", "nemotron_h_latent", "tq3_qwen3_5_moe",
                                         "tq3_qwen3_moe", "tq4_qwen3_moe", "tq3a_tq2e_qwen3_moe",
                                         "tq3_qwen3_moe_h12", "tq3_qwen3_moe_h20_h28",
                                         "tq3_qwen3_moe_blockwise"),
                         [](const auto& test) { return test.param; });

// Some weights' worth of everything, on a checkpoint of its own that may be spoiled.
class Repack : public testing::Test {
 protected:
  void SetUp() override { write_synthetic_checkpoint(model_, {.layers = 2, .experts = 6}); }

  RepackOptions options() const { return {.model = model_, .out = out_, .threads = 2}; }

  // What repacking says, which then must leave nothing.
  std::string failure(const RepackOptions& options, const RepackProgress& progress = {}) {
    const std::string error = error_of([&] { repack(options, progress); });
    EXPECT_FALSE(fs::exists(out_)) << error;
    EXPECT_FALSE(fs::exists(out_.string() + ".unfinished")) << error;
    return error;
  }

  std::string failure_of_permutation(const std::string& text) {
    RepackOptions with = options();
    with.permutation = directory_.write("perm.json", text);
    return failure(with);
  }

  TemporaryDirectory directory_;
  fs::path model_ = directory_.path() / "model";
  fs::path out_ = directory_.path() / "out";
};

TEST_F(Repack, TheSameFilesWhateverTheThreadsAndTheMemory) {
  repack(options(), {});
  const std::map<std::string, std::string> expected = content(out_);
  RepackOptions other = options();
  other.out = directory_.path() / "other";
  other.threads = 1;
  other.memory_bytes = 103'000'000;  // batches of two experts
  repack(other, {});
  EXPECT_EQ(content(other.out), expected);
}

// Groups are made of neighbours, so a new order would make other groups.
TEST_F(Repack, ExpertsThatAreChosenInGroupsKeepTheirNumbers) {
  fs::remove_all(model_);
  fs::copy(golden_directory("glm4_moe"), model_);
  std::string config = bytes_of(model_ / "config.json");
  const auto set = [&config](const std::string& from, const std::string& to) {
    ASSERT_NE(config.find(from), std::string::npos);
    config.replace(config.find(from), from.size(), to);
  };
  set("\"n_group\": 1", "\"n_group\": 4");
  fs::remove(model_ / "config.json");
  std::ofstream(model_ / "config.json") << config;
  EXPECT_THAT(failure_of_permutation(shuffled(model_, 3)), HasSubstr("4 groups of experts"));
}

TEST_F(Repack, RoutersAndPinsMoveWithTheirExperts) {
  std::ofstream(model_ / "hot_experts.json") << R"({"pin": [[1, 0], [0, 5]]})";
  RepackOptions with = options();
  with.permutation = directory_.write(
      "perm.json", R"({"perm": {"0": [5, 4, 3, 2, 1, 0], "1": [1, 2, 3, 4, 5, 0]}})");
  with.verify = true;
  repack(with, {});
  EXPECT_EQ(bytes_of(out_ / "hot_experts.json"),
            pins_text(std::vector<LayerExpert>{{1, 5}, {0, 0}}));
  const Checkpoint before = Checkpoint::open(model_);
  const Checkpoint after = Checkpoint::open(out_);
  const auto row = [](const Checkpoint& checkpoint, const std::string& name, uint64_t index) {
    const TensorInfo& tensor = checkpoint.at(name);
    const uint64_t row_bytes = tensor.size_bytes / tensor.shape[0];
    return bytes_of(checkpoint.files()[tensor.file])
        .substr(tensor.offset + index * row_bytes, row_bytes);
  };
  for (uint64_t i = 0; i < 6; ++i) {
    const std::string first = "model.layers.0.mlp.gate.weight";
    EXPECT_EQ(row(after, first, i), row(before, first, 5 - i));
    const std::string second = "model.layers.1.mlp.gate.weight";
    EXPECT_EQ(row(after, second, i), row(before, second, (i + 1) % 6));
  }
}

TEST_F(Repack, ProgressCountsEveryByteOnce) {
  std::map<std::string, std::pair<uint64_t, uint64_t>> last;
  RepackOptions with = options();
  with.verify = true;
  const RepackReport report =
      repack(with, [&](const std::string& step, uint64_t done, uint64_t total) {
        EXPECT_GE(done, last[step].first);
        last[step] = {done, total};
      });
  const uint64_t total = report.record_bytes + report.copied_bytes;
  EXPECT_EQ(last["repacking"], (std::pair<uint64_t, uint64_t>{total, total}));
  EXPECT_EQ(last["verifying"], (std::pair<uint64_t, uint64_t>{total, total}));
}

TEST_F(Repack, VerifyNamesTheRecordThatTheDiskChanged) {
  RepackOptions with = options();
  with.verify = true;
  const std::string error = failure(with, [&](const std::string& step, uint64_t done, uint64_t) {
    if (step != "verifying" || done != 0) return;
    const fs::path shard = out_.string() + ".unfinished/experts-00001-of-00001.safetensors";
    const SafetensorsHeader header = read_safetensors_header(shard.string());
    std::fstream file(shard, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(header.tensors[1].offset +
                                           4 * header.tensors[1].shape[1] + 77));
    file.put('\x5a');
  });
  EXPECT_THAT(error, AllOf(HasSubstr("layer 1, expert 4"), HasSubstr("checksum")));
}

TEST_F(Repack, VerifyNamesTheTensorThatTheDiskChanged) {
  RepackOptions with = options();
  with.verify = true;
  const std::string error = failure(with, [&](const std::string& step, uint64_t done, uint64_t) {
    if (step != "verifying" || done != 0) return;
    const fs::path shard = out_.string() + ".unfinished/model-00001-of-00001.safetensors";
    const SafetensorsHeader header = read_safetensors_header(shard.string());
    std::fstream file(shard, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(header.tensors[0].offset));
    file.put('\x5a');
  });
  EXPECT_THAT(error, HasSubstr("model.embed_tokens.weight"));
}

TEST_F(Repack, ASourceThatChangesMeanwhileIsNoticed) {
  const std::string error = failure(options(), [&](const std::string&, uint64_t done, uint64_t) {
    if (done == 0) {
      fs::last_write_time(model_ / "model.safetensors",
                          fs::file_time_type::clock::now() + std::chrono::hours(1));
    }
  });
  EXPECT_THAT(error, AllOf(HasSubstr("model.safetensors"), HasSubstr("changed")));
}

TEST_F(Repack, AnInterruptionLeavesNothing) {
  struct Stop {};
  EXPECT_THROW(repack(options(),
                      [&](const std::string&, uint64_t done, uint64_t) {
                        if (done > 0) throw Stop();
                      }),
               Stop);
  EXPECT_THAT(directory_.names(), testing::ElementsAre("model"));
}

TEST_F(Repack, BadPermutationsAreNamed) {
  EXPECT_THAT(failure_of_permutation("{"), HasSubstr("perm.json"));
  EXPECT_THAT(failure_of_permutation(R"({"perm": {"0": [0, 1, 2, 3, 4, 5]}})"),
              AllOf(HasSubstr("perm.json"), HasSubstr("layer 1")));
  EXPECT_THAT(
      failure_of_permutation(R"({"perm": {"0": [0, 1, 2, 3, 4, 4], "1": [0, 1, 2, 3, 4, 5]}})"),
      AllOf(HasSubstr("perm.json"), HasSubstr("4")));
  EXPECT_THAT(
      failure_of_permutation(R"({"perm": {"0": [0, 1, 2, 3, 4], "1": [0, 1, 2, 3, 4, 5]}})"),
      HasSubstr("perm.json"));
  EXPECT_THAT(
      failure_of_permutation(R"({"perm": {"0": [0, 1, 2, 3, 4, 6], "1": [0, 1, 2, 3, 4, 5]}})"),
      HasSubstr("perm.json"));
  RepackOptions with = options();
  with.permutation = directory_.file("nowhere.json");
  EXPECT_THAT(failure(with), HasSubstr("nowhere.json"));
}

TEST_F(Repack, TooLittleMemoryIsRefusedWithWhatIsNeeded) {
  RepackOptions with = options();
  with.memory_bytes = 50'000'000;
  EXPECT_THAT(failure(with), AllOf(HasSubstr("--memory-gb"), HasSubstr("50.0 MB")));
}

TEST_F(Repack, AModelWithoutExpertsIsRefused) {
  RepackOptions with = options();
  with.model = golden_directory("qwen3");
  EXPECT_THAT(failure(with), HasSubstr("has no experts"));
}

TEST_F(Repack, AnExistingTargetIsLeftAlone) {
  fs::create_directory(out_);
  EXPECT_THAT(error_of([&] { repack(options(), {}); }), HasSubstr("exists already"));
  EXPECT_TRUE(fs::is_empty(out_));
}

TEST_F(Repack, ATruncatedSourceIsNamed) {
  fs::resize_file(model_ / "model.safetensors", fs::file_size(model_ / "model.safetensors") - 1);
  EXPECT_THAT(failure(options()), HasSubstr("model.safetensors"));
}

}  // namespace
}  // namespace sluice
