// stream-convert's library: what it writes, that it is the same however it is made, and that
// nothing of it is seen before it is whole.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/error.h"
#include "io/safetensors_writer.h"
#include "model/block_formats.h"
#include "model/convert_pipeline.h"
#include "model/converter.h"
#include "tests/io/temporary_directory.h"
#include "tests/model/golden_case.h"
#include "tests/reference/reference.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

const std::string kGoldens = SLUICE_TEST_DATA "/goldens/";

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::map<std::string, std::string> read_directory(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    files[entry.path().filename().string()] = read_file(entry.path());
  }
  return files;
}

ConvertOptions options_for(const fs::path& model, const fs::path& out, uint32_t bits = 3,
                           ConvertLayout layout = ConvertLayout::records) {
  ConvertOptions options;
  options.model = model;
  options.out = out;
  options.settings.bits = bits;
  options.settings.group = 32;
  options.settings.layout = layout;
  options.threads = 2;
  options.program = "test 1";
  return options;
}

std::vector<float> logits_of(const fs::path& model, const std::vector<uint32_t>& ids,
                             Compute compute) {
  ModelOptions options;
  options.compute = compute;
  options.budget.kind = BudgetRequest::Kind::all;
  options.threads = 2;
  Model loaded = Model::load(model.string(), options);
  Session session(loaded);
  return prefill_logits(session, ids);
}

class Convert : public testing::Test {
 protected:
  fs::path out(const std::string& name = "out") const { return directory_.path() / name; }
  // A copy of a golden that a test may spoil.
  fs::path copy_golden(const std::string& name) const {
    const fs::path copy = directory_.path() / name;
    fs::copy(kGoldens + name, copy);
    fs::remove(copy / "golden.safetensors");
    return copy;
  }
  void expect_nothing_left(const std::string& name = "out") const {
    EXPECT_FALSE(fs::exists(out(name)));
    EXPECT_FALSE(fs::exists(out(name + ".unfinished")));
  }

  TemporaryDirectory directory_;
};

// Throws Error with a message that has this in it.
template <class Body>
void expect_error(Body body, const std::string& part) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(part));
  }
}

struct Case {
  std::string golden;
  uint32_t bits;
};

class ConvertedLogits : public Convert, public testing::WithParamInterface<Case> {};

// The reference dequantizes the written files in double precision, knowing nothing of the codec.
// Float32 sums of a few hundred terms over three layers may differ by what goldens do.
TEST_P(ConvertedLogits, AreThoseOfTheWrittenFilesAndTheSameFromRecords) {
  const GoldenCase golden(GetParam().golden);
  convert_model(options_for(golden.directory, out("mlx"), GetParam().bits, ConvertLayout::mlx), {});
  convert_model(options_for(golden.directory, out("records"), GetParam().bits), {});
  const std::vector<float> logits = logits_of(out("mlx"), golden.ids, Compute::f32);
  const reference::Matrix expected = reference::run(out("mlx"), golden.ids).logits;
  ASSERT_EQ(static_cast<size_t>(expected.size()), logits.size());
  double worst = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(logits[i]) - expected.data()[i]));
  }
  EXPECT_LE(worst, 2e-4);
  EXPECT_EQ(logits, logits_of(out("records"), golden.ids, Compute::f32));
  EXPECT_EQ(logits_of(out("mlx"), golden.ids, Compute::int16),
            logits_of(out("records"), golden.ids, Compute::int16));
}

INSTANTIATE_TEST_SUITE_P(Goldens, ConvertedLogits,
                         testing::Values(Case{"qwen3", 3}, Case{"qwen3", 4}, Case{"qwen3_moe", 2},
                                         Case{"qwen3_moe", 3}, Case{"qwen3_moe", 4},
                                         Case{"qwen3_moe", 8}),
                         [](const auto& test) {
                           return test.param.golden + "_" + std::to_string(test.param.bits);
                         });

class ConvertedTurboquant : public Convert, public testing::WithParamInterface<const char*> {};

