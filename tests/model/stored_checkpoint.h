// A golden case with its matrices stored in another format, and beside it the same checkpoint with
// what those matrices decode to as plain F32: what a runtime computes from both must agree. The
// encoders are simple ones, and what they decode to is computed here from what the formats say.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/safetensors_writer.h"
#include "kernels/kernels.h"
#include "tests/reference/tensors.h"

namespace sluice {

// Tensors by what comes behind a matrix' prefix (".weight", "_blocks"), and the weights they hold.
struct StoredTensor {
  DType dtype = DType::f32;
  std::vector<uint64_t> shape;
  std::string bytes;
};
struct StoredWeights {
  std::map<std::string, StoredTensor> parts;
  std::vector<float> decoded;  // [rows, cols]
};
using Store =
    std::function<StoredWeights(const std::vector<double>& weights, uint64_t rows, uint64_t cols)>;

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// F8_E4M3 in blocks of that side, whose largest weight is 448; scales of F32.
inline StoredWeights store_f8(const std::vector<double>& weights, uint64_t rows, uint64_t cols,
                              uint64_t side) {
  std::vector<double> values;  // of the codes 0 to 0x7e
  for (int code = 0; code < 0x7f; ++code) {
    const int exponent = code >> 3, mantissa = code & 7;
    values.push_back(exponent == 0 ? std::ldexp(mantissa, -9)
                                   : std::ldexp(8 + mantissa, exponent - 10));
  }
  const uint64_t block_rows = (rows + side - 1) / side, block_cols = (cols + side - 1) / side;
  std::vector<double> largest(block_rows * block_cols, 1e-9);
  const auto block = [&](uint64_t i) { return i / cols / side * block_cols + i % cols / side; };
  for (uint64_t i = 0; i < weights.size(); ++i) {
    largest[block(i)] = std::max(largest[block(i)], std::abs(weights[i]));
  }
  StoredWeights stored;
  StoredTensor codes{DType::f8_e4m3, {rows, cols}, {}};
  StoredTensor scales{DType::f32, {block_rows, block_cols}, {}};
  for (const double most : largest) append(scales.bytes, static_cast<float>(most / 448));
  for (uint64_t i = 0; i < weights.size(); ++i) {
    const auto scale = static_cast<double>(static_cast<float>(largest[block(i)] / 448));
    const double size = std::abs(weights[i]) / scale;
    size_t code = 0;
    for (size_t c = 1; c < values.size(); ++c) {
      if (std::abs(values[c] - size) < std::abs(values[code] - size)) code = c;
    }
    const bool negative = weights[i] < 0;
    append(codes.bytes, static_cast<uint8_t>(code | (negative ? 0x80u : 0u)));
    stored.decoded.push_back(static_cast<float>((negative ? -1 : 1) * values[code] * scale));
  }
  stored.parts = {{".weight", codes}, {".weight_scale_inv", scales}};
  return stored;
}

// MXFP4 as published (blocks) or as MLX writes it (words).
inline StoredWeights store_mxfp4(const std::vector<double>& weights, uint64_t rows, uint64_t cols,
                                 bool blocks) {
  constexpr double kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  StoredWeights stored;
  StoredTensor codes{DType::u8, {rows, cols / 32, 16}, {}};
  StoredTensor scales{DType::u8, {rows, cols / 32}, {}};
  for (uint64_t begin = 0; begin < weights.size(); begin += 32) {
    double most = 1e-9;
    for (uint64_t i = begin; i < begin + 32; ++i) most = std::max(most, std::abs(weights[i]));
    const int exponent = static_cast<int>(std::ceil(std::log2(most / 6)));
    append(scales.bytes, static_cast<uint8_t>(exponent + 127));
    uint8_t pair = 0;
    for (uint64_t i = begin; i < begin + 32; ++i) {
      const double size = std::ldexp(std::abs(weights[i]), -exponent);
      uint8_t code = 0;
      for (uint8_t c = 1; c < 8; ++c) {
        if (std::abs(kValues[c] - size) < std::abs(kValues[code] - size)) code = c;
      }
      const bool negative = weights[i] < 0;
      const auto nibble = static_cast<uint8_t>(code | (negative ? 8 : 0));
      if (i % 2 == 0) {
        pair = nibble;
      } else {
        append(codes.bytes, static_cast<uint8_t>(pair | nibble << 4));
      }
      stored.decoded.push_back(
          static_cast<float>(std::ldexp((negative ? -1 : 1) * kValues[code], exponent)));
    }
  }
  if (blocks) {
    stored.parts = {{"_blocks", codes}, {"_scales", scales}};
  } else {
    codes.dtype = DType::u32;
    codes.shape = {rows, cols / 8};
    stored.parts = {{".weight", codes}, {".scales", scales}};
  }
  return stored;
}

// Affine as MLX packs it; scales and biases of BF16 or F16.
inline StoredWeights store_affine(const std::vector<double>& weights, uint64_t rows, uint64_t cols,
                                  uint64_t bits, uint64_t group, DType scale_dtype) {
  StoredWeights stored;
  StoredTensor words{DType::u32, {rows, cols * bits / 32}, {}};
  StoredTensor scales{scale_dtype, {rows, cols / group}, {}};
  StoredTensor biases = scales;
  const auto rounded = [&](double value, std::string& bytes) {
    const auto wide = static_cast<float>(value);
    uint16_t half = 0;
    if (scale_dtype == DType::f16) {
      kernels::scalar_table()->to_f16(&wide, 1, reinterpret_cast<std::byte*>(&half));
    } else {
      half = static_cast<uint16_t>(std::bit_cast<uint32_t>(wide) >> 16);
    }
    append(bytes, half);
    float back = 0;
    kernels::scalar_table()->to_f32(
        scale_dtype == DType::f16 ? kernels::Format::f16 : kernels::Format::bf16,
        reinterpret_cast<const std::byte*>(&half), 1, &back);
    return static_cast<double>(back);
  };
  words.bytes.assign(rows * cols * bits / 8, '\0');
  const double most = std::ldexp(1.0, static_cast<int>(bits)) - 1;
  for (uint64_t begin = 0; begin < weights.size(); begin += group) {
    const auto [low, high] =
        std::minmax_element(weights.begin() + static_cast<ptrdiff_t>(begin),
                            weights.begin() + static_cast<ptrdiff_t>(begin + group));
    const double scale = rounded(std::max(1e-6, (*high - *low) / most), scales.bytes);
    const double bias = rounded(*low, biases.bytes);
    for (uint64_t i = begin; i < begin + group; ++i) {
      const double steps = std::clamp(std::round((weights[i] - bias) / scale), 0.0, most);
      const auto integer = static_cast<uint64_t>(steps);
      for (uint64_t b = 0; b < bits; ++b) {  // rows end with whole words
        const uint64_t bit = i * bits + b;
        words.bytes[bit / 8] = static_cast<char>(words.bytes[bit / 8] |
                                                 static_cast<char>((integer >> b & 1) << bit % 8));
      }
      stored.decoded.push_back(static_cast<float>(scale * steps + bias));
    }
  }
  stored.parts = {{".weight", words}, {".scales", scales}, {".biases", biases}};
  return stored;
}

struct StoredPlan {
  std::string golden = "qwen3_moe";
  Store store;
  std::string quantization;  // of config.json, JSON
  bool stacked = true;       // experts; else one tensor each
  std::string stack = "switch_mlp";
  bool projections = true;  // of attention
  bool embeddings = false;  // and the head
};

// Writes the golden's checkpoint into `stored` in the plan's format, and into `plain` as F32.
class StoredCheckpoint {
 public:
  StoredCheckpoint(const StoredPlan& plan, const std::filesystem::path& stored,
                   const std::filesystem::path& plain)
      : plan_(plan) {
    const std::string golden = std::string(SLUICE_TEST_DATA "/goldens/") + plan.golden;
    const Checkpoint checkpoint = Checkpoint::open(golden);
    for (const TensorInfo& info : checkpoint.tensors()) {
      const auto values = reference::read_values(checkpoint.files()[info.file], info, 0,
                                                 info.size_bytes / dtype_bytes(info.dtype));
      add(info, values);
    }
    for (auto& [prefix, experts] : stacks_) add_stack(prefix, experts);
    write(stored, stored_);
    write(plain, plain_);
    std::ifstream file(golden + "/config.json");
    nlohmann::json config = nlohmann::json::parse(file);
    std::filesystem::copy_file(golden + "/config.json", plain / "config.json");
    config["quantization"] = nlohmann::json::parse(plan.quantization);
    std::ofstream(stored / "config.json") << config.dump(1);
  }

