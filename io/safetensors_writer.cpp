#include "io/safetensors_writer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "io/check.h"
#include "io/error.h"
#include "io/json_text.h"

namespace sluice {
namespace {

// Quoted and escaped. Throws Error if it is not UTF-8, which JSON must be.
std::string json_string(const std::string& text, const std::string& path) {
  try {
    return json_text(nlohmann::json(text));
  } catch (const nlohmann::json::type_error&) {
    throw Error(path, ": a name or a metadata string is not UTF-8, as the format demands: \"",
                excerpt(text), "\"");
  }
}

// Sizes and offsets (relative to the data buffer) of tensors laid out one behind the other; returns
// the size of the buffer.
uint64_t lay_out(std::vector<TensorInfo>& tensors, const std::string& path) {
  uint64_t end = 0;
  for (TensorInfo& tensor : tensors) {
    tensor.offset = end;
    tensor.size_bytes = dtype_bytes(tensor.dtype);
    bool overflow = false;
    for (const uint64_t dimension : tensor.shape) {
      overflow |= __builtin_mul_overflow(tensor.size_bytes, dimension, &tensor.size_bytes);
    }
    if (overflow || __builtin_add_overflow(end, tensor.size_bytes, &end)) {
      throw Error(path, ": tensor \"", excerpt(tensor.name), "\" of shape ",
                  shape_text(tensor.shape), " makes the file larger than 2^64 bytes");
    }
  }
  return end;
}

std::string header_json(const std::vector<TensorInfo>& tensors,
                        const SafetensorsWriter::Options& options, const std::string& path) {
  std::string json = "{";
  if (!options.metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : options.metadata) {
      if (json.back() != '{') json += ',';
      json += json_string(key, path) + ":" + json_string(value, path);
    }
    json += '}';
  }
  for (const TensorInfo& tensor : tensors) {
    if (json.size() > 1) json += ',';
    std::string shape = shape_text(tensor.shape);
    std::erase(shape, ' ');
    json += json_string(tensor.name, path) + ":{\"dtype\":\"";
    json += dtype_name(tensor.dtype);
    json += "\",\"shape\":" + shape + ",\"data_offsets\":[" + std::to_string(tensor.offset) + "," +
            std::to_string(tensor.offset + tensor.size_bytes) + "]}";
  }
  json += '}';
  const uint64_t past = (8 + uint64_t{json.size()}) % options.data_alignment;
  if (past != 0) json.append(options.data_alignment - past, ' ');
  return json;
}

}  // namespace

std::string SafetensorsWriter::header(const std::string& path, std::vector<TensorInfo>& tensors,
                                      const Options& options) {
  SLUICE_CHECK(options.data_alignment > 0);
  const uint64_t data_bytes = lay_out(tensors, path);
  const std::string json = header_json(tensors, options, path);
  const uint64_t data_begin = 8 + uint64_t{json.size()};
  uint64_t file_bytes = 0;
  if (__builtin_add_overflow(data_begin, data_bytes, &file_bytes)) {
    throw Error(path, ": would be larger than 2^64 bytes");
  }
  // The reader decides what is a legal header; no file that it refuses is ever written.
  parse_safetensors_header(json, file_bytes, path);
  for (TensorInfo& tensor : tensors) tensor.offset += data_begin;

  std::string bytes;
  for (size_t i = 0; i < 8; ++i) {
    bytes += static_cast<char>(uint64_t{json.size()} >> (8 * i) & 0xff);
  }
  return bytes + json;
}

SafetensorsWriter::SafetensorsWriter(std::string path, std::vector<TensorInfo> tensors,
                                     const Options& options)
    : file_(std::move(path)) {
  const std::string before = header(file_.path(), tensors, options);
  for (const TensorInfo& tensor : tensors) remaining_bytes_ += tensor.size_bytes;
  file_.write(std::as_bytes(std::span(before)));
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  SLUICE_CHECK(bytes.size() <= remaining_bytes_);
  file_.write(bytes);
  remaining_bytes_ -= bytes.size();
}

void SafetensorsWriter::finish() {
  SLUICE_CHECK(remaining_bytes_ == 0);
  file_.commit();
}

}  // namespace sluice
