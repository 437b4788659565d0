#include "stream/expert_layout.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "io/check.h"
#include "io/error.h"
#include "stream/plain_stack.h"
#include "stream/record_layout.h"

namespace sluice {
namespace {

bool is_plain(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

// What comes after "<prefix>.", cut at its dots: "17" "gate_proj" "weight", or "gate_proj"
// "scales".
struct NameParts {
  std::string_view first, second, rest;
};

NameParts split_name(std::string_view text) {
  NameParts parts;
  const size_t dot = text.find('.');
  parts.first = text.substr(0, dot);
  if (dot == text.npos) return parts;
  text.remove_prefix(dot + 1);
  const size_t next = text.find('.');
  parts.second = text.substr(0, next);
  if (next != text.npos) parts.rest = text.substr(next + 1);
  return parts;
}

// Canonical decimal: no sign, no leading zeros.
std::optional<uint32_t> parse_index(std::string_view text) {
  uint32_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || status != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  if (text.size() > 1 && text[0] == '0') return std::nullopt;
  return value;
}

// Reads one layer. The members are what every step and every message needs.
class LayerReader {
 public:
  LayerReader(const Checkpoint& checkpoint, const TensorNames& tensor_names,
              const ExpertNames& names)
      : checkpoint_(checkpoint), tensor_names_(tensor_names), names_(names) {
    SLUICE_CHECK(!names.projections.empty() && names.projections.size() <= kMaxProjections);
  }

  ExpertLayout read() {
    check_promises();
    if (checkpoint_.find(record_tensor_name(names_.per_expert_prefix)) != nullptr) {
      check_names_beside_records();
      return checked(read_record_layout(checkpoint_, names_));
    }
    const Found found = classify();
    if (found.form == Form::plain_stack) {
      return checked(read_plain_stack(checkpoint_, names_, found.prefix));
    }
    ExpertLayout layout;
    layout.model_layer = names_.layer;
    layout.experts = names_.experts;
    for (const auto& projection : names_.projections) {
      ProjectionFormat format;
      format.rows = projection.rows;
      format.cols = projection.cols;
      layout.projections.push_back(found.form == Form::single
                                       ? per_expert(projection, format)
                                       : stacked(found.prefix, projection, format));
      layout.formats.push_back(format);
    }
    return checked(std::move(layout));
  }

 private:
  enum class Form : uint8_t { single, stack, plain_stack };
  struct Found {
    Form form = Form::single;
    std::string prefix;  // of single experts ""
    bool operator==(const Found&) const = default;
  };

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw Error(checkpoint_.directory().string(), ": experts of layer ", names_.layer, ": ",
                parts...);
  }

  ExpertLayout checked(ExpertLayout layout) const {
    for (const ProjectionFormat& format : layout.formats) {
      if (format.format != layout.formats[0].format || format.dtype != layout.formats[0].dtype) {
        fail("its projections differ in type (", dtype_name(layout.formats[0].dtype), " and ",
             dtype_name(format.dtype), ", or what they mean); one type per layer is supported");
      }
    }
    find_expert_biases(checkpoint_, names_, layout);
    return layout;
  }

  void check_promises() const {
    if (names_.experts == 0) fail("config.json promises no experts");
    for (const auto& projection : names_.projections) {
      if (projection.rows == 0 || projection.cols == 0) {
        fail("config.json gives ", projection.name, " the shape [", projection.rows, ", ",
             projection.cols, "]");
      }
    }
  }

  // All that experts may lie under, each once.
  std::vector<std::string> all_prefixes() const {
    std::vector<std::string> prefixes = names_.stacked_prefixes;
    prefixes.push_back(names_.per_expert_prefix);
    std::sort(prefixes.begin(), prefixes.end());
    prefixes.erase(std::unique(prefixes.begin(), prefixes.end()), prefixes.end());
    return prefixes;
  }

  // Beside records there are codebooks, signs and biases alone.
  void check_names_beside_records() const {
    const std::string records = record_tensor_name(names_.per_expert_prefix);
    for (const std::string& prefix : all_prefixes()) {
      for (std::string_view name : tensor_names_.under(prefix + ".")) {
        if (name == records || is_expert_bias(names_, prefix, name)) continue;
        const NameParts parts = split_name(name.substr(prefix.size() + 1));
        const bool of_projection =
            is_projection(parts.first, &ExpertNames::Projection::name) && parts.rest.empty();
        if (of_projection && (parts.second == "codebook" || parts.second == "signs")) continue;
        if ((of_projection &&
             (parts.second == "weight" || parts.second == "scales" || parts.second == "biases")) ||
            parse_index(parts.first) || is_block_part(parts) ||
            is_plain_stack(names_, prefix, name)) {
          fail("two layouts at once: tensor ", records, " and tensor ", name,
               "; expected either records or the model's own layout");
        }
        fail_stray(name);
      }
    }
  }

  // The layout that a tensor among the experts belongs to. Throws Error: to none that is read.
  Found classify(const std::string& prefix, std::string_view name) {
    if (is_plain_stack(names_, prefix, name)) return {Form::plain_stack, prefix};
    const NameParts parts = split_name(name.substr(prefix.size() + 1));
    if (!parts.first.empty() && parts.first[0] >= '0' && parts.first[0] <= '9') {
      check_per_expert_name(prefix, name, parts);
      return {Form::single, ""};
    }
    check_stacked_name(prefix, name, parts);
    return {Form::stack, prefix};
  }

  // Looks at every tensor that lies among the experts: each must be one that will be read. Returns
  // the layout that is in use.
  Found classify() {
    const std::vector<std::string> prefixes = all_prefixes();
    std::string_view found;  // a tensor of the layout that is in use
    std::optional<Found> used;
    for (const std::string& prefix : prefixes) {
      for (std::string_view name : tensor_names_.under(prefix + ".")) {
        if (is_expert_bias(names_, prefix, name)) continue;
        const Found layout = classify(prefix, name);
        if (used && *used != layout) {
          fail("two layouts at once: tensor ", found, " and tensor ", name,
               "; expected either one tensor per expert or one stack of all");
        }
        used = layout;
        if (found.empty()) found = name;
      }
    }
    if (!used) {
      std::string looked_for;
      for (const std::string& prefix : prefixes) {
        looked_for += (looked_for.empty() ? "" : ", ") + prefix + ".*";
      }
      fail("config.json promises ", names_.experts, " experts, and no tensor is named like one; ",
           "looked for ", looked_for);
    }
    return *used;
  }

  bool is_projection(std::string_view name, std::string ExpertNames::Projection::*kind) const {
    return std::any_of(names_.projections.begin(), names_.projections.end(),
                       [&](const auto& projection) { return projection.*kind == name; });
  }

  void check_per_expert_name(const std::string& prefix, std::string_view name,
                             const NameParts& parts) {
    const std::optional<uint32_t> expert = parse_index(parts.first);
    if (prefix != names_.per_expert_prefix || !expert ||
        !is_projection(parts.second, &ExpertNames::Projection::per_expert_name)) {
      fail_stray(name);
    }
    if (*expert >= names_.experts) {
      fail("tensor ", name, " is beyond the ", names_.experts,
           " experts that config.json promises");
    }
    if (parts.rest == "weight") return;
    const std::string matrix(name.substr(0, name.size() - parts.rest.size() - 1));
    if (checkpoint_.find(matrix + ".codebook") != nullptr || parts.rest == "signs") {
      fail_unsupported(name, "TurboQuant with one tensor per expert");
    }
    if (!is_weight_part(checkpoint_, matrix, name.substr(matrix.size()))) fail_stray(name);
    if (scales_of_single_.empty()) scales_of_single_ = name;
  }

  // Whether this is "<projection>_blocks" or "<projection>_scales".
  bool is_block_part(const NameParts& parts) const {
    const std::string_view name = parts.first;
    constexpr size_t kSuffix = std::string_view("_blocks").size();
    return (name.ends_with("_blocks") || name.ends_with("_scales")) && parts.second.empty() &&
           is_projection(name.substr(0, name.size() - kSuffix), &ExpertNames::Projection::name);
  }

  void check_stacked_name(const std::string& prefix, std::string_view name,
                          const NameParts& parts) const {
    const bool fused =
        std::any_of(names_.projections.begin(), names_.projections.end(),
                    [](const auto& projection) { return projection.name == "gate_up_proj"; });
    if (!fused && parts.first.starts_with("gate_up_proj")) {
      fail_unsupported(name, "fused gate and up");
    }
    if (is_block_part(parts)) {
      const std::string matrix =
          prefix + "." + std::string(parts.first.substr(0, parts.first.rfind('_')));
      if (!is_weight_part(checkpoint_, matrix, name.substr(matrix.size()))) {
        fail("tensor ", matrix, "_blocks is missing");
      }
      return;
    }
    if (!is_projection(parts.first, &ExpertNames::Projection::name) || !parts.rest.empty()) {
      fail_stray(name);
    }
    if (parts.second.empty()) fail_unsupported(name, "unquantized stacked experts");
    if (parts.second.starts_with("qjl_")) fail_unsupported(name, "QJL residuals");
    const std::string matrix = prefix + "." + std::string(parts.first);
    const bool turboquant = parts.second == "codebook" || parts.second == "signs";
    if (!turboquant && !is_weight_part(checkpoint_, matrix, name.substr(matrix.size()))) {
      fail_stray(name);
    }
  }

  [[noreturn]] void fail_stray(std::string_view name) const {
    fail("tensor ", name,
         " is not understood; reading the experts without it would give wrong "
         "results");
  }

  [[noreturn]] void fail_unsupported(std::string_view name, std::string_view format) const {
    fail("tensor ", name, ": this expert format (", format,
         ") is not supported yet; supported are F32, F16, BF16, F8_E4M3 with scales for blocks, "
         "MXFP4, "
         "MLX affine quantization, and stacked TurboQuant");
  }

  const TensorInfo& tensor(const std::string& name) const {
    const TensorInfo* info = checkpoint_.find(name);
    if (info == nullptr) fail("tensor ", name, " is missing");
    return *info;
  }

  void expect_dtype(const TensorInfo& info, DType dtype) const {
    if (info.dtype == dtype) return;
    fail("tensor ", info.name, " is ", dtype_name(info.dtype), ", expected ", dtype_name(dtype));
  }

  void expect_shape(const TensorInfo& info, const std::vector<uint64_t>& shape) const {
    if (info.shape == shape) return;
    fail("tensor ", info.name, " has shape ", shape_text(info.shape), ", expected ",
         shape_text(shape));
  }

  std::string where() const {
    return checkpoint_.directory().string() + ": experts of layer " + std::to_string(names_.layer);
  }

  // One matrix's tensors, whatever its format is, and what they say of it.
  struct Single {
    const TensorInfo* data = nullptr;
    const TensorInfo* scales = nullptr;
    const TensorInfo* biases = nullptr;
    ScaledForm form;
  };
  Single single(const std::string& prefix, const ExpertNames::Projection& projection) const {
    if (!scales_of_single_.empty()) {
      if (const std::optional<ScaledMatrix> found = find_scaled_matrix(
              checkpoint_, prefix, std::nullopt, projection.rows, projection.cols, where())) {
        return {found->data, found->scales, found->biases, found->form};
      }
    }
    const TensorInfo& info = tensor(prefix + ".weight");
    if (info.dtype == DType::f8_e4m3 || info.dtype == DType::f8_e5m2) {
      fail_unsupported(info.name, "FP8 without scales for blocks");
    }
    if (!is_plain(info.dtype)) fail_unsupported(info.name, dtype_name(info.dtype));
    expect_shape(info, {projection.rows, projection.cols});
    return {&info, nullptr, nullptr, {}};
  }

  static void add(ExpertLayout::Slices& slices, const TensorInfo* info) {
    if (info == nullptr) return;
    slices.size_bytes = info->size_bytes;
    slices.places.push_back({info->file, info->offset, info->size_bytes});
  }

  // Fills what only the tensors know of format; so does stacked().
  ExpertLayout::Projection per_expert(const ExpertNames::Projection& projection,
                                      ProjectionFormat& format) const {
    ExpertLayout::Projection result;
    for (uint32_t expert = 0; expert < names_.experts; ++expert) {
      const Single found = single(names_.per_expert_prefix + "." + std::to_string(expert) + "." +
                                      projection.per_expert_name,
                                  projection);
      if (expert == 0) {
        format.format = found.form.format;
        format.dtype = found.data->dtype;
        format.scaled = found.form;
      }
      expect_dtype(*found.data, format.dtype);
      if (found.form != format.scaled) {
        fail("tensor ", found.data->name, " is stored in another way than that of expert 0");
      }
      add(result.data, found.data);
      add(result.scales, found.scales);
      add(result.biases, found.biases);
    }
    if (format.format == WeightFormat::plain && !scales_of_single_.empty()) {
      // Whichever projection it belongs to: all of a layer are of one type.
      fail_stray(scales_of_single_);
    }
    return result;
  }

  ExpertLayout::Projection stacked(const std::string& stacked_prefix,
                                   const ExpertNames::Projection& projection,
                                   ProjectionFormat& format) const {
    const std::string prefix = stacked_prefix + "." + projection.name;
    if (const std::optional<ScaledMatrix> found = find_scaled_matrix(
            checkpoint_, prefix, names_.experts, projection.rows, projection.cols, where())) {
      format.format = found->form.format;
      format.dtype = found->data->dtype;
      format.scaled = found->form;
      return {.data = stacked_slices(*found->data),
              .scales = stacked_slices(*found->scales),
              .biases = found->biases == nullptr ? ExpertLayout::Slices{}
                                                 : stacked_slices(*found->biases)};
    }
    const TensorInfo& weight = tensor(prefix + ".weight");
    if (is_plain(weight.dtype) && checkpoint_.find(prefix + ".codebook") == nullptr) {
      expect_shape(weight, {names_.experts, projection.rows, projection.cols});
      format.dtype = weight.dtype;
      return {.data = stacked_slices(weight), .scales = {}, .biases = {}};
    }
    return stacked_turboquant(prefix, weight, projection, format);
  }

  ExpertLayout::Projection stacked_turboquant(const std::string& prefix, const TensorInfo& weight,
                                              const ExpertNames::Projection& projection,
                                              ProjectionFormat& format) const {
    format.format = WeightFormat::turboquant;
    ExpertLayout::Projection result;
    format.dtype = DType::u32;
    format.prefix = prefix;
    expect_dtype(weight, DType::u32);
    format.codebook_length = codebook_length(prefix, projection.cols);
    format.row_words =
        static_cast<uint32_t>(words_per_row(projection.cols, format.codebook_length));
    expect_shape(weight, {names_.experts, projection.rows, format.row_words});
    result.data = stacked_slices(weight);

    const TensorInfo& scales = tensor(prefix + ".scales");
    expect_dtype(scales, DType::f16);
    format.group = group(scales, projection);
    expect_shape(scales, {names_.experts, projection.rows, projection.cols / format.group});
    result.scales = stacked_slices(scales);
    return result;
  }

  uint32_t codebook_length(const std::string& prefix, uint32_t cols) const {
    const TensorInfo& signs = tensor(prefix + ".signs");
    expect_dtype(signs, DType::f16);
    expect_shape(signs, {cols});
    const TensorInfo& codebook = tensor(prefix + ".codebook");
    expect_dtype(codebook, DType::f16);
    const uint64_t length = codebook.shape.size() == 1 ? codebook.shape[0] : 0;
    if (!is_codebook_length(length)) {
      fail("tensor ", codebook.name, " has shape ", shape_text(codebook.shape),
           ", expected [3], [4], [8], [16] or [256]");
    }
    return static_cast<uint32_t>(length);
  }

  uint32_t group(const TensorInfo& scales, const ExpertNames::Projection& projection) const {
    for (const uint32_t size : {32u, 64u, 128u}) {
      if (projection.cols % size == 0 && scales.shape.size() == 3 &&
          scales.shape[2] == projection.cols / size) {
        return size;
      }
    }
    fail("tensor ", scales.name, " has shape ", shape_text(scales.shape), ", expected [",
         names_.experts, ", ", projection.rows, ", ", projection.cols,
         " / group] with a group of 32, 64 or 128");
  }

  ExpertLayout::Slices stacked_slices(const TensorInfo& info) const {
    const uint64_t size_bytes = info.size_bytes / names_.experts;  // exact: the shape was checked
    return {size_bytes, size_bytes, {{info.file, info.offset, size_bytes}}};
  }

  const Checkpoint& checkpoint_;
  const TensorNames& tensor_names_;
  const ExpertNames& names_;
  // Of experts with tensors of their own, the first that is no ".weight", once classify() was
  // there.
  std::string_view scales_of_single_;
};

}  // namespace

FileSlice ExpertLayout::Slices::of(uint32_t expert) const {
  if (places.size() > 1) return places[expert];
  return {places[0].file, places[0].offset + expert * stride_bytes, size_bytes};
}

TensorNames::TensorNames(const Checkpoint& checkpoint) {
  names_.reserve(checkpoint.tensors().size());
  for (const TensorInfo& info : checkpoint.tensors()) names_.push_back(info.name);
  std::sort(names_.begin(), names_.end());
}

std::vector<std::string_view> TensorNames::under(std::string_view prefix) const {
  std::vector<std::string_view> found;
  for (auto name = std::lower_bound(names_.begin(), names_.end(), prefix);
       name != names_.end() && name->starts_with(prefix); ++name) {
    found.push_back(*name);
  }
  return found;
}

ExpertLayout find_experts(const Checkpoint& checkpoint, const TensorNames& tensor_names,
                          const ExpertNames& names) {
  return LayerReader(checkpoint, tensor_names, names).read();
}

}  // namespace sluice
