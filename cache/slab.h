// Slab: one anonymous memory mapping that holds all slots of a cache.
//
// Nothing is touched here: resident memory follows use, or what registers it for reads. Huge pages
// are asked for as far as whole ones fit (never beyond the size asked for): weights are read with
// fewer TLB misses, and a direct read into one is a single segment for the device instead of one
// per 4 KiB, which doubled the rate of a virtual disk (bench/RESULTS.md).
// One page more than asked for is mapped, so that vector loads may read past the last byte.
// Owns: the mapping. Threads: any (it only hands out the address).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace sluice {

inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kHugePageBytes = 2 << 20;

class Slab {
 public:
  // Requires: size_bytes > 0. Throws Error naming the size when the kernel refuses the mapping.
  explicit Slab(uint64_t size_bytes);
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // [size_bytes], zeros at first, 4096-aligned (2 MiB-aligned with huge pages); kPageBytes readable
  // behind the end.
  std::byte* data() const { return data_; }
  std::span<std::byte> bytes() const { return {data_, static_cast<size_t>(size_bytes_)}; }
  // "huge pages", "4 KiB pages"
  std::string description() const;

 private:
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  bool huge_pages_ = false;
  std::byte* mapping_ = nullptr;  // data_ lies in it
  size_t mapping_bytes_ = 0;
};

}  // namespace sluice
