// make-demo: rewrites a published Qwen3-MoE checkpoint as a TurboQuant one (MLX layout, 3 bits,
// groups of 64), as the bundled demonstration model is.
//
// One matrix is in work at a time, a block of rows at a time, so memory stays bounded by the scales
// of the largest stack of experts. The output directory appears under its name only when it is
// complete.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/error.h"
#include "io/posix_file.h"
#include "io/safetensors_writer.h"
#include "kernels/codec.h"
#include "kernels/kernels.h"
#include "tools/demo/quantize_plan.h"

namespace sluice::demo {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxTextBytes = 64 << 20;  // several times the largest published tokenizer.json
constexpr uint64_t kShardBytes = 16 << 20;    // small files are kinder to a source repository
constexpr uint64_t kBlockBytes = 4 << 20;     // of rows in float32, and of bytes when copying
constexpr uint64_t kSeed = 42;
constexpr const char* kCopiedFiles[] = {"tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json"};

// The signs of a matrix follow from its path alone (FNV-1a), whatever else the checkpoint holds.
uint64_t seed_of(std::string_view path) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash ^ kSeed;
}

kernels::Format format_of(DType dtype) {
  if (dtype == DType::f16) return kernels::Format::f16;
  return dtype == DType::bf16 ? kernels::Format::bf16 : kernels::Format::f32;
}

class Converter {
 public:
  Converter(const Checkpoint& checkpoint, const Quantization& quantization,
            const kernels::Table& table)
      : checkpoint_(checkpoint), quantization_(quantization), table_(table) {
    for (const std::string& path : checkpoint.files()) files_.push_back(open_regular_file(path));
  }

  void write_shard(const std::string& path, const std::vector<Item>& items) const {
    std::vector<TensorInfo> tensors;
    for (const Item& item : items) {
      tensors.insert(tensors.end(), item.outputs.begin(), item.outputs.end());
    }
    SafetensorsWriter writer(path, tensors, {.metadata = {{"format", "mlx"}}});
    for (const Item& item : items) {
      if (item.quantized) {
        write_quantized(item, writer);
      } else {
        write_copy(*item.sources.front(), writer);
      }
    }
    writer.finish();
  }

 private:
  void read(const TensorInfo& tensor, uint64_t offset, std::span<std::byte> bytes) const {
    read_exactly(files_.at(tensor.file).fd, bytes, tensor.offset + offset,
                 checkpoint_.files().at(tensor.file));
  }

  void write_copy(const TensorInfo& tensor, SafetensorsWriter& writer) const {
    std::vector<std::byte> block(std::min(tensor.size_bytes, kBlockBytes));
    for (uint64_t done = 0; done < tensor.size_bytes; done += block.size()) {
      block.resize(std::min(tensor.size_bytes - done, kBlockBytes));
      read(tensor, done, block);
      writer.write(block);
    }
  }

  // The words go out as they are made; the scales, which follow them in the file, are kept.
  void write_quantized(const Item& item, SafetensorsWriter& writer) const {
    const auto cols = static_cast<uint32_t>(item.cols);
    std::vector<float> signs(cols);
    kernels::random_signs(seed_of(item.path), cols, signs.data());
    const kernels::Codec codec =
        kernels::make_codec(cols, quantization_.group, quantization_.codebook_length, signs.data());
    std::vector<std::byte> scales;
    scales.reserve(item.outputs.at(1).size_bytes);
    for (const TensorInfo* source : item.sources) write_words(*source, codec, writer, scales);
    writer.write(scales);
    std::vector<std::byte> f16(size_t{2} * codec.length);
    kernels::codebook_f16(codec, f16.data());
    writer.write(f16);
    f16.resize(size_t{2} * cols);
    table_.to_f16(signs.data(), cols, f16.data());
    writer.write(f16);
  }

  void write_words(const TensorInfo& source, const kernels::Codec& codec, SafetensorsWriter& writer,
                   std::vector<std::byte>& scales) const {
    const uint64_t row_bytes = uint64_t{codec.cols} * dtype_bytes(source.dtype);
    const uint64_t row_scale_bytes = uint64_t{codec.cols / codec.group} * 2;
    const uint64_t rows = source.shape[0];
    const uint64_t block_rows =
        std::clamp<uint64_t>(kBlockBytes / (uint64_t{codec.cols} * sizeof(float)), 1, rows);
    std::vector<std::byte> raw(block_rows * row_bytes);
    std::vector<float> values(block_rows * codec.cols);
    std::vector<float> rotated(codec.cols);
    std::vector<uint8_t> indices(codec.cols);
    std::vector<std::byte> words(block_rows * codec.words * 4);
    for (uint64_t begin = 0; begin < rows; begin += block_rows) {
      const auto count = static_cast<uint32_t>(std::min(block_rows, rows - begin));
      read(source, begin * row_bytes, std::span(raw).first(count * row_bytes));
      table_.to_f32(format_of(source.dtype), raw.data(), size_t{count} * codec.cols, values.data());
      const size_t scales_begin = scales.size();
      scales.resize(scales_begin + count * row_scale_bytes);
      const uint32_t encoded = kernels::encode_rows(codec, table_, values.data(), count,
                                                    {.values = rotated.data(),
                                                     .indices = indices.data(),
                                                     .words = words.data(),
                                                     .scales = scales.data() + scales_begin});
      if (encoded < count) {
        throw Error("tensor ", source.name, ", row ", begin + encoded,
                    ": holds infinities, NaN, or values too large for an F16 scale; is the ",
                    "checkpoint damaged?");
      }
      writer.write(std::span(words).first(size_t{count} * codec.words * 4));
    }
  }

