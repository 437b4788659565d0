// synthesize: writes a checkpoint of a published shape with Gaussian weights, as fast as the disk
// takes it: something of the right size to measure with, without the model.
//
//   synthesize --out DIR [--shape qwen3-30b-a3b] [--layers N] [--experts N] [--format bf16]
//              [--seed N] [--tokenizer DIR]
//
// Deterministic by seed. The tensors are named, shaped and cut into shards as published ones are,
// but the norms are 1 and every weight has the standard deviation 0.02.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/error.h"
#include "io/tensor_file.h"
#include "kernels/kernels.h"
#include "model/model_directory_writer.h"
#include "model/workers.h"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

struct Shape {
  uint32_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary;
  uint32_t experts, experts_per_token, expert_intermediate;
};

const std::map<std::string, Shape> kShapes = {
    {"qwen3-30b-a3b", {48, 2048, 6144, 32, 4, 128, 151936, 128, 8, 768}},
    {"qwen3-235b-a22b", {94, 4096, 12288, 64, 4, 128, 151936, 128, 8, 1536}},
    // For tests: the same network in a few megabytes.
    {"tiny", {2, 256, 512, 4, 2, 64, 1024, 8, 2, 128}},
};

constexpr uint64_t kShardBytes = 4'000'000'000;
constexpr uint64_t kBlockBytes = 8 << 20;
constexpr float kDeviation = 0.02f;
constexpr uint32_t kQuantiles = 1 << 16;

struct Options {
  std::string out;
  std::string shape = "qwen3-30b-a3b";
  uint32_t layers = 0;
  uint32_t experts = 0;
  std::string format = "bf16";
  uint64_t seed = 1;
  std::string tokenizer;
  bool quick = false;
};

