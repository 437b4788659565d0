// synthesize: writes a checkpoint of a published shape with Gaussian weights, as fast as the disk
// takes it: something of the right size to measure with, without the model.
//
//   synthesize --out DIR [--shape qwen3-30b-a3b] [--layers N] [--experts N] [--format bf16]
//              [--dense N] [--pattern KINDS] [--vocabulary N] [--embedding-deviation X]
//              [--attention-deviation X] [--seed N] [--tokenizer DIR]
//
// Deterministic by seed. The tensors are named, shaped and cut into shards as published ones are
// (bench/synthetic_model.h), but the norms are 1, and weights have the standard deviation 0.02,
// except two: token embeddings 0.4, and the matrices that end attention or a linear or recurrent
// mixer (o_proj, out_proj) 0.001.
//
// Those make the routing depend on the tokens. Attention takes means over many tokens, which are
// nearly the same for each of them, and what is the same for all grows from layer to layer: with
// 0.02 everywhere a token of the sixteenth layer shared 94 % of its experts with the token before,
// and any cache seemed good. As it is, tokens share as many as chance gives, in every layer, and
// each layer still changes the stream enough that its experts are not certain a layer ahead.
// bench/end_to_end shows how much the routing depends on tokens.
//
// Two layers of each kind, in 13, 8, 9 and 15 GB:
//
//   synthesize --out DIR --shape deepseek-v3 --layers 4 --dense 2 --format tq2
//   synthesize --out DIR --shape qwen3.6-35b-a3b --pattern LLAA
//   synthesize --out DIR --shape gpt-oss-120b --pattern SASA
//   synthesize --out DIR --shape nemotron-3-super --pattern 'M*EM*E'
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/bench_main.h"
#include "bench/synthetic_model.h"
#include "io/error.h"
#include "io/tensor_file.h"
#include "kernels/kernels.h"
#include "model/block_formats.h"
#include "model/model_directory_writer.h"
#include "model/session.h"
#include "model/workers.h"

namespace sluice {
namespace {

constexpr uint64_t kShardBytes = 4'000'000'000;
constexpr uint64_t kBlockBytes = 8 << 20;
constexpr float kDeviation = 0.02f;
constexpr float kEmbeddingDeviation = 0.4f;
constexpr float kAttentionDeviation = 0.001f;
constexpr uint32_t kQuantiles = 1 << 16;
// The farthest quantile, 4.3, is at 344 of the 448 that F8_E4M3 reaches.
constexpr float kF8Deviation = 80;
// About the centroids of least error for two bits of N(0, 1).
constexpr float kCentroids[] = {-1.5f, -0.45f, 0.45f, 1.5f};

// 2^-7: codes have a standard deviation of about 2.9.
constexpr std::byte kMxfp4Scale{120};

struct Options {
  std::string out;
  std::string shape = "qwen3-30b-a3b";
  uint32_t layers = 0;
  uint32_t experts = 0;
  uint32_t dense = 0;
  std::string pattern;
  std::string format = "bf16";
  uint32_t vocabulary = 0;
  float embedding_deviation = kEmbeddingDeviation;
  float attention_deviation = kAttentionDeviation;
  uint64_t seed = 1;
  std::string tokenizer;
  bool quick = false;
};

uint8_t nearest_e4m3(float value) {
  uint8_t nearest = 0;
  for (uint8_t code = 1; code < 0x7f; ++code) {  // 0x7f is NaN
    const float distance = std::abs(e4m3_value(code) - std::abs(value));
    if (distance < std::abs(e4m3_value(nearest) - std::abs(value))) nearest = code;
  }
  return static_cast<uint8_t>(nearest | (value < 0 ? 0x80 : 0));
}

void store(float value, DType dtype, std::byte* out) {
  if (dtype == DType::f16) {
    kernels::table().to_f16(&value, 1, out);
    return;
  }
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  if (dtype == DType::bf16) bits >>= 16;  // little-endian: the first bytes are the lowest
  if (dtype == DType::f8_e4m3) bits = nearest_e4m3(value);
  std::memcpy(out, &bits, dtype_bytes(dtype));
}

// 65536 equally likely values of N(0, 1) · deviation in the format: one lookup of 16 random bits
// gives a weight.
std::vector<std::byte> quantile_table(DType dtype, float deviation) {
  std::vector<std::byte> table(size_t{kQuantiles} * dtype_bytes(dtype));
  double x = -4.5;
  for (uint32_t i = 0; i < kQuantiles; ++i) {
    const double wanted = (i + 0.5) / kQuantiles;
    // Newton's steps on Φ(x) = wanted, from the last quantile.
    for (int step = 0; step < 8; ++step) {
      const double density = std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
      x -= (std::erfc(-x / std::sqrt(2.0)) / 2 - wanted) / std::max(density, 1e-7);
    }
    store(static_cast<float>(x) * deviation, dtype, table.data() + size_t{i} * dtype_bytes(dtype));
  }
  return table;
}

// splitmix64, four values a word.
template <class Word>
void fill(uint64_t seed, const Word* quantiles, std::byte* out, size_t count) {
  for (size_t i = 0; i < count; i += 4) {
    seed += 0x9e3779b97f4a7c15;
    uint64_t bits = seed;
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
    bits ^= bits >> 31;
    for (size_t j = i; j < std::min(i + 4, count); ++j, bits >>= 16) {
      std::memcpy(out + j * sizeof(Word), quantiles + (bits & 0xffff), sizeof(Word));
    }
  }
}

class Writer {
 public:
  explicit Writer(const Options& options) : options_(options), workers_(available_threads()) {}