 private:
  using Tensors = std::map<std::string, StoredTensor>;

  static std::string plain_bytes(std::span<const float> values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
  }

  void add(const TensorInfo& info, const std::vector<double>& values) {
    const std::string suffix = ".weight";
    const std::string prefix = info.name.substr(0, info.name.size() - suffix.size());
    const size_t experts = info.name.find(".experts.");
    const bool expert = experts != info.name.npos;
    const bool table = prefix == "lm_head" || prefix == "model.embed_tokens";
    const bool projection = prefix.find("self_attn") != prefix.npos && prefix.ends_with("_proj");
    if (!expert && !(table && plan_.embeddings) && !(projection && plan_.projections)) {
      const std::vector<float> floats(values.begin(), values.end());
      stored_[info.name] = plain_[info.name] = {DType::f32, info.shape, plain_bytes(floats)};
      return;
    }
    StoredWeights stored = plan_.store(values, info.shape[0], info.shape[1]);
    plain_[info.name] = {DType::f32, info.shape, plain_bytes(stored.decoded)};
    if (expert && plan_.stacked) {
      const std::string rest = prefix.substr(experts + std::string(".experts.").size());
      const size_t dot = rest.find('.');
      stacks_[prefix.substr(0, experts) + "." + plan_.stack + rest.substr(dot)]
             [static_cast<uint32_t>(std::stoul(rest.substr(0, dot)))] = std::move(stored);
      return;
    }
    for (auto& [part, tensor] : stored.parts) stored_[prefix + part] = std::move(tensor);
  }

  void add_stack(const std::string& prefix, std::map<uint32_t, StoredWeights>& experts) {
    for (auto& [expert, weights] : experts) {
      for (auto& [part, tensor] : weights.parts) {
        StoredTensor& all = stored_[prefix + part];
        if (expert == 0) {
          all = tensor;
          all.shape.insert(all.shape.begin(), experts.size());
        } else {
          all.bytes += tensor.bytes;
        }
      }
    }
  }

  static void write(const std::filesystem::path& directory, const Tensors& tensors) {
    std::filesystem::create_directories(directory);
    std::vector<TensorInfo> infos;
    for (const auto& [name, tensor] : tensors) {
      TensorInfo info;
      info.name = name;
      info.dtype = tensor.dtype;
      info.shape = tensor.shape;
      infos.push_back(std::move(info));
    }
    SafetensorsWriter writer((directory / "model.safetensors").string(), infos, {});
    for (const auto& [name, tensor] : tensors) {
      writer.write(std::as_bytes(std::span(tensor.bytes)));
    }
    writer.finish();
  }

  const StoredPlan& plan_;
  Tensors stored_, plain_;
  std::map<std::string, std::map<uint32_t, StoredWeights>> stacks_;
};

}  // namespace sluice
