#include "stream/record_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "io/check.h"
#include "io/checksum.h"
#include "io/error.h"
#include "io/json_text.h"

namespace sluice {
namespace {

constexpr std::string_view kTurboQuant = "turboquant";
constexpr std::string_view kMxfp4 = "mxfp4";
constexpr std::string_view kF8 = "F8_E4M3";
constexpr std::string_view kAffine = "affine";
constexpr std::array kPlain = {DType::f32, DType::f16, DType::bf16};

constexpr uint64_t kTileRows = 16;  // a last tile of fewer is padded

uint64_t round_up(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

struct PartSizes {
  uint64_t data = 0;
  uint64_t scales = 0;
  uint64_t biases = 0;
};

// What the shapes imply. Requires: checked shapes.
PartSizes part_sizes(const RecordProjection& projection) {
  const uint64_t rows = projection.rows;
  const uint64_t cols = projection.cols;
  if (projection.format == WeightFormat::plain)
    return {rows * cols * dtype_bytes(projection.dtype)};
  if (projection.format != WeightFormat::turboquant) {
    const bool tiles = projection.layout == MatrixLayout::tiles;
    const auto stored_rows = static_cast<uint32_t>(tiles ? round_up(rows, kTileRows) : rows);
    const ScaledSizes sizes = scaled_sizes(projection.scaled, stored_rows, projection.cols);
    const bool affine = projection.format == WeightFormat::affine;
    return {sizes.data, sizes.scales, affine ? sizes.scales : 0};
  }
  if (projection.layout == MatrixLayout::tiles) {
    const uint64_t tiled_rows = round_up(rows, kTileRows);
    return {tiled_rows * cols / 8 * std::bit_width(projection.codebook_length - 1),
            tiled_rows * (cols / projection.group) * dtype_bytes(DType::f16)};
  }
  return {rows * words_per_row(cols, projection.codebook_length) * dtype_bytes(DType::u32),
          rows * (cols / projection.group) * dtype_bytes(DType::f16)};
}

uint64_t bias_bytes(const RecordProjection& projection) {
  return uint64_t{projection.rows} * dtype_bytes(projection.bias_dtype);
}

// Reads one projection of a table. The members are what every message needs.
class ProjectionReader {
 public:
  ProjectionReader(const nlohmann::json& value, const std::string& where)
      : value_(value), where_(where) {
    if (!value.is_object()) fail("expected an object for each projection");
  }

  RecordProjection read() const {
    RecordProjection projection;
    projection.name = text("name");
    projection.rows = count("rows", 1, kMaxRecordSide);
    projection.cols = count("cols", 1, kMaxRecordSide);
    const std::string format = text("format");
    if (format == kTurboQuant) {
      read_turboquant(projection);
    } else if (format == kMxfp4) {
      read_mxfp4(projection);
    } else if (format == kF8) {
      read_f8(projection);
    } else if (format == kAffine) {
      read_affine(projection);
    } else {
      projection.dtype = plain("format");
      expect_keys({"name", "rows", "cols", "format", "data", "bias", "bias_format"});
    }
    const PartSizes sizes = part_sizes(projection);
    projection.data = part("data", sizes.data);
    if (sizes.scales > 0) projection.scales = part("scales", sizes.scales);
    if (sizes.biases > 0) projection.biases = part("biases", sizes.biases);
    if (value_.contains("bias") || value_.contains("bias_format")) {
      projection.bias_dtype = plain("bias_format");
      projection.bias = part("bias", bias_bytes(projection));
    }
    return projection;
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw Error(where_, ": the table of its records: ", parts...,
                "; the file is damaged, or was written by another version");
  }

  MatrixLayout layout() const {
    const std::string layout = text("layout");
    if (layout == layout_name(MatrixLayout::tiles)) return MatrixLayout::tiles;
    if (layout != layout_name(MatrixLayout::rows)) {
      fail("the layout \"", excerpt(layout), "\" is not known; expected \"rows\" or \"tiles\"");
    }
    return MatrixLayout::rows;
  }

  uint32_t group(uint32_t cols) const {
    const uint32_t group = count("group", 32, 128);
    if (!std::has_single_bit(group) || cols % group != 0) {
      fail("a group of ", group, " for ", cols,
           " columns; expected 32, 64 or 128, and a divisor of the columns");
    }
    return group;
  }

  void read_mxfp4(RecordProjection& projection) const {
    projection.format = WeightFormat::mxfp4;
    projection.dtype = DType::u8;
    projection.layout = layout();
    projection.scaled = {.format = WeightFormat::mxfp4, .group = 32};
    if (projection.cols % 32 != 0) {
      fail("MXFP4 of ", projection.cols, " columns; expected a multiple of 32");
    }
    expect_keys(
        {"name", "rows", "cols", "format", "layout", "data", "scales", "bias", "bias_format"});
  }

  void read_f8(RecordProjection& projection) const {
    projection.format = WeightFormat::f8_blocks;
    projection.dtype = DType::f8_e4m3;
    const nlohmann::json& block = at("block");
    const auto is_side = [](const nlohmann::json& side) {
      return side.is_number_unsigned() && side.get<uint64_t>() >= 1 &&
             side.get<uint64_t>() <= kMaxRecordSide;
    };
    if (!block.is_array() || block.size() != 2 || !is_side(block[0]) || !is_side(block[1]) ||
        block[1].get<uint64_t>() % 16 != 0) {
      fail("\"block\" is not [rows, columns], the columns a multiple of 16");
    }
    projection.scaled = {.format = WeightFormat::f8_blocks,
                         .group = block[1].get<uint32_t>(),
                         .block_rows = block[0].get<uint32_t>(),
                         .scale_dtype = plain("scale_format")};
    expect_keys({"name", "rows", "cols", "format", "block", "scale_format", "data", "scales",
                 "bias", "bias_format"});
  }

  void read_affine(RecordProjection& projection) const {
    projection.format = WeightFormat::affine;
    projection.dtype = DType::u32;
    projection.scaled = {.format = WeightFormat::affine,
                         .group = group(projection.cols),
                         .bits = count("bits", 2, 8),
                         .scale_dtype = plain("scale_format")};
    if (projection.scaled.bits == 7) fail("\"bits\" is 7; expected 2, 3, 4, 5, 6 or 8");
    expect_keys({"name", "rows", "cols", "format", "bits", "group", "scale_format", "data",
                 "scales", "biases", "bias", "bias_format"});
  }

  void read_turboquant(RecordProjection& projection) const {
    projection.format = WeightFormat::turboquant;
    projection.dtype = DType::u32;
    projection.layout = layout();
    projection.group = group(projection.cols);
    projection.codebook_length = count("codebook", 0, ~0u);
    if (!is_codebook_length(projection.codebook_length)) {
      fail("a codebook of ", projection.codebook_length, " entries; expected 3, 4, 8, 16 or 256");
    }
    if (projection.codebook_length == 3 && projection.layout == MatrixLayout::tiles) {
      fail("a ternary matrix in tiles; expected rows");
    }
    expect_keys({"name", "rows", "cols", "format", "layout", "group", "codebook", "data", "scales",
                 "bias", "bias_format"});
  }

  const nlohmann::json& at(const char* key) const {
    const auto found = value_.find(key);
    if (found == value_.end()) fail("a projection has no \"", key, "\"");
    return *found;
  }

  std::string text(const char* key) const {
    const nlohmann::json& value = at(key);
    if (!value.is_string()) fail("\"", key, "\" is not a string");
    return value.get<std::string>();
  }

  uint32_t count(const char* key, uint32_t least, uint32_t most) const {
    const nlohmann::json& value = at(key);
    if (!value.is_number_unsigned() || value.get<uint64_t>() < least ||
        value.get<uint64_t>() > most) {
      fail("\"", key, "\" is not a number from ", least, " to ", most);
    }
    return value.get<uint32_t>();
  }

  DType plain(const char* key) const {
    const std::string format = text(key);
    for (const DType dtype : kPlain) {
      if (format == dtype_name(dtype)) return dtype;
    }
    fail("\"", key, "\" is \"", excerpt(format), "\"; expected \"F32\", \"F16\" or \"BF16\"",
         std::string_view(key) == "format"
             ? ", or \"turboquant\", \"mxfp4\", \"F8_E4M3\" or \"affine\""
             : "");
  }

  RecordPart part(const char* key, uint64_t size_bytes) const {
    const nlohmann::json& value = at(key);
    if (!value.is_array() || value.size() != 2 || !value[0].is_number_unsigned() ||
        !value[1].is_number_unsigned()) {
      fail("\"", key, "\" is not [offset, size]");
    }
    const RecordPart part{value[0].get<uint64_t>(), value[1].get<uint64_t>()};
    if (part.size_bytes != size_bytes) {
      fail("\"", key, "\" of a projection has ", part.size_bytes,
           " bytes, but its shape and format make ", size_bytes);
    }
    return part;
  }

  void expect_keys(std::initializer_list<std::string_view> known) const {
    for (const auto& [key, value] : value_.items()) {
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        fail("the key \"", excerpt(key), "\" is not known here");
      }
    }
  }

  const nlohmann::json& value_;
  const std::string& where_;
};

void write_format(const RecordProjection& projection, nlohmann::ordered_json& value) {
  const ScaledForm& form = projection.scaled;
  switch (projection.format) {
    case WeightFormat::plain:
      value["format"] = dtype_name(projection.dtype);
      return;
    case WeightFormat::turboquant:
      value["format"] = kTurboQuant;
      value["layout"] = layout_name(projection.layout);
      value["group"] = projection.group;
      value["codebook"] = projection.codebook_length;
      return;
    case WeightFormat::mxfp4:
      value["format"] = kMxfp4;
      value["layout"] = layout_name(projection.layout);
      return;
    case WeightFormat::f8_blocks:
      value["format"] = kF8;
      value["block"] = nlohmann::ordered_json::array({form.block_rows, form.group});
      value["scale_format"] = dtype_name(form.scale_dtype);
      return;
    case WeightFormat::affine:
      value["format"] = kAffine;
      value["bits"] = form.bits;
      value["group"] = form.group;
      value["scale_format"] = dtype_name(form.scale_dtype);
      return;
  }
}

// Aligned, one behind the other, within the record, and room for the tail.
void check_places(const RecordTable& table, const std::string& where) {
  uint64_t end = 0;
  const auto check = [&](const RecordPart& part) {
    if (part.size_bytes == 0) return;
    if (part.offset % kPartAlignment != 0) {
      throw Error(where, ": a part of its records lies at ", part.offset,
                  ", expected a multiple of ", kPartAlignment, "; the file is damaged");
    }
    if (part.offset < end) {
      throw Error(where, ": a part of its records lies at ", part.offset,
                  ", within the one before it, which ends at ", end, "; the file is damaged");
    }
    if (part.offset > table.record_bytes || part.size_bytes > table.record_bytes - part.offset) {
      throw Error(where, ": a part of its records of ", part.size_bytes, " bytes at ", part.offset,
                  " ends past the record's ", table.record_bytes, "; the file is damaged");
    }
    end = part.offset + part.size_bytes;
  };
  for (const RecordProjection& projection : table.projections) {
    check(projection.data);
    check(projection.scales);
    check(projection.biases);
    check(projection.bias);
  }
  if (table.record_bytes - end < kRecordTailBytes) {
    throw Error(where, ": its records end at ", end, " of ", table.record_bytes,
                " bytes, expected ", kRecordTailBytes, " to spare; the file is damaged");
  }
}

}  // namespace

bool is_codebook_length(uint64_t length) {
  return length == 3 || length == 4 || length == 8 || length == 16 || length == 256;
}

std::string_view layout_name(MatrixLayout layout) {
  switch (layout) {
    case MatrixLayout::tiles:
      return "tiles";
    case MatrixLayout::columns:
      return "columns";
    case MatrixLayout::rows:
      break;
  }
  return "rows";
}

uint64_t words_per_row(uint64_t cols, uint32_t codebook_length) {
  uint64_t per_word = 0;
  switch (codebook_length) {
    case 3:
      per_word = 20;
      break;  // base-3 digits: 3^20 < 2^32
    case 4:
      per_word = 16;
      break;
    case 8:
      per_word = 10;
      break;
    case 16:
      per_word = 8;
      break;
    case 256:
      per_word = 4;
      break;
    default:
      SLUICE_CHECK(false);
  }
  return (cols + per_word - 1) / per_word;
}

RecordTable lay_out_record(std::vector<RecordProjection> projections, bool with_bias) {
  RecordTable table;
  uint64_t end = 0;
  const auto place = [&](uint64_t size_bytes) -> RecordPart {
    if (size_bytes == 0) return {};
    const RecordPart part{round_up(end, kPartAlignment), size_bytes};
    end = part.offset + size_bytes;
    return part;
  };
  for (RecordProjection& projection : projections) {
    const PartSizes sizes = part_sizes(projection);
    projection.data = place(sizes.data);
    projection.scales = place(sizes.scales);
    projection.biases = place(sizes.biases);
    if (with_bias) projection.bias = place(bias_bytes(projection));
  }
  table.projections = std::move(projections);
  table.record_bytes = round_up(end + kRecordTailBytes, kRecordAlignment);
  return table;
}

std::string record_table_text(const RecordTable& table) {
  nlohmann::ordered_json projections = nlohmann::ordered_json::array();
  const auto part_json = [](const RecordPart& part) {
    return nlohmann::ordered_json::array({part.offset, part.size_bytes});
  };
  for (const RecordProjection& projection : table.projections) {
    nlohmann::ordered_json value;
    value["name"] = projection.name;
    value["rows"] = projection.rows;
    value["cols"] = projection.cols;
    write_format(projection, value);
    value["data"] = part_json(projection.data);
    if (projection.scales.size_bytes > 0) value["scales"] = part_json(projection.scales);
    if (projection.biases.size_bytes > 0) value["biases"] = part_json(projection.biases);
    if (projection.bias.size_bytes > 0) {
      value["bias_format"] = dtype_name(projection.bias_dtype);
      value["bias"] = part_json(projection.bias);
    }
    projections.push_back(std::move(value));
  }
  nlohmann::ordered_json text;
  text["version"] = kRecordVersion;
  text["projections"] = std::move(projections);
  return json_text(text);
}

RecordTable parse_record_table(std::string_view text, uint64_t record_bytes,
                               const std::string& where) {
  const auto fail = [&](const auto&... parts) {
    throw Error(where, ": the table of its records ", parts...,
                "; the file is damaged, or not one of Sluice's");
  };
  if (record_bytes == 0 || record_bytes % kRecordAlignment != 0) {
    throw Error(where, ": its records have ", record_bytes, " bytes, expected a multiple of ",
                kRecordAlignment);
  }
  if (text.size() > kMaxRecordTableText) fail("has ", text.size(), " bytes, expected under 65536");
  const nlohmann::json json = json_from(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || text.find('\0') != text.npos) fail("is not valid JSON");
  if (!json.is_object() || !json.contains("version") || !json["version"].is_number_unsigned()) {
    fail("has no version");
  }
  if (json["version"].get<uint64_t>() != kRecordVersion) {
    throw Error(where, ": its records are of version ", json["version"].get<uint64_t>(),
                ", and this program knows version ", kRecordVersion,
                "; use a newer program, or repack the model");
  }
  if (json.size() != 2 || !json.contains("projections") || !json["projections"].is_array()) {
    fail("is not {\"version\", \"projections\": [...]}");
  }
  const nlohmann::json& projections = json["projections"];
  if (projections.empty() || projections.size() > kMaxRecordProjections) {
    fail("has ", projections.size(), " projections, expected 1 to ", kMaxRecordProjections);
  }
  RecordTable table;
  table.record_bytes = record_bytes;
  for (const nlohmann::json& value : projections) {
    table.projections.push_back(ProjectionReader(value, where).read());
  }
  check_places(table, where);
  return table;
}

std::string record_checksums_text(const std::vector<uint64_t>& checksums) {
  std::string text;
  text.reserve(checksums.size() * kChecksumDigits);
  for (const uint64_t value : checksums) text += checksum_text(value);
  return text;
}

std::vector<uint64_t> parse_record_checksums(std::string_view text, uint64_t experts,
                                             const std::string& where) {
  std::vector<uint64_t> checksums;
  if (text.size() % kChecksumDigits == 0 && text.size() / kChecksumDigits == experts) {
    for (size_t at = 0; at < text.size(); at += kChecksumDigits) {
      const std::optional<uint64_t> value = parse_checksum(text.substr(at, kChecksumDigits));
      if (!value) break;
      checksums.push_back(*value);
    }
  }
  if (checksums.size() != experts) {
    throw Error(where, ": the checksums of its records are not ", kChecksumDigits,
                " hexadecimal digits for each of ", experts, " experts; the file is damaged");
  }
  return checksums;
}

std::string record_table_key(const std::string& tensor) { return "sluice.records.table:" + tensor; }

std::string record_checksums_key(const std::string& tensor) {
  return "sluice.records.checksums:" + tensor;
}

std::string record_tensor_name(const std::string& expert_prefix) {
  return expert_prefix + ".records";
}

}  // namespace sluice