TEST_P(ConvertedTurboquant, ToRecordsChangesNoBitOfTheLogits) {
  const GoldenCase golden(GetParam());
  convert_model(options_for(golden.directory, out(), kStoredBits), {});
  for (const Compute compute : {Compute::f32, Compute::int16}) {
    EXPECT_EQ(logits_of(golden.directory, golden.ids, compute),
              logits_of(out(), golden.ids, compute));
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, ConvertedTurboquant,
                         testing::Values("tq3_qwen3_moe", "tq4_qwen3_moe", "tq3a_tq2e_qwen3_moe",
                                         "tq3_qwen3_moe_h20_h28"));

TEST_F(Convert, MovesTurboquantOfTheWantedBitsAndRequantizesTheRest) {
  const GoldenCase golden("tq3a_tq2e_qwen3_moe");  // 3 bits, experts 2; groups of 32
  ConvertOptions options = options_for(golden.directory, out(), 3, ConvertLayout::mlx);
  convert_model(options, {});
  const Checkpoint before = Checkpoint::open(golden.directory);
  const Checkpoint after = Checkpoint::open(out());
  const std::string attention = "model.layers.0.self_attn.q_proj.codebook";
  const std::string experts = "model.layers.0.mlp.switch_mlp.gate_proj.codebook";
  EXPECT_EQ(before.at(attention).shape, after.at(attention).shape);
  EXPECT_EQ(before.at(experts).shape[0], 4u);
  EXPECT_EQ(after.at(experts).shape[0], 8u);
  const reference::Tensors was(golden.directory);
  const reference::Tensors is(out());
  const reference::Matrix q = was.matrix("model.layers.0.self_attn.q_proj");
  EXPECT_EQ(q, is.matrix("model.layers.0.self_attn.q_proj"));
  const std::string gate = "model.layers.0.mlp.switch_mlp.gate_proj";
  const reference::Matrix expert = was.expert_matrix(gate, 5);
  const double lost = (expert - is.expert_matrix(gate, 5)).squaredNorm() / expert.squaredNorm();
  EXPECT_GT(lost, 0);
  EXPECT_LT(lost, 0.04);  // of 3 bits
}

TEST_F(Convert, SixteenBitsKeepEveryWeightAndRecordsTheirLogits) {
  const GoldenCase golden("qwen3_moe");
  convert_model(options_for(golden.directory, out(), kStoredBits), {});
  EXPECT_EQ(logits_of(golden.directory, golden.ids, Compute::f32),
            logits_of(out(), golden.ids, Compute::f32));
}

// Two checkpoints of the same weights, one of them in F8 with scales of blocks: the quantized
// matrices of both must be the same bytes.
class F8Twin {
 public:
  F8Twin(const fs::path& golden, const fs::path& f8, const fs::path& plain) {
    const Checkpoint checkpoint = Checkpoint::open(golden);
    for (const TensorInfo& tensor : checkpoint.tensors()) {
      if (tensor.name.ends_with("_proj.weight")) {
        add_projection(tensor);
      } else {
        add(f8_, tensor, read_bytes(checkpoint, tensor));
        add(plain_, tensor, read_bytes(checkpoint, tensor));
      }
    }
    auto config = nlohmann::json::parse(read_file(golden / "config.json"));
    write(plain, plain_, config.dump());
    config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {32, 32}}};
    write(f8, f8_, config.dump());
  }

 private:
  struct File {
    std::vector<TensorInfo> tensors;
    std::vector<std::byte> bytes;
  };

  static std::vector<std::byte> read_bytes(const Checkpoint& checkpoint, const TensorInfo& tensor) {
    const std::string text = read_file(checkpoint.files()[tensor.file]);
    const auto* begin = reinterpret_cast<const std::byte*>(text.data()) + tensor.offset;
    return {begin, begin + tensor.size_bytes};
  }

  static void add(File& file, TensorInfo tensor, const std::vector<std::byte>& bytes) {
    file.tensors.push_back(std::move(tensor));
    file.bytes.insert(file.bytes.end(), bytes.begin(), bytes.end());
  }

  template <class Value>
  static std::vector<std::byte> bytes_of(const std::vector<Value>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    return {bytes.begin(), bytes.end()};
  }

  void add_projection(TensorInfo tensor) {
    const uint64_t rows = tensor.shape[0];
    const uint64_t cols = tensor.shape[1];
    const uint64_t row_blocks = (rows + 31) / 32;
    const uint64_t col_blocks = (cols + 31) / 32;
    std::vector<float> scales;
    for (uint64_t i = 0; i < row_blocks * col_blocks; ++i) {
      scales.push_back(0.001f * static_cast<float>(i + 1));
    }
    std::vector<uint8_t> codes;
    std::vector<float> values;
    for (uint64_t i = 0; i < rows * cols; ++i) {
      state_ = state_ * 6364136223846793005 + 1442695040888963407;
      codes.push_back(static_cast<uint8_t>(state_ >> 56) & 0xbf);  // below 2 in size
      values.push_back(e4m3_value(codes.back()) *
                       scales[i / cols / 32 * col_blocks + i % cols / 32]);
    }
    tensor.dtype = DType::f8_e4m3;
    add(f8_, tensor, bytes_of(codes));
    tensor.dtype = DType::f32;
    add(plain_, tensor, bytes_of(values));
    tensor.name += "_scale_inv";
    tensor.shape = {row_blocks, col_blocks};
    add(f8_, tensor, bytes_of(scales));
  }

  static void write(const fs::path& directory, const File& file, const std::string& config) {
    fs::create_directory(directory);
    SafetensorsWriter writer((directory / "model.safetensors").string(), file.tensors, {});
    writer.write(file.bytes);
    writer.finish();
    std::ofstream(directory / "config.json") << config;
  }

  File f8_, plain_;
  uint64_t state_ = 7;
};