  uint64_t write() {
    ModelDirectoryWriter directory(options_.out, ModelDirectoryWriter::Unfinished::start_over);
    const SyntheticModel model = synthetic_model({.shape = options_.shape,
                                                  .layers = options_.layers,
                                                  .experts = options_.experts,
                                                  .format = options_.format,
                                                  .dense = options_.dense,
                                                  .pattern = options_.pattern,
                                                  .vocabulary = options_.vocabulary});
    const std::vector<TensorInfo>& tensors = model.tensors;
    std::vector<uint64_t> sizes;
    uint64_t total = 0;
    for (const TensorInfo& tensor : tensors) {
      sizes.push_back(tensor.size_bytes);
      total += tensor.size_bytes;
    }
    require_free_space(directory.directory(), total);
    std::vector<size_t> first = plan_shards(sizes, kShardBytes);
    const size_t shards = first.size();
    first.push_back(tensors.size());
    for (size_t i = 0; i < shards; ++i) {
      const std::string path = (directory.directory() / shard_name("model", i, shards)).string();
      write_shard(path, {tensors.begin() + static_cast<std::ptrdiff_t>(first[i]),
                         tensors.begin() + static_cast<std::ptrdiff_t>(first[i + 1])});
    }
    if (!options_.tokenizer.empty()) {
      for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
        copy_file_durably(std::filesystem::path(options_.tokenizer) / name,
                          directory.directory() / name);
      }
    }
    directory.finish(model.config);
    return total;
  }

 private:
  void write_shard(const std::string& path, const std::vector<TensorInfo>& tensors) {
    TensorFile file(path, tensors, {.metadata = {{"format", "pt"}}});
    std::vector<std::byte> block(kBlockBytes);
    uint64_t unflushed = 0;
    for (uint32_t i = 0; i < tensors.size(); ++i) {
      for (uint64_t at = 0; at < tensors[i].size_bytes; at += block.size()) {
        block.resize(std::min(tensors[i].size_bytes - at, kBlockBytes));
        fill_block(tensors[i], block);
        file.write_at(i, at, block);
        unflushed += block.size();
        if (unflushed >= (uint64_t{256} << 20)) {
          file.flush();
          unflushed = 0;
        }
      }
      block.resize(kBlockBytes);
    }
    file.finish();
  }

  void fill_block(const TensorInfo& tensor, std::vector<std::byte>& block) {
    const auto ends_with = [&](std::string_view suffix) { return tensor.name.ends_with(suffix); };
    const uint64_t seed = (options_.seed + ++blocks_) * 0xd1342543de82ef95;
    if (ends_with(".codebook")) {
      for (size_t i = 0; i < std::size(kCentroids); ++i) {
        store(kCentroids[i], tensor.dtype, block.data() + 2 * i);
      }
    } else if (ends_with(".signs")) {
      for (size_t i = 0; i < block.size() / 2; ++i) {
        store((seed * (i + 1)) >> 63 != 0 ? 1.0f : -1.0f, tensor.dtype, block.data() + 2 * i);
      }
    } else if (ends_with(".scales")) {
      fill_constant(kDeviation, tensor.dtype, block);
    } else if (ends_with(".weight_scale_inv")) {
      fill_constant(deviation_of(tensor.name) / kF8Deviation, tensor.dtype, block);
    } else if (ends_with("_scales")) {
      fill_constant(kMxfp4Scale, block);
    } else if (tensor.shape.size() == 1) {
      const bool zero = ends_with("_correction_bias") || ends_with(".o_proj.bias");
      fill_constant(zero ? 0 : 1, tensor.dtype, block);
    } else {
      const bool f8 = tensor.dtype == DType::f8_e4m3;
      fill_weights(seed, tensor.dtype, f8 ? kF8Deviation : deviation_of(tensor.name), block);
    }
  }

  float deviation_of(const std::string& tensor) const {
    if (is_embedding(tensor)) return options_.embedding_deviation;
    return ends_mixer(tensor) ? options_.attention_deviation : kDeviation;
  }

  static void fill_constant(float value, DType dtype, std::vector<std::byte>& block) {
    std::byte bytes[4];
    store(value, dtype, bytes);
    const size_t size = dtype_bytes(dtype);
    for (size_t i = 0; i < block.size(); i += size) std::memcpy(block.data() + i, bytes, size);
  }

  static void fill_constant(std::byte value, std::vector<std::byte>& block) {
    std::fill(block.begin(), block.end(), value);
  }