// 65536 equally likely values of N(0, 1) · kDeviation in the format: one lookup of 16 random bits
// gives a weight.
std::vector<std::byte> quantile_table(DType dtype) {
  std::vector<std::byte> table(size_t{kQuantiles} * dtype_bytes(dtype));
  double x = -4.5;
  for (uint32_t i = 0; i < kQuantiles; ++i) {
    const double wanted = (i + 0.5) / kQuantiles;
    // Newton's steps on Φ(x) = wanted, from the last quantile.
    for (int step = 0; step < 8; ++step) {
      const double density = std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
      x -= (std::erfc(-x / std::sqrt(2.0)) / 2 - wanted) / std::max(density, 1e-7);
    }
    const float value = static_cast<float>(x) * kDeviation;
    std::byte* out = table.data() + size_t{i} * dtype_bytes(dtype);
    if (dtype == DType::f16) {
      kernels::table().to_f16(&value, 1, out);
    } else {
      uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof(bits));
      if (dtype == DType::bf16) bits >>= 16;  // little-endian: the first bytes are the lowest
      std::memcpy(out, &bits, dtype_bytes(dtype));
    }
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

std::vector<TensorInfo> tensors_of(const Shape& s, DType dtype) {
  std::vector<TensorInfo> tensors;
  const auto add = [&](const std::string& name, std::vector<uint64_t> shape) {
    TensorInfo tensor;
    tensor.name = name;
    tensor.dtype = dtype;
    tensor.size_bytes = dtype_bytes(dtype);
    for (const uint64_t n : shape) tensor.size_bytes *= n;
    tensor.shape = std::move(shape);
    tensors.push_back(std::move(tensor));
  };
  add("model.embed_tokens.weight", {s.vocabulary, s.hidden});
  for (uint32_t layer = 0; layer < s.layers; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".";
    const uint64_t q = uint64_t{s.heads} * s.head_dim;
    const uint64_t kv = uint64_t{s.kv_heads} * s.head_dim;
    add(p + "input_layernorm.weight", {s.hidden});
    for (uint32_t e = 0; e < s.experts; ++e) {
      const std::string expert = p + "mlp.experts." + std::to_string(e) + ".";
      add(expert + "down_proj.weight", {s.hidden, s.expert_intermediate});
      add(expert + "gate_proj.weight", {s.expert_intermediate, s.hidden});
      add(expert + "up_proj.weight", {s.expert_intermediate, s.hidden});
    }
    add(p + "mlp.gate.weight", {s.experts, s.hidden});
    add(p + "post_attention_layernorm.weight", {s.hidden});
    add(p + "self_attn.k_norm.weight", {s.head_dim});
    add(p + "self_attn.k_proj.weight", {kv, s.hidden});
    add(p + "self_attn.o_proj.weight", {s.hidden, q});
    add(p + "self_attn.q_norm.weight", {s.head_dim});
    add(p + "self_attn.q_proj.weight", {q, s.hidden});
    add(p + "self_attn.v_proj.weight", {kv, s.hidden});
  }
  add("model.norm.weight", {s.hidden});
  add("lm_head.weight", {s.vocabulary, s.hidden});
  return tensors;
}

std::string config_json(const Shape& s, const std::string& format) {
  const std::map<std::string, std::string> names = {
      {"bf16", "bfloat16"}, {"f16", "float16"}, {"f32", "float32"}};
  const Json config = {{"model_type", "qwen3_moe"},
                       {"architectures", {"Qwen3MoeForCausalLM"}},
                       {"num_hidden_layers", s.layers},
                       {"hidden_size", s.hidden},
                       {"intermediate_size", s.intermediate},
                       {"num_attention_heads", s.heads},
                       {"num_key_value_heads", s.kv_heads},
                       {"head_dim", s.head_dim},
                       {"vocab_size", s.vocabulary},
                       {"max_position_embeddings", 40960},
                       {"rms_norm_eps", 1e-6},
                       {"rope_theta", 1000000.0},
                       {"hidden_act", "silu"},
                       {"attention_bias", false},
                       {"tie_word_embeddings", false},
                       {"bos_token_id", 0},
                       {"eos_token_id", 0},
                       {"num_experts", s.experts},
                       {"num_experts_per_tok", s.experts_per_token},
                       {"moe_intermediate_size", s.expert_intermediate},
                       {"norm_topk_prob", true},
                       {"decoder_sparse_step", 1},
                       {"mlp_only_layers", Json::array()},
                       {"torch_dtype", names.at(format)}};
  return config.dump(2) + "\n";
}

class Writer {
 public:
  explicit Writer(const Options& options)
      : options_(options),
        dtype_(options.format == "f32"   ? DType::f32
               : options.format == "f16" ? DType::f16
                                         : DType::bf16),
        quantiles_(quantile_table(dtype_)),
        workers_(available_threads()) {}

  uint64_t write() {
    Shape shape = kShapes.at(options_.shape);
    if (options_.layers != 0) shape.layers = options_.layers;
    if (options_.experts != 0) shape.experts = options_.experts;
    ModelDirectoryWriter directory(options_.out, ModelDirectoryWriter::Unfinished::start_over);
    const std::vector<TensorInfo> tensors = tensors_of(shape, dtype_);
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
    directory.finish(config_json(shape, options_.format));
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
    const size_t size = dtype_bytes(dtype_);
    const size_t count = block.size() / size;
    if (tensor.shape.size() == 1) {  // a norm
      const float one = 1;
      uint32_t bits = 0;
      std::memcpy(&bits, &one, sizeof(bits));
      if (dtype_ == DType::bf16) bits >>= 16;
      if (dtype_ == DType::f16) bits = 0x3c00;
      for (size_t i = 0; i < count; ++i) std::memcpy(block.data() + i * size, &bits, size);
      return;
    }
    const uint64_t seed = (options_.seed + ++blocks_) * 0xd1342543de82ef95;
    constexpr size_t kPiece = 1 << 16;
    workers_.run(static_cast<uint32_t>((count + kPiece - 1) / kPiece),
                 [&](uint32_t piece, uint32_t) {
                   const size_t begin = piece * kPiece;
                   const size_t n = std::min(kPiece, count - begin);
                   std::byte* out = block.data() + begin * size;
                   const uint64_t own = seed + piece * 0x9fb21c651e98df25;
                   if (size == 2) {
                     fill(own, reinterpret_cast<const uint16_t*>(quantiles_.data()), out, n);
                   } else {
                     fill(own, reinterpret_cast<const uint32_t*>(quantiles_.data()), out, n);
                   }
                 });
  }

  const Options& options_;
  DType dtype_;
  std::vector<std::byte> quantiles_;
  Workers workers_;
  uint64_t blocks_ = 0;
};

// For ctest: a small one, into a directory that goes again.
uint64_t write_quick(Options options) {
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("synthesize-" + std::to_string(::getpid()));
  options.out = directory.string();
  options.shape = "tiny";
  const uint64_t bytes = Writer(options).write();
  std::filesystem::remove_all(directory);
  return bytes;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  sluice::Options options;
  CLI::App app("Writes a checkpoint of a published shape with Gaussian weights.");
  std::vector<std::string> shapes;
  for (const auto& [name, shape] : sluice::kShapes) shapes.push_back(name);
  auto* out = app.add_option("--out", options.out, "directory to write; must not exist");
  app.add_option("--shape", options.shape, "shape")->check(CLI::IsMember(shapes));
  app.add_option("--layers", options.layers, "layers instead of the shape's");
  app.add_option("--experts", options.experts, "experts instead of the shape's");
  app.add_option("--format", options.format, "bf16, f16 or f32")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}));
  app.add_option("--seed", options.seed, "seed");
  app.add_option("--tokenizer", options.tokenizer, "directory whose tokenizer is copied");
  app.add_flag("--quick", options.quick, "a tiny one, removed again (tests)")->excludes(out);
  CLI11_PARSE(app, argc, argv);
  try {
    if (!options.quick && options.out.empty()) throw sluice::Error("--out is required");
    const uint64_t bytes =
        options.quick ? sluice::write_quick(options) : sluice::Writer(options).write();
    std::printf("%.2f GB\n", static_cast<double>(bytes) / 1e9);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "synthesize: %s\n", error.what());
    return 1;
  }
  return 0;
}
