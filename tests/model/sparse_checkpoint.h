// A checkpoint of any size whose tensors are holes: whole headers and an index, and files as long
// as they say that hold nothing. For what reads headers alone.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/model/synthetic_checkpoint.h"

namespace sluice {

// One shard for each layer and one for the rest. Returns false if this filesystem does not take
// files of that size.
inline bool write_sparse_checkpoint(const std::filesystem::path& directory,
                                    const SyntheticShape& shape) {
  write_synthetic_config(directory, shape);
  std::vector<std::pair<std::string, uint64_t>> headers(shape.layers + 1);  // JSON, bytes of data
  std::string index = "{\"weight_map\": {";
  for (const TensorInfo& tensor : synthetic_tensors(shape)) {
    const bool of_layer = tensor.name.starts_with("model.layers.");
    const size_t shard = of_layer ? 1 + std::stoul(tensor.name.substr(13)) : 0;
    auto& [json, bytes] = headers[shard];
    uint64_t size = 2;  // bf16
    std::string dimensions;
    for (const uint64_t n : tensor.shape) {
      size *= n;
      dimensions += (dimensions.empty() ? "" : ",") + std::to_string(n);
    }
    json += (json.empty() ? "{\"" : ",\"") + tensor.name + "\":{\"dtype\":\"BF16\",\"shape\":[" +
            dimensions + "],\"data_offsets\":[" + std::to_string(bytes) + "," +
            std::to_string(bytes + size) + "]}";
    bytes += size;
    index += (index.ends_with('{') ? "\"" : ",\"") + tensor.name + "\":\"model-" +
             std::to_string(shard) + ".safetensors\"";
  }
  std::ofstream(directory / "model.safetensors.index.json") << index << "}}";
  for (size_t shard = 0; shard < headers.size(); ++shard) {
    const std::string json = headers[shard].first + "}";
    const std::string path =
        (directory / ("model-" + std::to_string(shard) + ".safetensors")).string();
    std::ofstream file(path, std::ios::binary);
    for (int byte = 0; byte < 8; ++byte) {
      file.put(static_cast<char>(uint64_t{json.size()} >> (8 * byte) & 0xff));
    }
    file << json << std::flush;
    const auto size = static_cast<off_t>(8 + json.size() + headers[shard].second);
    if (::truncate(path.c_str(), size) != 0) return false;
  }
  return true;
}

}  // namespace sluice