  const Checkpoint& checkpoint_;
  Quantization quantization_;
  const kernels::Table& table_;
  std::vector<RegularFile> files_;
};

std::string shard_name(size_t index, size_t count) {
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

Json make_index(const std::vector<std::vector<Item>>& shards) {
  Json weight_map = Json::object();
  uint64_t total = 0;
  for (size_t shard = 0; shard < shards.size(); ++shard) {
    for (const Item& item : shards[shard]) {
      total += item.output_bytes;
      for (const TensorInfo& output : item.outputs) {
        weight_map[output.name] = shard_name(shard, shards.size());
      }
    }
  }
  return {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}};
}

Json read_config(const std::filesystem::path& model) {
  const std::string path = (model / "config.json").string();
  Json config = Json::parse(read_text_file(path, kMaxTextBytes), nullptr, false);
  if (!config.is_object()) throw Error(path, ": not a JSON object");
  if (!config.contains("model_type") || config["model_type"] != "qwen3_moe") {
    throw Error(path, ": expected \"model_type\": \"qwen3_moe\", the only family this converts");
  }
  if (config.contains("quantization") || config.contains("quantization_config")) {
    throw Error(path, ": the model is quantized already; start from its F32, F16 or BF16 original");
  }
  return config;
}

// The keys that published TurboQuant checkpoints have.
Json quantization_block(const Quantization& quantization) {
  Json codebook = Json::array();
  for (const float centroid : kernels::gaussian_centroids(quantization.codebook_length)) {
    codebook.push_back(centroid);
  }
  return {{"mode", "turboquant"},
          {"bits", std::bit_width(quantization.codebook_length - 1)},
          {"group_size", quantization.group},
          {"use_qjl", false},
          {"rotation", "hadamard"},
          {"rotation_seed", kSeed},
          {"fuse_rotations", false},
          {"attn_bits", nullptr},
          {"mlp_bits", nullptr},
          {"codebook", std::move(codebook)}};
}

void write_model(const std::filesystem::path& model, const std::filesystem::path& output,
                 const kernels::Table& table) {
  const Quantization quantization;
  Json config = read_config(model);
  const Checkpoint checkpoint = Checkpoint::open(model);
  const auto shards = split_shards(plan_items(checkpoint, quantization), kShardBytes);
  const Converter converter(checkpoint, quantization, table);
  for (size_t i = 0; i < shards.size(); ++i) {
    converter.write_shard((output / shard_name(i, shards.size())).string(), shards[i]);
  }
  config["quantization"] = quantization_block(quantization);
  write_text_file((output / "model.safetensors.index.json").string(),
                  make_index(shards).dump(1) + "\n");
  write_text_file((output / "config.json").string(), config.dump(1) + "\n");
  for (const char* name : kCopiedFiles) {
    if (std::filesystem::exists(model / name)) {
      write_text_file((output / name).string(),
                      read_text_file((model / name).string(), kMaxTextBytes));
    }
  }
}

// Everything is written beside the output and renamed at the end.
void make_demo(const std::filesystem::path& model, const std::filesystem::path& output) {
  const kernels::Table& table = kernels::table();  // a wrong SLUICE_ISA ends the program here
  if (std::filesystem::exists(output)) {
    throw Error(output.string(), " exists; name a directory that does not");
  }
  const std::filesystem::path partial = output.string() + ".partial";
  if (!std::filesystem::create_directory(partial)) {
    throw Error(partial.string(), " exists, from a run that was interrupted; remove it");
  }
  try {
    write_model(model, partial, table);
    std::filesystem::rename(partial, output);
  } catch (...) {
    std::error_code ignored;  // the first error is the one to tell
    std::filesystem::remove_all(partial, ignored);
    throw;
  }
}

}  // namespace
}  // namespace sluice::demo

int main(int argc, char** argv) {
  CLI::App app("Rewrites a Qwen3-MoE checkpoint as a 3-bit TurboQuant one (MLX layout).");
  std::string model;
  std::string output;
  app.add_option("--model", model, "directory of the F32, F16 or BF16 checkpoint")->required();
  app.add_option("--output", output, "directory to write; must not exist")->required();
  CLI11_PARSE(app, argc, argv);
  try {
    sluice::demo::make_demo(model, output);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make-demo: %s\n", error.what());
    return 1;
  }
  return 0;
}