TEST_F(Convert, F8BlocksGiveWhatTheirDecodedWeightsGive) {
  const F8Twin twin(kGoldens + "qwen3_moe", out("f8"), out("plain"));
  for (const ConvertLayout layout : {ConvertLayout::records, ConvertLayout::mlx}) {
    const std::string name = layout == ConvertLayout::mlx ? "mlx" : "records";
    convert_model(options_for(out("f8"), out(name + "_f8"), 4, layout), {});
    convert_model(options_for(out("plain"), out(name + "_plain"), 4, layout), {});
    const Checkpoint from_f8 = Checkpoint::open(out(name + "_f8"));
    const Checkpoint from_plain = Checkpoint::open(out(name + "_plain"));
    ASSERT_EQ(from_f8.tensors().size(), from_plain.tensors().size());
    for (const TensorInfo& tensor : from_f8.tensors()) {
      const TensorInfo& other = from_plain.at(tensor.name);
      const std::string ours = read_file(from_f8.files()[tensor.file]);
      const std::string theirs = read_file(from_plain.files()[other.file]);
      EXPECT_EQ(ours.substr(tensor.offset, tensor.size_bytes),
                theirs.substr(other.offset, other.size_bytes))
          << tensor.name;
    }
  }
}

TEST_F(Convert, F8ThatWouldStayIsAnErrorAtOnce) {
  const F8Twin twin(kGoldens + "qwen3_moe", out("f8"), out("plain"));
  expect_error([&] { convert_model(options_for(out("f8"), out(), kStoredBits), {}); }, "F8_E4M3");
  expect_nothing_left();
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

TEST_F(Convert, WritesTheSameBytesForAnyThreadsMemoryAndInstructionSet) {
  const std::string model = kGoldens + "qwen3_moe";
  ConvertOptions options = options_for(model, out());
  ConvertResult first = convert_model(options, {});
  const auto expected = read_directory(out());
  int number = 0;
  for (const kernels::Isa isa : {kernels::Isa::scalar, kernels::Isa::avx2, kernels::Isa::avx512}) {
    if (!kernels::supported(isa)) continue;
    for (const uint32_t threads : {1u, 2u, 3u}) {
      options.out = out("again" + std::to_string(number++));
      options.threads = threads;
      options.kernels = &kernels::table(isa);
      options.memory_bytes = threads == 1 ? 80'000'000 : 2'000'000'000;
      const ConvertResult again = convert_model(options, {});
      EXPECT_EQ(read_directory(options.out), expected) << threads << " threads";
      EXPECT_EQ(report_json(again.matrices), report_json(first.matrices));
    }
  }
}

TEST_F(Convert, SharesSignsAmongMatricesOfOneInput) {
  convert_model(options_for(kGoldens + "qwen3_moe", out(), 3, ConvertLayout::mlx), {});
  const reference::Tensors tensors(out());
  const std::string layer = "model.layers.1.";
  const auto signs = [&](const std::string& path) {
    return tensors.vector(layer + path + ".signs");
  };
  EXPECT_EQ(signs("self_attn.q_proj"), signs("self_attn.k_proj"));
  EXPECT_EQ(signs("self_attn.q_proj"), signs("self_attn.v_proj"));
  EXPECT_EQ(signs("mlp.switch_mlp.gate_proj"), signs("mlp.switch_mlp.up_proj"));
  EXPECT_NE(signs("self_attn.q_proj"), signs("mlp.switch_mlp.gate_proj"));
}

TEST_F(Convert, KeepsRoutersNormsAndEmbeddingsAndTheHeadIfAsked) {
  const GoldenCase golden("qwen3_moe");
  ConvertOptions options = options_for(golden.directory, out());
  options.settings.keep_head = true;
  convert_model(options, {});
  const Checkpoint before = Checkpoint::open(golden.directory);
  const Checkpoint after = Checkpoint::open(out());
  const reference::Tensors was(golden.directory);
  const reference::Tensors is(out());
  for (const char* path : {"model.embed_tokens", "model.layers.0.mlp.gate", "lm_head"}) {
    EXPECT_EQ(after.find(std::string(path) + ".codebook"), nullptr);
    EXPECT_EQ(after.at(std::string(path) + ".weight").dtype,
              before.at(std::string(path) + ".weight").dtype);
    EXPECT_EQ(was.matrix(path), is.matrix(path));
  }
  EXPECT_NE(after.find("model.layers.0.self_attn.o_proj.codebook"), nullptr);
}

TEST_F(Convert, GivesEachPartItsBitsAndSaysSoInTheConfig) {
  ConvertOptions options = options_for(kGoldens + "qwen3_moe", out(), 4, ConvertLayout::mlx);
  options.settings.attn_bits = 8;
  options.settings.expert_bits = 3;
  options.settings.expert_down_bits = 2;
  convert_model(options, {});
  const Checkpoint after = Checkpoint::open(out());
  const auto length = [&](const std::string& path) {
    return after.at(path + ".codebook").shape[0];
  };
  EXPECT_EQ(length("lm_head"), 16u);
  EXPECT_EQ(length("model.layers.0.self_attn.o_proj"), 256u);
  EXPECT_EQ(length("model.layers.2.mlp.switch_mlp.up_proj"), 8u);
  EXPECT_EQ(length("model.layers.2.mlp.switch_mlp.down_proj"), 4u);
  const auto config = nlohmann::json::parse(read_file(out() / "config.json"));
  const auto& quantization = config.at("quantization");
  EXPECT_EQ(quantization.at("mode"), "turboquant");
  EXPECT_EQ(quantization.at("bits"), 4);
  EXPECT_EQ(quantization.at("group_size"), 32);
  EXPECT_EQ(quantization.at("attn_bits"), 8);
  EXPECT_EQ(quantization.at("expert_down_bits"), 2);
}

TEST_F(Convert, ReportsErrorsNearTheory) {
  const ConvertResult result = convert_model(options_for(kGoldens + "qwen3_moe", out(), 4), {});
  ASSERT_EQ(result.matrices.size(), 1u + 3 * (4 + 3));
  for (const MatrixReport& matrix : result.matrices) {
    EXPECT_NEAR(matrix.sum.relative() / 0.00950, 1, 0.15) << matrix.path;
    EXPECT_FALSE(misses_theory(matrix)) << matrix.path;
  }
}

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

// E[(x - nearest)²] of the published centroids.
TEST(ConvertReportTest, TheoryIsWhatIsPublished) {
  EXPECT_NEAR(expected_distortion(4), 0.11748, 5e-6);
  EXPECT_NEAR(expected_distortion(8), 0.03455, 5e-6);
  EXPECT_NEAR(expected_distortion(16), 0.00950, 5e-6);
  // Uniform with the step 1/32: step² / 12, and 8 % more for what lies beyond ±255/64.
  EXPECT_NEAR(expected_distortion(256), 1.0 / (12 * 32 * 32) + 6.64e-6, 1e-8);
}

TEST(ConvertReportTest, NamesWhatMissesTheory) {
  MatrixReport good;
  good.path = "good";
  good.codebook_length = 16;
  good.experts = 2;
  good.add(0, {0.0096, 1});
  good.add(1, {0.0095, 1});
  MatrixReport bad = good;
  bad.path = "bad";
  bad.add(1, {0.02, 1});
  EXPECT_FALSE(misses_theory(good));
  EXPECT_TRUE(misses_theory(bad));
  const std::vector<MatrixReport> both = {good, bad};
  EXPECT_EQ(report_json(both).at("missed"), nlohmann::json::array({"bad"}));
  EXPECT_THAT(report_lines(both).back(), testing::HasSubstr("misses theory: bad"));
}

TEST(ConvertConfig, DropsTheQuantizationThatTheConverterDecodes) {
  ConvertSettings settings;
  const std::string fp8 =
      R"({"model_type": "qwen3", "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})";
  const auto config = nlohmann::json::parse(converted_config(fp8, "config.json", settings));
  EXPECT_FALSE(config.contains("quantization_config"));
  EXPECT_EQ(config.at("quantization").at("mode"), "turboquant");
}

}  // namespace
}  // namespace sluice
