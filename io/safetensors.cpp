#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/check.h"
#include "io/error.h"
#include "io/json_text.h"
#include "io/posix_file.h"

namespace sluice {
namespace {

struct DTypeFacts {
  DType dtype;
  std::string_view name;
  uint32_t bytes;
};

constexpr std::array<DTypeFacts, 16> kDTypes{{{DType::f64, "F64", 8},
                                              {DType::f32, "F32", 4},
                                              {DType::f16, "F16", 2},
                                              {DType::bf16, "BF16", 2},
                                              {DType::f8_e4m3, "F8_E4M3", 1},
                                              {DType::f8_e5m2, "F8_E5M2", 1},
                                              {DType::f8_e8m0, "F8_E8M0", 1},
                                              {DType::i64, "I64", 8},
                                              {DType::i32, "I32", 4},
                                              {DType::i16, "I16", 2},
                                              {DType::i8, "I8", 1},
                                              {DType::u64, "U64", 8},
                                              {DType::u32, "U32", 4},
                                              {DType::u16, "U16", 2},
                                              {DType::u8, "U8", 1},
                                              {DType::boolean, "BOOL", 1}}};

const DTypeFacts& facts(DType dtype) {
  const DTypeFacts& entry = kDTypes[static_cast<size_t>(dtype)];
  SLUICE_CHECK(entry.dtype == dtype);  // the table is in the order of the enumeration
  return entry;
}

// Receives the events of the JSON parser (which keeps its own stack and does not recurse) and
// builds tensors out of them. No tree of the JSON is ever made: memory stays within a small
// multiple of the header's own size. At any time it is in one place of the only form that is
// allowed:
//
//   { "__metadata__": { key: string, ... },
//     name: { "dtype": string, "shape": [unsigned, ...], "data_offsets": [unsigned, unsigned] },
//     ... }
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderHandler(SafetensorsHeader& header, uint64_t data_begin, const std::string& path)
      : header_(header), data_begin_(data_begin), path_(path) {}

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::before:
        place_ = Place::header;
        return true;
      case Place::entry_value:
        if (in_metadata_) {
          place_ = Place::metadata;
        } else {
          place_ = Place::tensor;
          begin_tensor();
        }
        return true;
      default:
        unexpected("an object");
    }
  }

  bool key(string_t& name) override {
    switch (place_) {
      case Place::header:
        in_metadata_ = name == "__metadata__";
        if (in_metadata_ && std::exchange(has_metadata_, true)) {
          throw Error(path_, ": header: \"__metadata__\" appears twice");
        }
        name_ = std::move(name);
        place_ = Place::entry_value;
        return true;
      case Place::metadata:
        if (header_.metadata.contains(name)) {
          throw Error(path_, ": __metadata__ has the key \"", excerpt(name), "\" twice");
        }
        name_ = std::move(name);
        place_ = Place::metadata_value;
        return true;
      default:
        SLUICE_CHECK(place_ == Place::tensor);
        open_field(name);
        return true;
    }
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata_value) {
      header_.metadata.emplace(std::move(name_), std::move(value));
      place_ = Place::metadata;
      return true;
    }
    if (place_ != Place::dtype) unexpected("a string");
    const auto* found = std::find_if(kDTypes.begin(), kDTypes.end(),
                                     [&](const DTypeFacts& entry) { return entry.name == value; });
    if (found == kDTypes.end()) {
      fail("has the unknown dtype \"", excerpt(value), "\"; known are ", known_dtypes());
    }
    header_.tensors.back().dtype = found->dtype;
    place_ = Place::tensor;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::shape) {
      place_ = Place::shape_items;
    } else if (place_ == Place::offsets) {
      place_ = Place::offset_items;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape_items) {
      std::vector<uint64_t>& shape = header_.tensors.back().shape;
      if (shape.size() == kMaxTensorRank) {
        fail("has more than ", kMaxTensorRank, " dimensions, the most that is read");
      }
      shape.push_back(value);
    } else if (place_ == Place::offset_items) {
      if (offsets_seen_ == offsets_.size()) fail("has more than two data_offsets");
      offsets_[offsets_seen_++] = value;
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offset_items && offsets_seen_ != offsets_.size()) {
      fail("has ", offsets_seen_, " data_offsets, expected two");
    }
    place_ = Place::tensor;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) {
      end_tensor();
      place_ = Place::header;
    } else if (place_ == Place::metadata) {
      place_ = Place::header;
    } else {
      SLUICE_CHECK(place_ == Place::header);
      place_ = Place::after;
    }
    return true;
  }

  // Offsets and dimensions are whole numbers from 0 to 2^64-1, exactly. What is written with a
  // sign, a fraction or an exponent, or does not fit, arrives as one of these.
  bool number_integer(number_integer_t) override { unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    unexpected("a number that is not an unsigned 64-bit integer");
  }
  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw Error(path_, ": header is not valid JSON at its byte ", position, ": ",
                excerpt(error.what()), "; the file is damaged or not safetensors");
  }

 private:
  enum class Place : uint8_t {
    before,          // nothing read yet
    header,          // in the outer object, between entries
    entry_value,     // after an entry's name
    metadata,        // in __metadata__, between entries
    metadata_value,  // after a key of it
    tensor,          // in a tensor's object, between fields
    dtype,           // after "dtype"
    shape,           // after "shape"
    shape_items,     // in its array
    offsets,         // after "data_offsets"
    offset_items,    // in its array
    after,           // the outer object is closed
  };
  // Bits of fields_: which fields of the tensor were seen.
  static constexpr unsigned kDTypeField = 1;
  static constexpr unsigned kShapeField = 2;
  static constexpr unsigned kOffsetsField = 4;
  static constexpr unsigned kAllFields = kDTypeField | kShapeField | kOffsetsField;

  void begin_tensor() {
    fields_ = 0;
    offsets_seen_ = 0;
    header_.tensors.emplace_back().name = std::move(name_);
  }

  void open_field(const std::string& name) {
    unsigned field = 0;
    if (name == "dtype") {
      field = kDTypeField;
      place_ = Place::dtype;
    } else if (name == "shape") {
      field = kShapeField;
      place_ = Place::shape;
    } else if (name == "data_offsets") {
      field = kOffsetsField;
      place_ = Place::offsets;
    } else {
      fail("has the unknown field \"", excerpt(name), "\"; expected dtype, shape, data_offsets");
    }
    if ((fields_ & field) != 0) fail("has the field \"", name, "\" twice");
    fields_ |= field;
  }

  // All fields are there: do they agree with each other? (With the other tensors and the file:
  // later.)
  void end_tensor() {
    if (fields_ != kAllFields) fail("lacks one of the fields dtype, shape, data_offsets");
    TensorInfo& tensor = header_.tensors.back();
    const auto [begin, end] = offsets_;
    if (begin > end) fail("has data_offsets that end at ", end, " before they begin at ", begin);
    uint64_t size_bytes = dtype_bytes(tensor.dtype);
    for (const uint64_t dimension : tensor.shape) {
      if (__builtin_mul_overflow(size_bytes, dimension, &size_bytes)) {
        fail("has the shape ", shape_text(tensor.shape), ", whose size passes 2^64 bytes");
      }
    }
    if (size_bytes != end - begin) {
      fail("of dtype ", dtype_name(tensor.dtype), " and shape ", shape_text(tensor.shape),
           " needs ", size_bytes, " bytes, but its data_offsets span ", end - begin);
    }
    if (__builtin_add_overflow(begin, data_begin_, &tensor.offset)) {
      fail("begins at data offset ", begin, ", past any file's end");
    }
    tensor.size_bytes = size_bytes;
  }

  static std::string known_dtypes() {
    std::string names;
    for (const DTypeFacts& entry : kDTypes) {
      names += names.empty() ? "" : " ";
      names += entry.name;
    }
    return names;
  }

  // Something is wrong with the tensor being read.
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw Error(path_, ": tensor \"", excerpt(header_.tensors.back().name), "\" ", parts...);
  }

  // A value of a kind that the format does not have in this place.
  [[noreturn]] void unexpected(std::string_view what) const {
    switch (place_) {
      case Place::before:
        throw Error(path_, ": header is ", what, ", expected a JSON object");
      case Place::entry_value:
        throw Error(path_, ": header: \"", excerpt(name_), "\" is ", what, ", expected an object");
      case Place::metadata_value:
        throw Error(path_, ": __metadata__: \"", excerpt(name_), "\" is ", what,
                    ", expected a string");
      case Place::dtype:
        fail("has ", what, " as dtype, expected a string");
      case Place::shape:
        fail("has ", what, " as shape, expected an array");
      case Place::offsets:
        fail("has ", what, " as data_offsets, expected an array");
      case Place::shape_items:
        fail("has ", what, " in its shape, expected unsigned integers");
      case Place::offset_items:
        fail("has ", what, " in its data_offsets, expected unsigned integers");
      case Place::header:
      case Place::metadata:
      case Place::tensor:
      case Place::after:
        break;  // The parser reports a key or an end there, never a value.
    }
    SLUICE_CHECK(false);
    std::abort();
  }

  SafetensorsHeader& header_;
  const uint64_t data_begin_;
  const std::string& path_;
  Place place_ = Place::before;
  bool in_metadata_ = false;
  bool has_metadata_ = false;
  std::string name_;  // of the entry, or the metadata's key, whose value comes next
  unsigned fields_ = 0;
  std::array<uint64_t, 2> offsets_{};
  size_t offsets_seen_ = 0;
};

