// Coalescing: which reads fetch a set of slices.
//
// A slice is a byte range of a file that somebody wants. An extent is a range that is read: aligned
// at both ends (as O_DIRECT demands), holding one or more slices that lie closer together than the
// gap at which one longer read is cheaper than two. Pure arithmetic, no I/O.
//
//   file  ....[ slice 0 ]..[ slice 1 ]............................[ slice 2 ]....
//         |<------- extent 0 ------->|                          |<- extent 1 ->|
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice {

struct FileSlice {
  uint32_t file = 0;
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
};

struct Extent {
  uint32_t file = 0;
  uint64_t offset = 0;        // multiple of kReadAlignment
  uint64_t size_bytes = 0;    // multiple of kReadAlignment; may pass the end of the file
  uint64_t needed_bytes = 0;  // from offset to the end of the last slice: what must arrive
};

struct SlicePlace {
  uint32_t extent = 0;        // which extent holds the slice
  uint64_t inner_offset = 0;  // where in it
};

struct ReadPlan {
  std::vector<Extent> extents;     // by file, then offset; disjoint
  std::vector<SlicePlace> places;  // one per slice, in the order given
};

// All offsets and destinations are aligned to this, whatever smaller alignment a file would allow.
inline constexpr uint64_t kReadAlignment = 4096;

// Merging gap: reading this many unwanted bytes costs about as much as one more request.
// bench/read_gap puts the break-even at 19 to 30 KiB with io_uring and 8 to 17 KiB with pread
// (slices of 48 KiB, depth 16, virtio disk, 2 busy cores): bench/RESULTS.md. Across 32 KiB a merged
// read took 2 to 20 % longer than two.
inline constexpr uint64_t kMergeGapBytes = uint64_t{16} * 1024;

// Requires: slices of size > 0 (a tensor of no bytes has none) whose ends do not overflow (those of
// a Checkpoint lie within their files).
ReadPlan coalesce(std::span<const FileSlice> slices, uint64_t merge_gap_bytes = kMergeGapBytes);

}  // namespace sluice
