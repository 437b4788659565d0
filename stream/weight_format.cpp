#include "stream/weight_format.h"

#include <algorithm>
#include <array>
#include <vector>

#include "io/check.h"
#include "io/error.h"

namespace sluice {
namespace {

constexpr uint32_t kMxfp4Group = 32;
constexpr uint32_t kLeastF8Columns = 16;  // of a block, so that the kernels' lanes fill it
constexpr std::array kFloats = {DType::f32, DType::bf16, DType::f16};

// The members are what every step and every message needs.
class ScaledReader {
 public:
  ScaledReader(const Checkpoint& checkpoint, const std::string& prefix,
               std::optional<uint64_t> stack, uint32_t rows, uint32_t cols,
               const std::string& where)
      : checkpoint_(checkpoint),
        prefix_(prefix),
        stack_(stack),
        rows_(rows),
        cols_(cols),
        where_(where) {}

  std::optional<ScaledMatrix> read() const {
    // Signs as well: a TurboQuant matrix whose codebook is missing should be told so.
    if (find(".codebook") != nullptr || find(".signs") != nullptr) return std::nullopt;
    if (find("_blocks") != nullptr) return mxfp4_blocks();
    const TensorInfo* weight = find(".weight");
    if (weight != nullptr && is_float(weight->dtype)) {
      for (const char* suffix : {".weight_scale_inv", ".scales", ".biases"}) {
        if (const TensorInfo* other = find(suffix)) {
          fail(*other, "not supported beside a weight of ", dtype_name(weight->dtype));
        }
      }
      return std::nullopt;
    }
    if (find(".weight_scale_inv") != nullptr || (weight != nullptr && is_f8(weight->dtype))) {
      return f8();
    }
    const TensorInfo* scales = find(".scales");
    if (find(".biases") != nullptr) return affine();
    if (scales == nullptr) return std::nullopt;
    return scales->dtype == DType::u8 ? mxfp4_words() : affine();
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const TensorInfo& info, const Parts&... parts) const {
    throw Error(where_, ": tensor ", info.name, " in ", checkpoint_.files()[info.file], " is ",
                dtype_name(info.dtype), " ", shape_text(info.shape), "; ", parts...);
  }

  const TensorInfo* find(const char* suffix) const { return checkpoint_.find(prefix_ + suffix); }
  const TensorInfo& at(const char* suffix) const {
    if (const TensorInfo* info = find(suffix)) return *info;
    throw Error(where_, ": tensor ", prefix_, suffix, " is missing");
  }

  static bool is_f8(DType dtype) { return dtype == DType::f8_e4m3 || dtype == DType::f8_e5m2; }

  // [experts,] and then these.
  std::vector<uint64_t> shape(std::initializer_list<uint64_t> inner) const {
    std::vector<uint64_t> all;
    if (stack_) all.push_back(*stack_);
    all.insert(all.end(), inner);
    return all;
  }

  const TensorInfo& expect(const char* suffix, DType dtype,
                           std::initializer_list<uint64_t> inner) const {
    const TensorInfo& info = at(suffix);
    if (info.dtype != dtype || info.shape != shape(inner)) {
      fail(info, "expected ", dtype_name(dtype), " ", shape_text(shape(inner)));
    }
    return info;
  }

  // The last dimension of a tensor of [experts,] rows and that; `what` it should be.
  uint64_t row_length(const TensorInfo& info, const char* what) const {
    const uint64_t last = info.shape.empty() ? 0 : info.shape.back();
    if (info.shape != shape({rows_, last})) {
      fail(info, "expected ", stack_ ? "[" + std::to_string(*stack_) + ", " : "[", rows_, ", ",
           what, "]");
    }
    return last;
  }

  static bool is_float(DType dtype) {
    return std::find(kFloats.begin(), kFloats.end(), dtype) != kFloats.end();
  }
  void expect_scale_type(const TensorInfo& info) const {
    if (!is_float(info.dtype)) fail(info, "expected F32, BF16 or F16");
  }

  ScaledMatrix mxfp4(const TensorInfo& data, const TensorInfo& scales) const {
    return {.form = {.format = WeightFormat::mxfp4, .group = kMxfp4Group},
            .data = &data,
            .scales = &scales};
  }
  void expect_whole_groups() const {
    if (cols_ % kMxfp4Group == 0) return;
    throw Error(where_, ": ", prefix_, " has ", cols_, " inputs by config.json, and MXFP4 needs a ",
                "multiple of 32");
  }
  ScaledMatrix mxfp4_blocks() const {
    expect_whole_groups();
    const uint64_t groups = cols_ / kMxfp4Group;
    const TensorInfo& data = expect("_blocks", DType::u8, {rows_, groups, 16});
    return mxfp4(data, expect("_scales", DType::u8, {rows_, groups}));
  }
  ScaledMatrix mxfp4_words() const {
    expect_whole_groups();
    const TensorInfo& data = expect(".weight", DType::u32, {rows_, cols_ / 8});
    return mxfp4(data, expect(".scales", DType::u8, {rows_, cols_ / kMxfp4Group}));
  }