void check_names_unique(const std::vector<TensorInfo>& tensors, const std::string& path) {
  std::vector<const std::string*> names;
  names.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) names.push_back(&tensor.name);
  std::sort(names.begin(), names.end(), [](const auto* a, const auto* b) { return *a < *b; });
  const auto twice = std::adjacent_find(names.begin(), names.end(),
                                        [](const auto* a, const auto* b) { return *a == *b; });
  if (twice != names.end()) throw Error(path, ": two tensors are named \"", excerpt(**twice), "\"");
}

// Requires: tensors sorted by offset.
void check_tiling(const std::vector<TensorInfo>& tensors, uint64_t data_begin, uint64_t file_bytes,
                  const std::string& path) {
  uint64_t cursor = data_begin;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.offset != cursor) {
      throw Error(path, ": tensor \"", excerpt(tensor.name), "\" begins at byte ", tensor.offset,
                  tensor.offset < cursor ? ", inside the one before it" : ", after a hole",
                  "; expected byte ", cursor);
    }
    if (tensor.size_bytes > file_bytes - cursor) {
      throw Error(path, ": tensor \"", excerpt(tensor.name), "\" takes ", tensor.size_bytes,
                  " bytes from byte ", cursor, ", past the end of the file's ", file_bytes,
                  " bytes; the file was cut or is not downloaded completely");
    }
    cursor += tensor.size_bytes;
  }
  if (cursor != file_bytes) {
    throw Error(path, ": the last tensor ends at byte ", cursor, ", but the file has ", file_bytes,
                " bytes; expected no bytes behind it");
  }
}

}  // namespace

