// RecordPacker: one layer's experts from the layout they are read in into records, and back for
// comparison. TurboQuant and MXFP4 matrices go into tiles (kernels/tiles.h) where they have such a
// form, and plain ones that lie in columns into rows. Threads: any.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "stream/expert_layout.h"
#include "stream/expert_source.h"
#include "stream/record_format.h"

namespace sluice {

class RecordPacker {
 public:
  // source: the layer as it is read. projection_names: [source's projections] "gate_proj", ...
  // layout: rows, or tiles for matrices that have them. Borrows source.
  RecordPacker(const ExpertLayout& source, std::span<const std::string> projection_names,
               MatrixLayout layout);

  const RecordTable& table() const { return table_; }

  // Fills the whole record [table().record_bytes], gaps and tail with zeros.
  void pack(const ExpertView& expert, std::span<std::byte> record) const;

  // Compares every weight and every scale of a record with the expert it is made from, taking the
  // record apart; says where they differ, or nothing. scratch: grows as needed.
  std::optional<std::string> difference(const ExpertView& expert, std::span<const std::byte> record,
                                        std::vector<std::byte>& scratch) const;

 private:
  const ExpertLayout* source_;
  RecordTable table_;
};

}  // namespace sluice
