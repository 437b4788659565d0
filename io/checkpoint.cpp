#include "io/checkpoint.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "io/check.h"
#include "io/error.h"
#include "io/json_text.h"
#include "io/posix_file.h"

namespace sluice {
namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr uint64_t kMaxIndexBytes = 256ull << 20;  // 700B models: about 10 MB

using WeightMap = std::map<std::string, std::string>;  // tensor → shard

// A shard's name is a plain one: a checkpoint must not make us read outside its directory.
bool plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

// Takes "weight_map" out of the index and lets everything else ("metadata") pass. The parser keeps
// its own stack, so that nesting costs it a bit per level and us a counter.
class IndexHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  IndexHandler(WeightMap& weight_map, const std::string& path)
      : weight_map_(weight_map), path_(path) {}

  bool found() const { return found_; }

  bool start_object(std::size_t) override {
    ++depth_;
    if (depth_ == 2 && at_weight_map_) {
      in_weight_map_ = true;
      at_weight_map_ = false;
      return true;
    }
    return other_value();
  }
  bool end_object() override {
    --depth_;
    if (depth_ == 1) in_weight_map_ = false;
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_++ == 0) throw Error(path_, ": is an array, expected a JSON object");
    return other_value();
  }
  bool end_array() override {
    --depth_;
    return true;
  }

  bool key(string_t& name) override {
    if (depth_ == 1) {
      at_weight_map_ = name == "weight_map";
      if (at_weight_map_ && std::exchange(found_, true)) {
        throw Error(path_, ": has \"weight_map\" twice");
      }
    } else if (in_weight_map_) {
      tensor_ = std::move(name);
    }
    return true;
  }

  bool string(string_t& shard) override {
    if (!in_weight_map_) return other_value();
    if (!plain_file_name(shard)) {
      throw Error(path_, ": tensor \"", excerpt(tensor_), "\" is said to be in \"", excerpt(shard),
                  "\"; expected the plain name of a file in the same directory");
    }
    const auto [entry, added] = weight_map_.emplace(std::move(tensor_), std::move(shard));
    if (!added) throw Error(path_, ": has tensor \"", excerpt(entry->first), "\" twice");
    return true;
  }

  bool null() override { return other_value(); }
  bool boolean(bool) override { return other_value(); }
  bool number_integer(number_integer_t) override { return other_value(); }
  bool number_unsigned(number_unsigned_t) override { return other_value(); }
  bool number_float(number_float_t, const string_t&) override { return other_value(); }
  bool binary(binary_t&) override { return other_value(); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    throw Error(path_, ": is not valid JSON at byte ", position,
                "; it is damaged or not downloaded completely");
  }

 private:
  // A value that is not a shard's name: fine outside the weight_map.
  bool other_value() const {
    if (at_weight_map_) throw Error(path_, ": \"weight_map\" is not an object");
    if (in_weight_map_)
      throw Error(path_, ": tensor \"", excerpt(tensor_), "\" is not mapped to a file name");
    return true;
  }

  WeightMap& weight_map_;
  const std::string& path_;
  uint64_t depth_ = 0;
  bool found_ = false;
  bool at_weight_map_ = false;  // its key was read, its value comes next
  bool in_weight_map_ = false;
  std::string tensor_;
};

WeightMap read_index(const std::string& path) {
  const std::string text = read_text_file(path, kMaxIndexBytes);
  // The parser would take a NUL for the end of its input.
  if (const size_t nul = text.find('\0'); nul != std::string::npos) {
    throw Error(path, ": is not valid JSON at byte ", nul, " (a NUL); it is damaged");
  }
  WeightMap weight_map;
  IndexHandler handler(weight_map, path);
  const bool whole = sax_parse_json(text, handler);
  SLUICE_CHECK(whole);  // the handler throws, it never stops the parser
  if (!handler.found()) throw Error(path, ": has no \"weight_map\"");
  if (weight_map.empty()) throw Error(path, ": its \"weight_map\" is empty");
  return weight_map;
}

