#include "tools/demo/quantize_plan.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "io/error.h"
#include "io/safetensors.h"
#include "kernels/kernels.h"

namespace sluice::demo {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kExperts = ".mlp.experts.";
constexpr std::string_view kQuantized[] = {
    ".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj", ".self_attn.o_proj",
    ".mlp.gate_proj",    ".mlp.up_proj",      ".mlp.down_proj",
};

// "model.layers.3.mlp.experts.17.up_proj" in its parts.
struct ExpertName {
  std::string stack;  // "model.layers.3.mlp.switch_mlp.up_proj"
  uint64_t expert = 0;
};

std::optional<ExpertName> parse_expert_name(std::string_view path) {
  const size_t at = path.find(kExperts);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = path.substr(at + kExperts.size());
  ExpertName name;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), name.expert);
  const std::string_view matrix = rest.substr(static_cast<size_t>(end - rest.data()));
  if (error != std::errc() ||
      (matrix != ".gate_proj" && matrix != ".up_proj" && matrix != ".down_proj")) {
    throw Error("tensor ", path, kWeight,
                " is no expert matrix (experts.<number>.<gate, up or down>",
                "_proj): this program converts Qwen3-MoE checkpoints with one tensor per expert");
  }
  name.stack = std::string(path.substr(0, at)) + ".mlp.switch_mlp" + std::string(matrix);
  return name;
}

bool is_quantized_matrix(std::string_view path) {
  return path == "lm_head" ||
         std::any_of(std::begin(kQuantized), std::end(kQuantized),
                     [&](std::string_view end) { return path.ends_with(end); });
}

// Adds one original to the item of its path. An expert takes the place of its number.
void add_source(std::map<std::string, Item>& items, const TensorInfo& tensor) {
  std::string_view path = tensor.name;
  if (path.ends_with(kWeight)) path.remove_suffix(kWeight.size());
  const std::optional<ExpertName> expert = parse_expert_name(path);
  const bool quantized = expert || (path.size() < tensor.name.size() && is_quantized_matrix(path));
  const std::string key = expert ? expert->stack : std::string(quantized ? path : tensor.name);
  Item& item = items[key];
  item.path = key;
  item.quantized = quantized;
  const uint64_t index = expert ? expert->expert : 0;
  if (index >= kMaxExperts) throw Error("tensor ", tensor.name, ": over ", kMaxExperts, " experts");
  if (item.sources.size() <= index) item.sources.resize(index + 1, nullptr);
  if (item.sources[index] != nullptr) {
    throw Error("tensors ", item.sources[index]->name, " and ", tensor.name,
                " would have the same name in the output");
  }
  item.sources[index] = &tensor;
}

void check_sources(Item& item, const Quantization& quantization) {
  for (size_t expert = 0; expert < item.sources.size(); ++expert) {
    const TensorInfo* source = item.sources[expert];
    if (source == nullptr) throw Error(item.path, ": expert ", expert, " is missing");
    if (source->dtype != DType::f32 && source->dtype != DType::f16 &&
        source->dtype != DType::bf16) {
      throw Error("tensor ", source->name, " is ", dtype_name(source->dtype),
                  "; expected F32, F16 or BF16");
    }
    if (source->shape.size() != 2 || source->shape != item.sources.front()->shape) {
      throw Error("tensor ", source->name, " is ", shape_text(source->shape),
                  "; expected a matrix of the same shape as ", item.sources.front()->name);
    }
  }
  item.rows = item.sources.front()->shape[0];
  item.cols = item.sources.front()->shape[1];
  constexpr uint64_t kLargest = std::numeric_limits<uint32_t>::max() / 2;
  if (item.rows == 0 || item.cols == 0 || item.rows > kLargest || item.cols > kLargest ||
      item.cols % quantization.group != 0) {
    throw Error("tensor ", item.sources.front()->name, " is ",
                shape_text(item.sources.front()->shape), "; expected a width that groups of ",
                quantization.group, " divide");
  }
}

void plan_outputs(Item& item, const Quantization& quantization) {
  if (!item.quantized) {
    item.outputs = {*item.sources.front()};
    item.output_bytes = item.sources.front()->size_bytes;
    return;
  }
  check_sources(item, quantization);
  const bool stacked = item.path.find(".switch_mlp.") != std::string::npos;
  const auto add = [&](const char* name, DType dtype, std::vector<uint64_t> shape) {
    TensorInfo output;
    output.name = item.path + name;
    output.dtype = dtype;
    output.shape = std::move(shape);
    output.size_bytes = dtype_bytes(dtype);
    for (const uint64_t size : output.shape) output.size_bytes *= size;
    item.output_bytes += output.size_bytes;
    item.outputs.push_back(std::move(output));
  };
  const auto per_row = [&](uint64_t width) {
    return stacked ? std::vector<uint64_t>{item.sources.size(), item.rows, width}
                   : std::vector<uint64_t>{item.rows, width};
  };
  const uint32_t words =
      kernels::row_words(static_cast<uint32_t>(item.cols), quantization.codebook_length);
  add(".weight", DType::u32, per_row(words));
  add(".scales", DType::f16, per_row(item.cols / quantization.group));
  add(".codebook", DType::f16, {quantization.codebook_length});
  add(".signs", DType::f16, {item.cols});
}

}  // namespace

std::vector<Item> plan_items(const Checkpoint& checkpoint, const Quantization& quantization) {
  std::map<std::string, Item> by_path;
  for (const TensorInfo& tensor : checkpoint.tensors()) add_source(by_path, tensor);
  std::vector<Item> items;
  uint64_t experts = 0;
  for (auto& [path, item] : by_path) {
    plan_outputs(item, quantization);
    experts = std::max<uint64_t>(experts, item.sources.size());
    items.push_back(std::move(item));
  }
  if (experts < 2) {
    throw Error(checkpoint.directory().string(), ": no tensor is named ...", kExperts,
                "<number>...: not a Qwen3-MoE checkpoint with one tensor per expert");
  }
  return items;
}

std::vector<std::vector<Item>> split_shards(std::vector<Item> items, uint64_t max_bytes) {
  std::vector<std::vector<Item>> shards;
  uint64_t shard_bytes = 0;
  for (Item& item : items) {
    if (shards.empty() || shard_bytes + item.output_bytes > max_bytes) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shard_bytes += item.output_bytes;
    shards.back().push_back(std::move(item));
  }
  return shards;
}

}  // namespace sluice::demo
