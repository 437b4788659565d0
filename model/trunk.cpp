#include "model/trunk.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <utility>

#include "io/check.h"
#include "io/error.h"
#include "kernels/kernels.h"

namespace sluice {

namespace {

// A request: small enough that progress can be shown.
constexpr uint64_t kRequestBytes = 16ull << 20;

uint64_t extent_bytes(const ReadPlan& plan) {
  uint64_t total = 0;
  for (const Extent& extent : plan.extents) total += extent.size_bytes;
  return total;
}

std::string dtype_names(std::span<const DType> dtypes) {
  std::string text;
  for (const DType dtype : dtypes) {
    if (!text.empty()) text += " or ";
    text += dtype_name(dtype);
  }
  return text;
}

// Of one row of tiles: its codes and scales.
size_t tile_buffer_bytes(const kernels::TileShape& shape) {
  constexpr uint32_t kRows = kernels::kRowsPerTile;
  return kernels::tile_bytes(kRows, shape.cols, shape.length) +
         kernels::tile_scale_bytes(kRows, shape.cols, shape.group);
}

}  // namespace

Trunk::Trunk(const Checkpoint& checkpoint) : checkpoint_(&checkpoint) {}

const std::byte* Trunk::tensor(const std::string& name, std::span<const DType> dtypes,
                               std::span<const uint64_t> shape) {
  const TensorInfo& info = checkpoint_->at(name);
  if (std::find(dtypes.begin(), dtypes.end(), info.dtype) == dtypes.end() ||
      !std::equal(shape.begin(), shape.end(), info.shape.begin(), info.shape.end())) {
    throw Error(
        checkpoint_->files()[info.file], ": tensor ", name, " is ", dtype_name(info.dtype), " ",
        shape_text(info.shape), "; config.json asks for ", dtype_names(dtypes), " ",
        shape_text(shape),
        ". The checkpoint and its config.json do not belong together, or a file is damaged");
  }
  if (loaded()) return place(name);
  if (slice_of_.find(name) == slice_of_.end() && info.size_bytes > 0) {
    slice_of_.emplace(name, static_cast<uint32_t>(slices_.size()));
    slices_.push_back({info.file, info.offset, info.size_bytes});
    read_plan_.reset();
  }
  return nullptr;
}

std::byte* Trunk::place(const std::string& name) {
  const auto known = slice_of_.find(name);
  SLUICE_CHECK(known != slice_of_.end());
  const SlicePlace& place = read_plan_->places[known->second];
  return slab_->data() + extent_places_[place.extent] + place.inner_offset;
}

Trunk::Tiles Trunk::tiles(const std::string& weight, const std::string& scales,
                          const kernels::TileShape& shape) {
  const std::array<uint64_t, 2> words = {shape.rows, kernels::row_words(shape.cols, shape.length)};
  const std::array<uint64_t, 2> groups = {shape.rows, shape.cols / shape.group};
  tensor(weight, std::array{DType::u32}, words);
  tensor(scales, std::array{DType::f16}, groups);
  const auto known = tiled_.try_emplace(weight, Matrix{weight, scales, shape}).first;
  if (!loaded()) return {};
  return {.codes = codes_of(known->second), .scales = place(scales)};
}

// The first multiple of 64 in the words' place, if the codes reach no further from there; else the
// place itself, where loads that straddle two cache lines are a little slower.
std::byte* Trunk::codes_of(const Matrix& matrix) {
  const kernels::TileShape& shape = matrix.shape;
  const size_t row_bytes = size_t{kernels::row_words(shape.cols, shape.length)} * 4;
  const size_t of_words = row_bytes * kernels::kRowsPerTile;
  const size_t of_tiles = kernels::tile_bytes(kernels::kRowsPerTile, shape.cols, shape.length);
  std::byte* start = place(matrix.weight);
  const size_t past = reinterpret_cast<uintptr_t>(start) % kernels::kTileAlignment;
  const size_t skipped = past == 0 ? 0 : kernels::kTileAlignment - past;
  return of_words >= of_tiles + skipped ? start + skipped : start;
}

// A tile at a time through a buffer of tile_buffer_bytes: what is written never reaches words that
// were not read.
void Trunk::arrange(const Matrix& matrix, std::byte* buffer) {
  kernels::TileShape tile = matrix.shape;
  tile.rows = kernels::kRowsPerTile;
  const size_t words_bytes =
      size_t{kernels::row_words(tile.cols, tile.length)} * sizeof(uint32_t) * tile.rows;
  const size_t codes_bytes = kernels::tile_bytes(tile.rows, tile.cols, tile.length);
  const size_t scales_bytes = kernels::tile_scale_bytes(tile.rows, tile.cols, tile.group);
  const std::byte* words = place(matrix.weight);
  std::byte* codes = codes_of(matrix);
  std::byte* scales = place(matrix.scales);
  for (uint32_t row = 0; row < matrix.shape.rows; row += tile.rows) {
    kernels::pack_tiles(tile, words, scales, buffer, buffer + codes_bytes);
    std::memcpy(codes, buffer, codes_bytes);
    std::memcpy(scales, buffer + codes_bytes, scales_bytes);
    words += words_bytes;
    codes += codes_bytes;
    scales += scales_bytes;
  }
}

// The largest first, so that no worker is left with one at the end.
void Trunk::arrange(Workers& workers) {
  SLUICE_CHECK(loaded());
  std::vector<const Matrix*> matrices;
  for (const auto& [name, matrix] : tiled_) matrices.push_back(&matrix);
  std::ranges::stable_sort(matrices, std::greater<>(), [](const Matrix* matrix) {
    return uint64_t{matrix->shape.rows} * matrix->shape.cols;
  });
  size_t buffer_bytes = 0;
  for (const Matrix* matrix : matrices) {
    buffer_bytes = std::max(buffer_bytes, tile_buffer_bytes(matrix->shape));
  }
  std::vector<std::byte> buffers(workers.threads() * buffer_bytes);
  workers.run(static_cast<uint32_t>(matrices.size()), [&](uint32_t i, uint32_t worker) {
    arrange(*matrices[i], buffers.data() + worker * buffer_bytes);
  });
}

void Trunk::count_converted(uint64_t bytes) {
  if (!loaded()) converted_bytes_ += bytes;
}

const ReadPlan& Trunk::read_plan() const {
  if (!read_plan_) read_plan_ = coalesce(slices_);
  return *read_plan_;
}

uint64_t Trunk::bytes() const { return extent_bytes(read_plan()) + converted_bytes_; }

void Trunk::load(std::span<const DirectFile* const> files, ReadQueue& queue,
                 const std::function<void(uint64_t done, uint64_t total)>& progress) {
  SLUICE_CHECK(!loaded());
  const ReadPlan& plan = read_plan();
  const uint64_t total = extent_bytes(plan);
  slab_.emplace(total + kernels::kOverreadBytes);
  std::vector<ReadRequest> requests;
  uint64_t place = 0;
  for (const Extent& extent : plan.extents) {
    extent_places_.push_back(place);
    for (uint64_t at = 0; at < extent.size_bytes; at += kRequestBytes) {
      const uint64_t size = std::min(extent.size_bytes - at, kRequestBytes);
      const uint64_t needed = extent.needed_bytes > at ? extent.needed_bytes - at : 0;
      requests.push_back({.file = files[extent.file],
                          .offset = extent.offset + at,
                          .size_bytes = size,
                          .needed_bytes = std::min(size, needed),
                          .destination = slab_->data() + place + at,
                          .tag = requests.size()});
    }
    place += extent.size_bytes;
  }
  uint64_t done = 0;
  read_all(queue, requests, [&](uint64_t tag) {
    done += requests[tag].size_bytes;
    if (progress) progress(done, total);
  });
}

}  // namespace sluice