std::vector<std::string> shards_of(const WeightMap& weight_map) {
  std::vector<std::string> names;
  names.reserve(weight_map.size());
  for (const auto& [tensor, shard] : weight_map) names.push_back(shard);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

// Files being written or downloaded end in .partial and so are left out.
std::vector<std::string> shards_in(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; entry != end;
       entry.increment(error)) {
    if (entry->path().extension() == ".safetensors") {
      names.push_back(entry->path().filename().string());
    }
  }
  if (error) throw Error(directory.string(), ": cannot list the directory: ", error.message());
  if (names.empty()) {
    throw Error(directory.string(), ": holds neither ", kIndexName,
                " nor any *.safetensors file; expected a model directory");
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Checkpoint Checkpoint::open(const std::filesystem::path& directory) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    throw Error(directory.string(), ": ", error ? error.message() : "not a directory",
                "; expected a model directory");
  }
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  const std::filesystem::path index = directory / kIndexName;
  // Looked at without following: an index whose symlink is broken must not pass for none.
  const std::filesystem::file_status index_status = std::filesystem::symlink_status(index, error);
  if (index_status.type() == std::filesystem::file_type::none) {
    throw Error(index.string(), ": cannot be looked at: ", error.message());
  }
  const bool indexed = std::filesystem::exists(index_status);
  const WeightMap weight_map = indexed ? read_index(index.string()) : WeightMap{};

  for (const std::string& name : indexed ? shards_of(weight_map) : shards_in(directory)) {
    const std::string path = (directory / name).string();
    if (!std::filesystem::exists(path, error)) {
      throw Error(path, ": is missing", indexed ? ", though the index names it" : "",
                  "; download the model completely");
    }
    checkpoint.add_file(path);
  }
  checkpoint.index_names();
  for (const auto& [name, shard] : weight_map) {
    const TensorInfo* tensor = checkpoint.find(name);
    if (tensor == nullptr ||
        std::filesystem::path(checkpoint.files_[tensor->file]).filename() != shard) {
      throw Error(index.string(), ": says that tensor \"", excerpt(name), "\" is in ",
                  excerpt(shard), ", but it is ",
                  tensor == nullptr ? "nowhere" : "in " + checkpoint.files_[tensor->file],
                  "; index and shards are not of one download");
    }
  }
  return checkpoint;
}

void Checkpoint::add_file(const std::string& path) {
  SafetensorsHeader header = read_safetensors_header(path);
  const auto file = static_cast<uint32_t>(files_.size());
  for (TensorInfo& tensor : header.tensors) tensor.file = file;
  tensors_.insert(tensors_.end(), std::make_move_iterator(header.tensors.begin()),
                  std::make_move_iterator(header.tensors.end()));
  files_.push_back(path);
  file_bytes_.push_back(header.file_bytes);
  metadata_.push_back(std::move(header.metadata));
}

// Once the tensors have their final places in memory.
void Checkpoint::index_names() {
  by_name_.reserve(tensors_.size());
  for (uint32_t i = 0; i < tensors_.size(); ++i) {
    const auto [other, added] = by_name_.emplace(tensors_[i].name, i);
    if (!added) {
      throw Error(directory_.string(), ": tensor \"", excerpt(tensors_[i].name), "\" is both in ",
                  files_[tensors_[other->second].file], " and in ", files_[tensors_[i].file],
                  "; remove the file that does not belong to the model");
    }
  }
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const auto entry = by_name_.find(name);
  return entry == by_name_.end() ? nullptr : &tensors_[entry->second];
}

const TensorInfo& Checkpoint::at(std::string_view name) const {
  const TensorInfo* tensor = find(name);
  if (tensor == nullptr) {
    throw Error(directory_.string(), ": has no tensor named \"", excerpt(name), "\"",
                "; is it a model of another family, or not complete?");
  }
  return *tensor;
}

}  // namespace sluice
