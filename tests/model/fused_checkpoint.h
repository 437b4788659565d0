// A checkpoint with one tensor per expert as one with stacks: gate and up of all experts of a layer
// in one tensor, the gate's rows first, and down in another.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/posix_file.h"
#include "io/safetensors_writer.h"
#include "model/config.h"
#include "model/network.h"

namespace sluice {

inline std::vector<std::byte> tensor_bytes(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  const std::string& path = checkpoint.files()[tensor.file];
  std::vector<std::byte> bytes(tensor.size_bytes);
  read_exactly(open_regular_file(path).fd, bytes, tensor.offset, path);
  return bytes;
}

// model: of a family whose experts' projections are gate, up, down. to: a new directory.
inline void write_fused(const std::filesystem::path& model, const std::filesystem::path& to) {
  const Checkpoint checkpoint = Checkpoint::open(model);
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::vector<std::byte>> bytes;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    tensors[tensor.name] = tensor;
    bytes[tensor.name] = tensor_bytes(checkpoint, tensor);
  }
  for (const ExpertNames& names : expert_names(read_config(model))) {
    const auto& projections = names.projections;
    for (uint32_t expert = 0; expert < names.experts; ++expert) {
      const auto move = [&](const ExpertNames::Projection& projection, const std::string& stack,
                            uint64_t rows) {
        const std::string name = names.per_expert_prefix + "." + std::to_string(expert) + "." +
                                 projection.per_expert_name + ".weight";
        const std::string into = names.per_expert_prefix + "." + stack;
        TensorInfo& fused = tensors[into];
        fused.name = into;
        fused.dtype = tensors.at(name).dtype;
        fused.shape = {names.experts, rows, projection.cols};
        bytes[into].insert(bytes[into].end(), bytes.at(name).begin(), bytes.at(name).end());
        bytes.erase(name);
        tensors.erase(name);
      };
      move(projections[0], "gate_up_proj", uint64_t{2} * projections[0].rows);
      move(projections[1], "gate_up_proj", uint64_t{2} * projections[0].rows);
      move(projections[2], "down_proj", projections[2].rows);
    }
  }
  std::filesystem::create_directory(to);
  std::filesystem::copy(model / "config.json", to / "config.json");
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors) infos.push_back(tensor);
  SafetensorsWriter writer((to / "model.safetensors").string(), infos, {});
  for (const auto& [name, content] : bytes) writer.write(content);
  writer.finish();
}

}  // namespace sluice
