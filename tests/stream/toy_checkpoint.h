// ToyCheckpoint: a model directory of random experts, in either layout, that knows every byte it
// wrote.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "stream/expert_source.h"

namespace sluice {

struct ToyTensor {
  std::string name;
  DType dtype = DType::bf16;
  std::vector<uint64_t> shape;
  std::vector<std::byte> bytes;  // filled when written
};

// What a toy layer looks like. Sizes are small and odd on purpose.
struct ToyLayer {
  bool stacked = false;       // TurboQuant; else one tensor per expert
  DType dtype = DType::bf16;  // per expert
  uint32_t experts = 8;
  uint32_t hidden = 64;
  uint32_t intermediate = 32;
  uint32_t codebook_length = 8;  // stacked
  uint32_t group = 32;           // stacked
};

inline std::string toy_prefix(uint32_t layer) {
  return "model.layers." + std::to_string(layer) + ".mlp.";
}

// What an architecture would say about that layer.
inline ExpertNames toy_names(uint32_t layer, const ToyLayer& toy) {
  ExpertNames names;
  names.layer = layer;
  names.experts = toy.experts;
  names.per_expert_prefix = toy_prefix(layer) + "experts";
  names.stacked_prefixes = {toy_prefix(layer) + "switch_mlp", toy_prefix(layer) + "experts"};
  names.projections = {{"gate_proj", toy.intermediate, toy.hidden},
                       {"up_proj", toy.intermediate, toy.hidden},
                       {"down_proj", toy.hidden, toy.intermediate}};
  return names;
}

inline uint64_t toy_row_words(uint64_t cols, uint32_t codebook_length) {
  const std::map<uint32_t, uint64_t> per_word = {{3, 20}, {4, 16}, {8, 10}, {16, 8}};
  return (cols + per_word.at(codebook_length) - 1) / per_word.at(codebook_length);
}

// The tensors of that layer, without bytes.
inline std::vector<ToyTensor> toy_tensors(uint32_t layer, const ToyLayer& toy) {
  std::vector<ToyTensor> tensors;
  for (const auto& projection : toy_names(layer, toy).projections) {
    const std::vector<uint64_t> shape = {projection.rows, projection.cols};
    if (toy.stacked) {
      const std::string prefix = toy_prefix(layer) + "switch_mlp." + projection.name;
      const uint64_t words = toy_row_words(projection.cols, toy.codebook_length);
      tensors.push_back({prefix + ".weight", DType::u32, {toy.experts, shape[0], words}, {}});
      tensors.push_back(
          {prefix + ".scales", DType::f16, {toy.experts, shape[0], shape[1] / toy.group}, {}});
      tensors.push_back({prefix + ".codebook", DType::f16, {toy.codebook_length}, {}});
      tensors.push_back({prefix + ".signs", DType::f16, {projection.cols}, {}});
      continue;
    }
    for (uint32_t expert = 0; expert < toy.experts; ++expert) {
      tensors.push_back({toy_prefix(layer) + "experts." + std::to_string(expert) + "." +
                             projection.name + ".weight",
                         toy.dtype,
                         shape,
                         {}});
    }
  }
  return tensors;
}

class ToyCheckpoint {
 public:
  // Deals the tensors in random order over the shards; headers are padded at random, so that data
  // begins at any byte.
  ToyCheckpoint(std::vector<ToyTensor> tensors, uint32_t shards, uint32_t seed) : random_(seed) {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-toy-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    directory_ = pattern;
    std::shuffle(tensors.begin(), tensors.end(), random_);
    std::vector<std::vector<ToyTensor*>> dealt(shards);
    for (size_t i = 0; i < tensors.size(); ++i) dealt[i % shards].push_back(&tensors[i]);
    for (uint32_t shard = 0; shard < shards; ++shard) {
      write_shard("model-" + std::to_string(shard) + ".safetensors", dealt[shard]);
    }
    for (ToyTensor& tensor : tensors) bytes_[tensor.name] = std::move(tensor.bytes);
  }
  ~ToyCheckpoint() { remove(); }
  ToyCheckpoint(const ToyCheckpoint&) = delete;
  ToyCheckpoint& operator=(const ToyCheckpoint&) = delete;

  // Removes the directory ahead of time: files that are open stay readable, and a process that is
  // about to abort leaves nothing behind.
  void remove() const { std::filesystem::remove_all(directory_); }

