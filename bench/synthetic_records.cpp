#include "bench/synthetic_records.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench_file.h"
#include "bench/synthetic_model.h"
#include "io/error.h"
#include "io/json_text.h"
#include "kernels/codec.h"
#include "kernels/tiles.h"
#include "model/config.h"
#include "model/model_directory_writer.h"
#include "model/network.h"
#include "stream/record_writer.h"

namespace sluice::bench {
namespace {

constexpr uint64_t kFlushBytes = uint64_t{256} << 20;
constexpr uint16_t kScale = 0x251f;  // 0.02 as F16
constexpr uint64_t kSeed = 1;

uint32_t codebook_length(const RecordsShape& shape) { return 1u << shape.bits; }

// Of a family whose experts are gate, up and down, and no more of it than what is asked for.
std::string config_text(const RecordsShape& shape) {
  const nlohmann::json config = {
      {"model_type", "qwen3_moe"},
      {"num_hidden_layers", shape.layers},
      {"hidden_size", shape.hidden},
      {"moe_intermediate_size", shape.intermediate},
      {"num_experts", shape.experts},
      {"num_experts_per_tok", shape.experts_per_token},
      {"num_attention_heads", 1},
      {"head_dim", 64},
      {"vocab_size", 1},
      {"max_position_embeddings", 4096},
      {"quantization", {{"mode", "turboquant"}, {"bits", shape.bits}, {"group_size", shape.group}}},
  };
  return json_text(config, 2) + "\n";
}

RecordTable record_table(const RecordsShape& shape,
                         const std::vector<ExpertNames::Projection>& names) {
  std::vector<RecordProjection> projections;
  for (const ExpertNames::Projection& name : names) {
    if (!kernels::has_tiles(name.cols, shape.group, codebook_length(shape))) {
      throw Error("no tiles of ", name.cols, " inputs in groups of ", shape.group, " and ",
                  shape.bits, " bits");
    }
    RecordProjection projection;
    projection.name = name.name;
    projection.rows = name.rows;
    projection.cols = name.cols;
    projection.format = WeightFormat::turboquant;
    projection.layout = MatrixLayout::tiles;
    projection.group = shape.group;
    projection.codebook_length = codebook_length(shape);
    projections.push_back(std::move(projection));
  }
  return lay_out_record(std::move(projections));
}

std::vector<ExpertNames> names_of(const RecordsShape& shape) {
  return expert_names(parse_config(config_text(shape), "the synthetic config.json"));
}

// Random codes between the gaps, which stay zero, and constant scales.
void fill_record(const RecordTable& table, uint64_t number, std::vector<uint64_t>& record) {
  auto* bytes = reinterpret_cast<std::byte*>(record.data());
  for (const RecordProjection& projection : table.projections) {
    // Parts of tiles begin and end at whole words.
    fill_random((number * table.record_bytes + projection.data.offset) / sizeof(uint64_t),
                std::span(record).subspan(projection.data.offset / sizeof(uint64_t),
                                          projection.data.size_bytes / sizeof(uint64_t)));
    auto* scales = reinterpret_cast<uint16_t*>(bytes + projection.scales.offset);
    std::fill(scales, scales + projection.scales.size_bytes / sizeof(kScale), kScale);
  }
}

// Codebook and signs of every matrix.
void write_trunk(const std::string& path, const RecordsShape& shape,
                 const std::vector<ExpertNames>& layers) {
  std::vector<TensorInfo> tensors;
  std::vector<std::vector<std::byte>> contents;
  for (const ExpertNames& layer : layers) {
    for (const ExpertNames::Projection& projection : layer.projections) {
      const std::string prefix = layer.stacked_prefixes.at(0) + "." + projection.name;
      std::vector<float> signs(projection.cols);
      kernels::random_signs(kSeed, projection.cols, signs.data());
      const uint32_t length = codebook_length(shape);
      tensors.push_back(synthetic_tensor(prefix + ".codebook", DType::f16, {length}));
      kernels::codebook_f16(kernels::make_codec(projection.cols, shape.group, length, signs.data()),
                            contents.emplace_back(2 * length).data());
      tensors.push_back(synthetic_tensor(prefix + ".signs", DType::f16, {projection.cols}));
      kernels::table().to_f16(signs.data(), signs.size(),
                              contents.emplace_back(2 * signs.size()).data());
    }
  }
  SafetensorsWriter writer(path, std::move(tensors), {});
  for (const std::vector<std::byte>& content : contents) writer.write(content);
  writer.finish();
}

}  // namespace

uint64_t synthetic_record_bytes(const RecordsShape& shape) {
  return record_table(shape, names_of(shape).at(0).projections).record_bytes;
}

void write_synthetic_records(const std::filesystem::path& directory, const RecordsShape& shape) {
  const std::vector<ExpertNames> layers = names_of(shape);
  const RecordTable table = record_table(shape, layers.at(0).projections);
  require_free_space(directory, table.record_bytes * layers.size() * shape.experts);
  std::vector<RecordTensor> tensors;
  for (const ExpertNames& layer : layers) {
    tensors.push_back({record_tensor_name(layer.per_expert_prefix), layer.experts, table});
  }
  RecordWriter writer((directory / shard_name("experts", 0, 1)).string(), std::move(tensors));
  std::vector<uint64_t> record(table.record_bytes / sizeof(uint64_t));
  uint64_t number = 0, unflushed = 0;
  for (uint32_t layer = 0; layer < layers.size(); ++layer) {
    for (uint32_t expert = 0; expert < shape.experts; ++expert, ++number) {
      fill_record(table, number, record);
      writer.write(layer, expert, std::as_bytes(std::span(record)));
      unflushed += table.record_bytes;
      if (unflushed < kFlushBytes) continue;
      writer.flush();
      unflushed = 0;
    }
  }
  writer.flush();
  writer.finish();
  write_trunk((directory / shard_name("model", 0, 1)).string(), shape, layers);
  write_text_file((directory / "config.json").string(), config_text(shape));
}

}  // namespace sluice::bench
