// Trunk: the weights that stay resident, read straight from the shards into place.
//
// A network's constructor runs twice over the same code: first every tensor() call declares (checks
// the tensor and notes its place), then, after load(), the same calls return where the bytes are.
// So a family lists each tensor name once.
//
//   Trunk trunk(checkpoint);
//   make_network(config, trunk, experts);  // declares: trunk.bytes() now says how much
//   trunk.load(files, queue, progress);
//   trunk.arrange(workers);
//   network = make_network(config, trunk, experts);
//
// In memory the trunk is the aligned extents of the shards that hold its tensors, one behind the
// other: a tensor lies at its extent's place plus its inner offset, so at any address. TurboQuant
// matrices are put in the kernels' order where they lie (tiles()), one row of tiles after another:
// in tiles a row takes no more bytes than in words.
// Owns: the bytes. Borrows: the checkpoint. Threads: one while loading, any after.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cache/slab.h"
#include "io/checkpoint.h"
#include "io/coalesce.h"
#include "io/direct_file.h"
#include "io/read_queue.h"
#include "kernels/tiles.h"
#include "model/workers.h"

namespace sluice {

class Trunk {
 public:
  explicit Trunk(const Checkpoint& checkpoint);

  const Checkpoint& checkpoint() const { return *checkpoint_; }

  // The bytes of a tensor, null before load(). At least kernels::kOverreadBytes are readable behind
  // them. Throws Error: no such tensor, or another dtype or shape than expected (named in the
  // message).
  const std::byte* tensor(const std::string& name, std::span<const DType> dtypes,
                          std::span<const uint64_t> shape);
  // The two tensors of a TurboQuant matrix, as they are once arrange() has put them in tiles
  // (kernels/tiles.h): codes at any address, and scales; null before load(). Declares them as
  // tensor() does; that gives what they were from then on. Requires: has_tiles, and rows a multiple
  // of 16. Throws Error as tensor().
  struct Tiles {
    const std::byte* codes = nullptr;
    const std::byte* scales = nullptr;
  };
  Tiles tiles(const std::string& weight, const std::string& scales,
              const kernels::TileShape& shape);
  // Whether a tensor of that name was declared.
  bool uses(std::string_view name) const { return slice_of_.find(name) != slice_of_.end(); }
  // Bytes that a network keeps beside the trunk because it converted them (norms, signs as floats).
  void count_converted(uint64_t bytes);

  bool loaded() const { return slab_.has_value(); }
  // Of the extents and of what was converted.
  uint64_t bytes() const;

  // Reads everything that was declared. files: by checkpoint file index. Throws Error.
  void load(std::span<const DirectFile* const> files, ReadQueue& queue,
            const std::function<void(uint64_t done, uint64_t total)>& progress);
  // Puts matrices in tiles, each on one of the workers. To be called once, after load().
  void arrange(Workers& workers);

 private:
  struct Matrix {
    std::string weight, scales;
    kernels::TileShape shape;
  };

  std::byte* place(const std::string& name);
  std::byte* codes_of(const Matrix& matrix);
  void arrange(const Matrix& matrix, std::byte* buffer);

  const Checkpoint* checkpoint_;
  std::map<std::string, uint32_t, std::less<>> slice_of_;  // name → index into slices_
  std::vector<FileSlice> slices_;
  mutable std::optional<ReadPlan> read_plan_;  // of slices_, made when first asked for
  std::vector<uint64_t> extent_places_;        // in the slab, after load()
  std::optional<Slab> slab_;
  uint64_t converted_bytes_ = 0;
  std::map<std::string, Matrix, std::less<>> tiled_;  // by weight

  const ReadPlan& read_plan() const;
};

}  // namespace sluice