std::string_view dtype_name(DType dtype) { return facts(dtype).name; }

uint32_t dtype_bytes(DType dtype) { return facts(dtype).bytes; }

std::string shape_text(std::span<const uint64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t file_bytes,
                                           const std::string& path) {
  const uint64_t data_begin = 8 + uint64_t{json.size()};
  if (json.size() > kMaxHeaderBytes || data_begin > file_bytes) {
    throw Error(path, ": a header of ", json.size(), " bytes; the file has ", file_bytes,
                " and the format allows ", kMaxHeaderBytes);
  }
  // The parser would skip a byte order mark and take a NUL for the end of its input.
  if (!json.starts_with('{')) throw Error(path, ": header does not begin with {; not safetensors?");
  if (const size_t nul = json.find('\0'); nul != std::string_view::npos) {
    throw Error(path, ": header has a NUL byte at its byte ", nul, "; it is padded with spaces");
  }

  SafetensorsHeader header;
  header.file_bytes = file_bytes;
  HeaderHandler handler(header, data_begin, path);
  const bool whole = sax_parse_json(json, handler);
  SLUICE_CHECK(whole);  // the handler throws, it never stops the parser
  check_names_unique(header.tensors, path);
  // Tensors of no bytes sort before the one that begins where they lie.
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const TensorInfo& a, const TensorInfo& b) {
                     return std::pair(a.offset, a.size_bytes) < std::pair(b.offset, b.size_bytes);
                   });
  check_tiling(header.tensors, data_begin, file_bytes, path);
  return header;
}

SafetensorsHeader read_safetensors_header(const std::string& path) {
  const RegularFile file = open_regular_file(path);
  std::array<unsigned char, 8> prefix{};
  if (file.size_bytes < prefix.size()) {
    throw Error(path, ": has ", file.size_bytes, " bytes; a safetensors file has at least 8");
  }
  read_exactly(file.fd, std::as_writable_bytes(std::span(prefix)), 0, path);
  uint64_t header_bytes = 0;
  for (size_t i = prefix.size(); i-- > 0;) header_bytes = header_bytes << 8 | prefix[i];
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size_bytes - prefix.size()) {
    throw Error(path, ": its first 8 bytes announce a header of ", header_bytes,
                " bytes; the file has ", file.size_bytes, " and the format allows ",
                kMaxHeaderBytes, "; it was cut or is not safetensors");
  }
  std::string json(static_cast<size_t>(header_bytes), '\0');
  read_exactly(file.fd, std::as_writable_bytes(std::span(json)), prefix.size(), path);
  return parse_safetensors_header(json, file.size_bytes, path);
}

}  // namespace sluice
