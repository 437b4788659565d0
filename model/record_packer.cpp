#include "model/record_packer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "io/check.h"
#include "kernels/columns.h"
#include "kernels/kernels.h"
#include "kernels/tiles.h"

namespace sluice {
namespace {

// Requires: TurboQuant or MXFP4.
kernels::TileShape tile_shape(const RecordProjection& projection) {
  if (projection.format == WeightFormat::mxfp4) {
    return {.rows = projection.rows,
            .cols = projection.cols,
            .group = projection.scaled.group,
            .length = kernels::mxfp4_codebook().length,
            .scale_bytes = 1};
  }
  return {.rows = projection.rows,
          .cols = projection.cols,
          .group = projection.group,
          .length = projection.codebook_length};
}

// A plain matrix in columns to rows.
void transpose(const RecordProjection& projection, const std::byte* columns, std::byte* rows) {
  kernels::columns_to_rows({.rows = projection.rows,
                            .cols = projection.cols,
                            .width = static_cast<uint32_t>(dtype_bytes(projection.dtype))},
                           0, projection.rows, columns, rows);
}

// Clears what says nothing in the U32 words of rows: the bits above a word's codes, and those
// behind a row's last. Requires: not ternary.
void clear_padding(const RecordProjection& projection, std::span<std::byte> words) {
  if (projection.format == WeightFormat::mxfp4) return;  // its words have no such bits
  const auto bits = static_cast<uint32_t>(std::bit_width(projection.codebook_length - 1));
  const uint32_t per_word = 32 / bits;
  const uint64_t row_words = words_per_row(projection.cols, projection.codebook_length);
  const auto low_bits = [&](uint64_t codes) {
    return static_cast<uint32_t>((uint64_t{1} << (bits * codes)) - 1);
  };
  const uint32_t whole = low_bits(per_word);
  const uint32_t last = low_bits(projection.cols - (row_words - 1) * per_word);
  for (uint64_t i = 0; i < words.size() / sizeof(uint32_t); ++i) {
    uint32_t word = 0;
    std::byte* place = words.data() + i * sizeof word;
    std::memcpy(&word, place, sizeof word);
    word &= (i + 1) % row_words == 0 ? last : whole;
    std::memcpy(place, &word, sizeof word);
  }
}

}  // namespace

RecordPacker::RecordPacker(const ExpertLayout& source,
                           std::span<const std::string> projection_names, MatrixLayout layout)
    : source_(&source) {
  SLUICE_CHECK(projection_names.size() == source.formats.size());
  std::vector<RecordProjection> projections;
  for (size_t p = 0; p < source.formats.size(); ++p) {
    const ProjectionFormat& format = source.formats[p];
    RecordProjection projection;
    projection.name = projection_names[p];
    projection.rows = format.rows;
    projection.cols = format.cols;
    projection.format = format.format;
    projection.dtype = format.dtype;
    projection.scaled = format.scaled;
    if (format.format == WeightFormat::turboquant) {
      projection.group = format.group;
      projection.codebook_length = format.codebook_length;
      const bool tiles = kernels::has_tiles(format.cols, format.group, format.codebook_length);
      projection.layout = tiles ? layout : MatrixLayout::rows;
    } else if (format.format == WeightFormat::mxfp4) {
      projection.dtype = DType::u8;  // MLX writes the same bytes as words
      projection.layout = layout;
    }
    projections.push_back(std::move(projection));
  }
  table_ = lay_out_record(std::move(projections));
}

void RecordPacker::pack(const ExpertView& expert, std::span<std::byte> record) const {
  SLUICE_CHECK(record.size() == table_.record_bytes);
  uint64_t end = 0;
  // The place of a part, what lies between it and the one before being cleared.
  const auto part = [&](const RecordPart& place) {
    std::fill(record.begin() + static_cast<std::ptrdiff_t>(end),
              record.begin() + static_cast<std::ptrdiff_t>(place.offset), std::byte{0});
    end = place.offset + place.size_bytes;
    return record.data() + place.offset;
  };
  for (size_t p = 0; p < table_.projections.size(); ++p) {
    const RecordProjection& to = table_.projections[p];
    const MatrixLayout from = source_->formats[p].layout;
    std::byte* data = part(to.data);
    std::byte* scales = to.scales.size_bytes > 0 ? part(to.scales) : nullptr;
    std::byte* biases = to.biases.size_bytes > 0 ? part(to.biases) : nullptr;
    if (from == MatrixLayout::columns) {
      transpose(to, expert[p].data, data);
    } else if (to.layout == from) {
      std::memcpy(data, expert[p].data, to.data.size_bytes);
      if (scales != nullptr) std::memcpy(scales, expert[p].scales, to.scales.size_bytes);
      if (biases != nullptr) std::memcpy(biases, expert[p].biases, to.biases.size_bytes);
    } else if (to.layout == MatrixLayout::tiles) {
      kernels::pack_tiles(tile_shape(to), expert[p].data, expert[p].scales, data, scales);
    } else {
      kernels::unpack_tiles(tile_shape(to), expert[p].data, expert[p].scales, data, scales);
    }
  }
  part({record.size(), 0});
}

std::optional<std::string> RecordPacker::difference(const ExpertView& expert,
                                                    std::span<const std::byte> record,
                                                    std::vector<std::byte>& scratch) const {
  for (size_t p = 0; p < table_.projections.size(); ++p) {
    const RecordProjection& to = table_.projections[p];
    const std::byte* data = record.data() + to.data.offset;
    const std::byte* scales = record.data() + to.scales.offset;
    const std::byte* source_data = expert[p].data;
    const std::byte* source_scales = expert[p].scales;
    uint64_t data_bytes = to.data.size_bytes;
    uint64_t scale_bytes = to.scales.size_bytes;
    if (source_->formats[p].layout == MatrixLayout::columns) {
      scratch.resize(std::max<size_t>(scratch.size(), data_bytes));
      transpose(to, source_data, scratch.data());
      source_data = scratch.data();
    } else if (source_->formats[p].layout != to.layout) {
      // Both in rows: whichever is in tiles is taken apart, and the words' padding says nothing.
      const kernels::TileShape shape = tile_shape(to);
      data_bytes = uint64_t{to.rows} * words_per_row(to.cols, shape.length) * 4;
      scale_bytes = uint64_t{to.rows} * (to.cols / shape.group) * shape.scale_bytes;
      scratch.resize(std::max<size_t>(scratch.size(), 2 * data_bytes + scale_bytes));
      const std::span<std::byte> unpacked = std::span(scratch).first(data_bytes);
      const std::span<std::byte> words = std::span(scratch).subspan(data_bytes, data_bytes);
      std::byte* unpacked_scales = scratch.data() + 2 * data_bytes;
      const bool packed = to.layout == MatrixLayout::tiles;
      kernels::unpack_tiles(shape, packed ? data : source_data, packed ? scales : source_scales,
                            unpacked.data(), unpacked_scales);
      std::memcpy(words.data(), packed ? source_data : data, data_bytes);
      clear_padding(to, words);
      (packed ? data : source_data) = unpacked.data();
      (packed ? source_data : data) = words.data();
      (packed ? scales : source_scales) = unpacked_scales;
    }
    if (std::memcmp(data, source_data, data_bytes) != 0) return to.name + ": the weights";
    if (scale_bytes > 0 && std::memcmp(scales, source_scales, scale_bytes) != 0) {
      return to.name + ": the scales";
    }
    if (to.biases.size_bytes > 0 && std::memcmp(record.data() + to.biases.offset, expert[p].biases,
                                                to.biases.size_bytes) != 0) {
      return to.name + ": the biases";
    }
  }
  return std::nullopt;
}

}  // namespace sluice