  // The power of two of which so many blocks cover n. More than one are covered so by no other.
  uint32_t block_side(const TensorInfo& scales, uint32_t n, uint64_t blocks) const {
    uint64_t side = 1;
    while (side < n && (n + side - 1) / side > blocks) side *= 2;
    if ((n + side - 1) / side != blocks) {
      fail(scales, "expected one scale for each block of 2^k by 2^k of the [", rows_, ", ", cols_,
           "] weights");
    }
    return static_cast<uint32_t>(side);
  }
  ScaledMatrix f8() const {
    const TensorInfo& data = at(".weight");
    if (data.dtype == DType::f8_e5m2) fail(data, "F8_E5M2 is not supported, only F8_E4M3");
    if (find(".weight_scale_inv") == nullptr) {
      fail(data, "expected its scales for blocks beside it, tensor ", prefix_,
           ".weight_scale_inv; other scales are not supported");
    }
    expect(".weight", DType::f8_e4m3, {rows_, cols_});
    const TensorInfo& scales = at(".weight_scale_inv");
    expect_scale_type(scales);
    const size_t rank = scales.shape.size();
    if (rank != (stack_ ? 3 : 2) || (stack_ && scales.shape[0] != *stack_)) {
      fail(scales, "expected ", stack_ ? "for each expert " : "", "a matrix of scales");
    }
    ScaledForm form{.format = WeightFormat::f8_blocks, .scale_dtype = scales.dtype};
    form.block_rows = block_side(scales, rows_, scales.shape[rank - 2]);
    form.group = block_side(scales, cols_, scales.shape[rank - 1]);
    if (form.group < kLeastF8Columns) {
      if (scales.shape[rank - 1] != 1) {
        fail(scales, "blocks of ", form.group, " columns are not supported, only of 16 or more");
      }
      form.group = kLeastF8Columns;
    }
    return {.form = form, .data = &data, .scales = &scales};
  }

  ScaledMatrix affine() const {
    const TensorInfo& data = at(".weight");
    const TensorInfo& scales = at(".scales");
    if (data.dtype != DType::u32) fail(data, "expected U32: the integers of affine quantization");
    expect_scale_type(scales);
    const TensorInfo& biases = at(".biases");
    ScaledForm form{.format = WeightFormat::affine, .scale_dtype = scales.dtype};
    const uint64_t groups = row_length(scales, "inputs / group");
    for (const uint32_t size : {32u, 64u, 128u}) {
      if (groups * size == cols_) form.group = size;
    }
    if (groups == 0 || groups > cols_ || form.group == 0) {
      fail(scales, "expected one for every 32, 64 or 128 of ", cols_, " inputs");
    }
    const uint64_t words = row_length(data, "inputs * bits / 32");
    for (const uint32_t bits : {2u, 3u, 4u, 5u, 6u, 8u}) {
      if (words <= cols_ && words * 32 == uint64_t{cols_} * bits) form.bits = bits;
    }
    if (form.bits == 0) {
      fail(data, "expected words for 2, 3, 4, 5, 6 or 8 bits for each of ", cols_, " inputs");
    }
    expect(".biases", scales.dtype, {rows_, groups});
    return {.form = form, .data = &data, .scales = &scales, .biases = &biases};
  }

  const Checkpoint& checkpoint_;
  const std::string& prefix_;
  std::optional<uint64_t> stack_;
  uint32_t rows_, cols_;
  const std::string& where_;
};

}  // namespace

std::optional<ScaledMatrix> find_scaled_matrix(const Checkpoint& checkpoint,
                                               const std::string& prefix,
                                               std::optional<uint64_t> stack, uint32_t rows,
                                               uint32_t cols, const std::string& where) {
  return ScaledReader(checkpoint, prefix, stack, rows, cols, where).read();
}

bool is_weight_part(const Checkpoint& checkpoint, const std::string& prefix,
                    std::string_view suffix) {
  const auto one_of = [&](std::initializer_list<std::string_view> parts) {
    return std::find(parts.begin(), parts.end(), suffix) != parts.end();
  };
  const auto has = [&](const char* part) { return checkpoint.find(prefix + part) != nullptr; };
  if (has(".codebook")) return one_of({".weight", ".scales", ".codebook", ".signs"});
  if (has("_blocks")) return one_of({"_blocks", "_scales"});
  if (has(".weight_scale_inv")) return one_of({".weight", ".weight_scale_inv"});
  return one_of({".weight", ".scales", ".biases"});
}

ScaledSizes scaled_sizes(const ScaledForm& form, uint32_t rows, uint32_t cols) {
  const auto divided = [](uint64_t n, uint64_t by) { return (n + by - 1) / by; };
  const uint64_t scales = divided(rows, form.block_rows) * divided(cols, form.group);
  switch (form.format) {
    case WeightFormat::mxfp4:
      return {uint64_t{rows} * (cols / 2), scales};
    case WeightFormat::f8_blocks:
      return {uint64_t{rows} * cols, scales * dtype_bytes(form.scale_dtype)};
    default:
      SLUICE_CHECK(form.format == WeightFormat::affine);
      return {uint64_t{rows} * (uint64_t{cols} * form.bits / 8),
              scales * dtype_bytes(form.scale_dtype)};
  }
}

}  // namespace sluice
