// Safetensors headers: parsing one file's header into tensor descriptions, strictly.
//
//   0        8              8+N                                    end of file
//   | N: u64 | N bytes JSON | data buffer: tensors, no holes, no overlap |
//
// The JSON maps a tensor's name to {"dtype", "shape", "data_offsets": [begin, end)} with offsets
// relative to byte 8+N, plus an optional "__metadata__" of strings. Nothing aligns the data.
// What is here only reads headers; the bytes of tensors are read through io/read_queue.h.
// Format: https://github.com/huggingface/safetensors (README, "Format").
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

enum class DType : uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean
};

// "BF16" and the like, as written in files.
std::string_view dtype_name(DType dtype);
uint32_t dtype_bytes(DType dtype);

struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<uint64_t> shape;
  uint32_t file = 0;        // index into Checkpoint::files(); 0 from parse_safetensors_header
  uint64_t offset = 0;      // first byte, from the start of the file; any alignment
  uint64_t size_bytes = 0;  // product of shape × dtype size
};

// "[8, 64, 7]", for messages.
std::string shape_text(std::span<const uint64_t> shape);

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;              // in the order of their offsets
  std::map<std::string, std::string> metadata;  // "__metadata__"
  uint64_t file_bytes = 0;                      // of the whole file
};

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference reader
// Published tensors have at most 5 dimensions. Without a limit a shape could be as long as the
// header, at 8 bytes of memory for every 2 of the file.
inline constexpr size_t kMaxTensorRank = 32;

// json: the N bytes of the header; file_bytes: the whole file's size; path: for messages only.
// Throws Error on everything the format forbids: a header that is not an object of the form above,
// an unknown dtype, a negative or overflowing shape or offset, a size that disagrees with the
// shape, holes, overlap, a buffer that ends before or after the file, a name given twice,
// non-string metadata.
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t file_bytes,
                                           const std::string& path);

// Reads and parses the header of a file. Throws Error (also: not readable, shorter than 8 bytes,
// N over kMaxHeaderBytes or past the end of the file).
SafetensorsHeader read_safetensors_header(const std::string& path);

}  // namespace sluice
