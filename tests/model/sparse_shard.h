// Headers of a checkpoint with nothing behind them: a sparse file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sluice {

// Writes one BF16 shard that has these tensors in its header, and a hole for their data.
class SparseShard {
 public:
  void add(const std::string& name, std::vector<uint64_t> shape, const char* dtype = "BF16") {
    uint64_t bytes = dtype == std::string("F32") ? 4 : dtype == std::string("U8") ? 1 : 2;
    for (const uint64_t n : shape) bytes *= n;
    header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {end_, end_ + bytes}}};
    end_ += bytes;
  }

  void write(const std::string& path) const {
    const std::string text = header_.dump();
    const uint64_t length = text.size();
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file << text;
    file.close();
    std::filesystem::resize_file(path, sizeof length + length + end_);
  }

 private:
  nlohmann::json header_ = nlohmann::json::object();
  uint64_t end_ = 0;
};

}  // namespace sluice