  void fill_weights(uint64_t seed, DType dtype, float deviation, std::vector<std::byte>& block) {
    // Codes are random bits: two bytes of them at a time, each standing for itself.
    const size_t size = is_codes(dtype) ? 2 : dtype_bytes(dtype);
    const std::byte* values = table_of(dtype, deviation).data();
    const size_t count = block.size() / size;
    constexpr size_t kPiece = 1 << 16;
    workers_.run(static_cast<uint32_t>((count + kPiece - 1) / kPiece),
                 [&](uint32_t piece, uint32_t) {
                   const size_t begin = piece * kPiece;
                   const size_t n = std::min(kPiece, count - begin);
                   std::byte* out = block.data() + begin * size;
                   const uint64_t own = seed + piece * 0x9fb21c651e98df25;
                   if (size == 1) {
                     fill(own, reinterpret_cast<const uint8_t*>(values), out, n);
                   } else if (size == 2) {
                     fill(own, reinterpret_cast<const uint16_t*>(values), out, n);
                   } else {
                     fill(own, reinterpret_cast<const uint32_t*>(values), out, n);
                   }
                 });
  }

  static bool is_codes(DType dtype) { return dtype == DType::u32 || dtype == DType::u8; }

  const std::vector<std::byte>& table_of(DType dtype, float deviation) {
    std::vector<std::byte>& table = tables_[{dtype, deviation}];
    if (!table.empty()) return table;
    if (!is_codes(dtype)) return table = quantile_table(dtype, deviation);
    table.resize(size_t{kQuantiles} * 2);
    for (uint32_t i = 0; i < kQuantiles; ++i) {
      const auto word = static_cast<uint16_t>(i);
      std::memcpy(table.data() + size_t{i} * 2, &word, sizeof(word));
    }
    return table;
  }

  const Options& options_;
  std::map<std::pair<DType, float>, std::vector<std::byte>> tables_;
  Workers workers_;
  uint64_t blocks_ = 0;
};

// A model that answers something: it loads, and its logits are numbers.
void check_answers(const std::string& directory) {
  Model model = Model::load(directory, {});
  Session session(model);
  const uint32_t prompt[] = {1, 2, 3};
  session.prefill(prompt);
  for (const float logit : session.decode(4)) {
    if (!std::isfinite(logit)) throw Error(directory, ": a logit is ", logit);
  }
}

// For ctest: small ones, into a directory that goes again.
uint64_t write_quick(Options options) {
  struct Directory {
    std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("synthesize-" + std::to_string(::getpid()));
    ~Directory() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  };
  uint64_t bytes = 0;
  const auto write = [&](const std::string& shape, const std::string& format) {
    const Directory directory;
    options.out = directory.path.string();
    options.shape = shape;
    options.format = format;
    bytes += Writer(options).write();
    check_answers(options.out);
  };
  for (const char* shape : {"tiny", "tiny-deepseek"}) {
    for (const std::string& format : synthetic_formats()) write(shape, format);
  }
  for (const char* shape : {"tiny-qwen3.6", "tiny-gpt-oss", "tiny-nemotron"}) write(shape, "bf16");
  return bytes;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  sluice::Options options;
  CLI::App app("Writes a checkpoint of a published shape with Gaussian weights.");
  auto* out = app.add_option("--out", options.out, "directory to write; must not exist");
  app.add_option("--shape", options.shape, "shape")
      ->check(CLI::IsMember(sluice::synthetic_shapes()));
  app.add_option("--layers", options.layers, "layers instead of the shape's");
  app.add_option("--experts", options.experts, "experts instead of the shape's");
  app.add_option("--dense", options.dense, "first layers without experts, instead of the shape's");
  app.add_option(
      "--pattern", options.pattern,
      "kinds of layers instead of the shape's: L linear, A full, S sliding attention; of "
      "nemotron-3-super M, *, E");
  app.add_option("--format", options.format,
                 "bf16, f16, f32; f8: projections in FP8 blocks; tq2: experts in 2 bits")
      ->check(CLI::IsMember(sluice::synthetic_formats()));
  app.add_option("--vocabulary", options.vocabulary, "tokens instead of the shape's");
  app.add_option("--embedding-deviation", options.embedding_deviation,
                 "standard deviation of token embeddings; other weights have 0.02")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--attention-deviation", options.attention_deviation,
                 "standard deviation of o_proj and out_proj. The larger it is beside that of the "
                 "embeddings, the more all tokens of deep layers go to the same experts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", options.seed, "seed");
  app.add_option("--tokenizer", options.tokenizer, "directory whose tokenizer is copied");
  app.add_flag("--quick", options.quick, "tiny ones, loaded and removed again (tests)")
      ->excludes(out);
  return sluice::bench::bench_main(app, argc, argv, [&] {
    if (!options.quick && options.out.empty()) throw sluice::Error("--out is required");
    const uint64_t bytes =
        options.quick ? sluice::write_quick(options) : sluice::Writer(options).write();
    std::printf("%.2f GB\n", static_cast<double>(bytes) / 1e9);
  });
}
