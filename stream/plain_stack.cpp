#include "stream/plain_stack.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "io/error.h"

namespace sluice {
namespace {

using PlainStack = ExpertNames::PlainStack;

template <class... Parts>
[[noreturn]] void fail(const Checkpoint& checkpoint, const ExpertNames& names,
                       const Parts&... parts) {
  throw Error(checkpoint.directory().string(), ": experts of layer ", names.layer, ": ", parts...);
}

bool is_plain(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

void expect(const Checkpoint& checkpoint, const ExpertNames& names, const TensorInfo& info,
            const std::vector<uint64_t>& shape) {
  if (!is_plain(info.dtype)) {
    fail(checkpoint, names, "tensor ", info.name, " is ", dtype_name(info.dtype),
         ", expected F32, F16 or BF16");
  }
  if (info.shape != shape) {
    fail(checkpoint, names, "tensor ", info.name, " has shape ", shape_text(info.shape),
         ", expected ", shape_text(shape));
  }
}

// What comes behind "<prefix>."; empty if nothing does.
std::string_view behind(std::string_view prefix, std::string_view name) {
  return name.size() > prefix.size() + 1 ? name.substr(prefix.size() + 1) : std::string_view{};
}

}  // namespace

bool is_plain_stack(const ExpertNames& names, std::string_view prefix, std::string_view name) {
  if (names.plain_stack == PlainStack::none) return false;
  const std::string_view last = behind(prefix, name);
  if (last.empty()) return false;
  return last == names.gate_and_up ||
         std::any_of(names.projections.begin(), names.projections.end(),
                     [&](const auto& projection) { return projection.name == last; });
}

bool is_expert_bias(const ExpertNames& names, std::string_view prefix, std::string_view name) {
  const std::string_view last = behind(prefix, name);
  return !names.bias_suffix.empty() &&
         std::any_of(
             names.projections.begin(), names.projections.end(),
             [&](const auto& projection) { return projection.name + names.bias_suffix == last; });
}

PlainStackPlace find_in_plain_stack(const Checkpoint& checkpoint, const ExpertNames& names,
                                    const std::string& prefix,
                                    const ExpertNames::Projection& projection) {
  const TensorInfo* fused =
      names.gate_and_up.empty() ? nullptr : checkpoint.find(prefix + "." + names.gate_and_up);
  const std::string name = prefix + "." + projection.name;
  const bool in_fused = fused != nullptr && projection.name != names.projections.back().name;
  if (in_fused) {
    if (checkpoint.find(name) != nullptr) {
      fail(checkpoint, names, "two layouts at once: tensor ", fused->name, " and tensor ", name,
           "; expected either gate and up in one tensor, or each in its own");
    }
    expect(checkpoint, names, *fused,
           {names.experts, uint64_t{2} * projection.rows, projection.cols});
    const bool first = projection.name == names.projections.front().name;
    return {fused, first ? 0 : projection.rows};
  }
  const TensorInfo* tensor = checkpoint.find(name);
  if (tensor == nullptr) fail(checkpoint, names, "tensor ", name, " is missing");
  std::vector<uint64_t> shape = {names.experts, projection.rows, projection.cols};
  if (names.plain_stack == PlainStack::columns) std::swap(shape[1], shape[2]);
  expect(checkpoint, names, *tensor, shape);
  return {tensor, 0};
}

ExpertLayout read_plain_stack(const Checkpoint& checkpoint, const ExpertNames& names,
                              const std::string& prefix) {
  ExpertLayout layout;
  layout.model_layer = names.layer;
  layout.experts = names.experts;
  for (const auto& projection : names.projections) {
    const PlainStackPlace place = find_in_plain_stack(checkpoint, names, prefix, projection);
    ProjectionFormat format;
    format.dtype = place.tensor->dtype;
    format.rows = projection.rows;
    format.cols = projection.cols;
    if (names.plain_stack == PlainStack::columns) format.layout = MatrixLayout::columns;
    layout.formats.push_back(std::move(format));
    const uint64_t row_bytes = uint64_t{projection.cols} * dtype_bytes(place.tensor->dtype);
    const uint64_t size_bytes = projection.rows * row_bytes;
    const uint64_t offset = place.tensor->offset + place.first_row * row_bytes;
    layout.projections.push_back({.data = {.size_bytes = size_bytes,
                                           .stride_bytes = place.tensor->size_bytes / names.experts,
                                           .places = {{place.tensor->file, offset, size_bytes}}},
                                  .scales = {},
                                  .biases = {}});
  }
  return layout;
}

void find_expert_biases(const Checkpoint& checkpoint, const ExpertNames& names,
                        ExpertLayout& layout) {
  if (names.bias_suffix.empty()) return;
  std::set<std::string> prefixes(names.stacked_prefixes.begin(), names.stacked_prefixes.end());
  prefixes.insert(names.per_expert_prefix);
  for (size_t p = 0; p < names.projections.size(); ++p) {
    const std::string last = "." + names.projections[p].name + names.bias_suffix;
    const TensorInfo* found = nullptr;
    for (const std::string& prefix : prefixes) {
      const TensorInfo* info = checkpoint.find(prefix + last);
      if (info == nullptr) continue;
      if (found != nullptr) {
        fail(checkpoint, names, "two biases of ", names.projections[p].name, ": tensor ",
             found->name, " and tensor ", info->name);
      }
      found = info;
    }
    if (found == nullptr) {
      fail(checkpoint, names, "tensor ", names.per_expert_prefix, last, " is missing");
    }
    expect(checkpoint, names, *found, {names.experts, names.projections[p].rows});
    layout.formats[p].bias = found->name;
  }
}

}  // namespace sluice