  const std::filesystem::path& directory() const { return directory_; }
  Checkpoint open() const { return Checkpoint::open(directory_); }
  const std::vector<std::byte>& bytes(const std::string& name) const { return bytes_.at(name); }

  // Whether the view holds exactly what was written for that expert.
  bool holds(const ToyLayer& toy, uint32_t layer, uint32_t expert, const ExpertView& view) const {
    const ExpertNames names = toy_names(layer, toy);
    for (size_t p = 0; p < names.projections.size(); ++p) {
      const std::string& projection = names.projections[p].name;
      if (!toy.stacked) {
        const auto& whole = bytes(names.per_expert_prefix + "." + std::to_string(expert) + "." +
                                  projection + ".weight");
        if (std::memcmp(view[p].data, whole.data(), whole.size()) != 0) return false;
        if (view[p].scales != nullptr) return false;
        continue;
      }
      const std::string prefix = names.stacked_prefixes[0] + "." + projection;
      if (!slab_equals(bytes(prefix + ".weight"), toy.experts, expert, view[p].data)) return false;
      if (!slab_equals(bytes(prefix + ".scales"), toy.experts, expert, view[p].scales))
        return false;
    }
    return true;
  }

 private:
  static bool slab_equals(const std::vector<std::byte>& stack, uint32_t experts, uint32_t expert,
                          const std::byte* found) {
    const size_t size = stack.size() / experts;
    return found != nullptr && std::memcmp(found, stack.data() + expert * size, size) == 0;
  }

  void write_shard(const std::string& name, const std::vector<ToyTensor*>& tensors) {
    std::string header(1, '{');
    std::string data;
    for (ToyTensor* tensor : tensors) {
      uint64_t size = dtype_bytes(tensor->dtype);
      for (const uint64_t dimension : tensor->shape) size *= dimension;
      const size_t begin = data.size();
      for (uint64_t i = 0; i < size; ++i) {
        const auto value = static_cast<unsigned char>(random_());
        data.push_back(static_cast<char>(value));
        tensor->bytes.push_back(std::byte{value});
      }
      header += (header.size() > 1 ? ",\"" : "\"") + tensor->name + R"(":{"dtype":")" +
                std::string(dtype_name(tensor->dtype)) + R"(","shape":)" +
                shape_text(tensor->shape) + R"(,"data_offsets":[)" + std::to_string(begin) + "," +
                std::to_string(data.size()) + "]}";
    }
    header += '}';
    header.append(random_() % 5000, ' ');
    std::ofstream file(directory_ / name, std::ios::binary);
    const uint64_t header_bytes = header.size();
    file.write(reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes);
    file << header << data;
    if (!file.flush()) throw std::runtime_error("cannot write " + name);
  }

  std::mt19937 random_;
  std::filesystem::path directory_;
  std::map<std::string, std::vector<std::byte>> bytes_;
};

// A checkpoint of several such layers, as model layers kFirstLayer, kFirstLayer + 1, ...
class ToyModel {
 public:
  static constexpr uint32_t kFirstLayer = 10;

  explicit ToyModel(std::vector<ToyLayer> layers, uint32_t shards = 2, uint32_t seed = 1)
      : layers_(std::move(layers)) {
    std::vector<ToyTensor> tensors;
    for (uint32_t i = 0; i < layers_.size(); ++i) {
      names_.push_back(toy_names(kFirstLayer + i, layers_[i]));
      for (ToyTensor& tensor : toy_tensors(kFirstLayer + i, layers_[i])) {
        tensors.push_back(std::move(tensor));
      }
    }
    checkpoint_ = std::make_unique<ToyCheckpoint>(std::move(tensors), shards, seed);
  }

  Checkpoint open() const { return checkpoint_->open(); }
  std::vector<std::string> files() const { return open().files(); }
  void remove() const { checkpoint_->remove(); }
  ExpertSource source(double max_padding_share = kMaxPaddingShare) const {
    return ExpertSource(open(), names_, max_padding_share);
  }
  const std::vector<ToyLayer>& layers() const { return layers_; }
  bool holds(uint32_t index, uint32_t expert, const ExpertView& view) const {
    return checkpoint_->holds(layers_[index], kFirstLayer + index, expert, view);
  }

 private:
  std::vector<ToyLayer> layers_;
  std::vector<ExpertNames> names_;
  std::unique_ptr<ToyCheckpoint> checkpoint_;
};

}  // namespace sluice
