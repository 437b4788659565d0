// Experts in records as the stream sees them: one aligned extent each, in place, of whatever size;
// and what does not fit config.json, the trunk or the file is refused.

#include "stream/record_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>

#include "io/error.h"
#include "io/read_queue.h"
#include "stream/expert_stream.h"
#include "stream/record_writer.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr uint32_t kExperts = 6;
const std::string kRecords = "model.layers.3.mlp.experts.records";
const std::string kStack = "model.layers.3.mlp.switch_mlp.";

ExpertNames promised() {
  return {.layer = 3,
          .experts = kExperts,
          .per_expert_prefix = "model.layers.3.mlp.experts",
          .stacked_prefixes = {"model.layers.3.mlp.switch_mlp", "model.layers.3.mlp.experts"},
          .router = "model.layers.3.mlp.gate",
          .projections = {{"gate_proj", 48, 64}, {"up_proj", 48, 64}, {"down_proj", 64, 96}}};
}

// A layer in records, and beside it what of the trunk it needs.
struct Layer {
  Layer() {
    for (const auto& projection : promised().projections) {
      projections.push_back({.name = projection.name,
                             .rows = projection.rows,
                             .cols = projection.cols,
                             .format = WeightFormat::turboquant,
                             .dtype = DType::u32,
                             .layout = MatrixLayout::tiles,
                             .group = 32,
                             .codebook_length = 8});
      trunk[kStack + projection.name + ".codebook"] = {8};
      trunk[kStack + projection.name + ".signs"] = {projection.cols};
    }
  }
  std::vector<RecordProjection> projections;
  bool with_bias = false;
  std::map<std::string, std::vector<uint64_t>> trunk;  // F16 tensors by name
  std::optional<RecordTable> table;                    // instead of what projections make
};

class RecordLayout : public testing::Test {
 protected:
  void write(const Layer& layer) {
    const RecordTable table =
        layer.table ? *layer.table : lay_out_record(layer.projections, layer.with_bias);
    RecordWriter records(directory_.file("experts-00001-of-00001.safetensors"),
                         {{kRecords, kExperts, table}});
    records_.clear();
    std::mt19937 random(7);
    for (uint32_t expert = 0; expert < kExperts; ++expert) {
      std::vector<std::byte>& record = records_.emplace_back(table.record_bytes);
      for (std::byte& value : record) value = static_cast<std::byte>(random());
      records.write(0, expert, record);
    }
    records.finish();
    table_ = table;

    std::vector<TensorInfo> infos;
    uint64_t bytes = 0;
    for (const auto& [name, shape] : layer.trunk) {
      TensorInfo info;
      info.name = name;
      info.dtype = DType::f16;
      info.shape = shape;
      infos.push_back(info);
      uint64_t size_bytes = 2;
      for (const uint64_t n : shape) size_bytes *= n;
      bytes += size_bytes;
    }
    if (infos.empty()) return;
    SafetensorsWriter trunk(directory_.file("model-00001-of-00001.safetensors"), infos, {});
    trunk.write(std::vector<std::byte>(bytes));
    trunk.finish();
  }

  ExpertLayout find(const ExpertNames& names = promised()) const {
    const Checkpoint checkpoint = Checkpoint::open(directory_.path());
    return find_experts(checkpoint, TensorNames(checkpoint), names);
  }

  std::string error(const ExpertNames& names = promised()) const {
    try {
      find(names);
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr(directory_.path().string()), HasSubstr("layer 3")));
      return error.what();
    }
    return "no error";
  }

  std::string error_of(const std::function<void(Layer&)>& change) {
    Layer layer;
    change(layer);
    write(layer);
    return error();
  }

  std::string error_promising(const std::function<void(ExpertNames&)>& change) {
    write(Layer());
    ExpertNames names = promised();
    change(names);
    return error(names);
  }

  // Replaces text of the records' header by text of the same length.
  void spoil(const std::string& from, const std::string& to) const {
    ASSERT_EQ(from.size(), to.size());
    const std::string path = directory_.file("experts-00001-of-00001.safetensors");
    std::string bytes = read_text_file(path, 1 << 24);
    const size_t at = bytes.find(from);
    ASSERT_NE(at, bytes.npos);
    bytes.replace(at, from.size(), to);
    directory_.write("experts-00001-of-00001.safetensors", bytes);
  }

  TemporaryDirectory directory_;
  RecordTable table_;
  std::vector<std::vector<std::byte>> records_;
};

TEST_F(RecordLayout, SaysFormatAndPlaceOfEveryPart) {
  write(Layer());
  const ExpertLayout layout = find();
  EXPECT_EQ(layout.model_layer, 3);
  EXPECT_EQ(layout.experts, kExperts);
  ASSERT_EQ(layout.formats.size(), 3);
  EXPECT_EQ(layout.formats[2].dtype, DType::u32);
  EXPECT_EQ(layout.formats[2].layout, MatrixLayout::tiles);
  EXPECT_EQ(layout.formats[2].rows, 64);
  EXPECT_EQ(layout.formats[2].cols, 96);
  EXPECT_EQ(layout.formats[2].group, 32);
  EXPECT_EQ(layout.formats[2].codebook_length, 8);
  EXPECT_EQ(layout.formats[2].prefix, kStack + "down_proj");
  const Checkpoint checkpoint = Checkpoint::open(directory_.path());
  const FileSlice slice = layout.projections[1].scales.of(5);
  EXPECT_EQ(slice.offset, checkpoint.at(kRecords).offset + 5 * table_.record_bytes +
                              table_.projections[1].scales.offset);
  EXPECT_EQ(slice.size_bytes, table_.projections[1].scales.size_bytes);
}

TEST_F(RecordLayout, FindsCodebooksUnderTheOtherPrefixToo) {
  Layer layer;
  std::map<std::string, std::vector<uint64_t>> trunk;
  for (const auto& [name, shape] : layer.trunk) {
    trunk["model.layers.3.mlp.experts." + name.substr(kStack.size())] = shape;
  }
  layer.trunk = trunk;
  write(layer);
  EXPECT_EQ(find().formats[0].prefix, "model.layers.3.mlp.experts.gate_proj");
}

TEST_F(RecordLayout, ExpertsComeInOneReadInPlaceFromEveryBackEnd) {
  Layer plain;
  plain.trunk.clear();
  for (RecordProjection& projection : plain.projections) {
    projection.format = WeightFormat::plain;
    projection.dtype = DType::bf16;
  }
  for (const Layer& layer : {Layer(), plain}) {
    std::filesystem::remove(directory_.file("model-00001-of-00001.safetensors"));
    write(layer);
    const Checkpoint checkpoint = Checkpoint::open(directory_.path());
    const std::vector<ExpertNames> names = {promised()};
    // Not even where it forbids any padding is an expert staged: nothing is gained by it.
    const ExpertSource source(checkpoint, names, 0.0);
    EXPECT_FALSE(source.packed());
    EXPECT_EQ(source.staging_bytes(), 0);
    EXPECT_EQ(source.slot_bytes(), table_.record_bytes);
    std::vector<std::unique_ptr<DirectFile>> files;
    std::vector<const DirectFile*> pointers;
    for (const std::string& path : checkpoint.files()) {
      files.push_back(std::make_unique<DirectFile>(path));
      pointers.push_back(files.back().get());
    }
    const std::unique_ptr<ReadQueue> queue = make_read_queue(ReadBackend::automatic, 4);
    for (const uint64_t slots : {1u, 3u, 6u}) {
      ExpertStream stream(source, pointers, *queue, {.budget_bytes = slots * source.slot_bytes()});
      for (const FetchMode mode : {FetchMode::decode, FetchMode::sweep}) {
        const std::vector<uint32_t> wanted = {4, 0, 5, 2, 1, 3};
        ExpertStream::Fetch fetch = stream.fetch(0, wanted, mode);
        while (const std::optional<uint32_t> i = fetch.next()) {
          const ExpertView view = fetch.view(*i);
          const std::byte* record = records_[wanted[*i]].data();
          for (size_t p = 0; p < 3; ++p) {
            const RecordProjection& projection = table_.projections[p];
            EXPECT_EQ(reinterpret_cast<uintptr_t>(view[p].data) % 64, 0);
            EXPECT_EQ(std::memcmp(view[p].data, record + projection.data.offset,
                                  projection.data.size_bytes),
                      0);
            if (projection.scales.size_bytes == 0) {
              EXPECT_EQ(view[p].scales, nullptr);
              continue;
            }
            EXPECT_EQ(std::memcmp(view[p].scales, record + projection.scales.offset,
                                  projection.scales.size_bytes),
                      0);
          }
          fetch.release(*i);
        }
      }
      // One request for each expert that was not there.
      const StreamStatistics statistics = stream.statistics();
      EXPECT_EQ(statistics.reads.requests, statistics.cache.misses);
    }
  }
}

TEST_F(RecordLayout, RefusesWhatConfigDoesNotPromise) {
  EXPECT_THAT(error_promising([](ExpertNames& names) { names.experts = 7; }),
              AllOf(HasSubstr(kRecords), HasSubstr("[7, ")));
  EXPECT_THAT(error_promising([](ExpertNames& names) { names.projections[1].rows = 64; }),
              AllOf(HasSubstr("up_proj"), HasSubstr("[48, 64]"), HasSubstr("[64, 64]")));
  Layer three;
  three.trunk.erase(kStack + "down_proj.codebook");
  three.trunk.erase(kStack + "down_proj.signs");
  write(three);
  ExpertNames two = promised();
  two.projections.pop_back();
  EXPECT_THAT(error(two), HasSubstr("3 projections, expected 2"));
  EXPECT_THAT(error_of([](Layer& layer) { std::swap(layer.projections[0], layer.projections[1]); }),
              AllOf(HasSubstr("up_proj"), HasSubstr("gate_proj")));
}

TEST_F(RecordLayout, RefusesMissingOrOtherCodebooksAndSigns) {
  for (const std::string part : {"codebook", "signs"}) {
    const std::string name = kStack + "up_proj." + part;
    EXPECT_THAT(error_of([&](Layer& layer) { layer.trunk.erase(name); }),
                AllOf(HasSubstr("up_proj." + part), HasSubstr("missing")));
    EXPECT_THAT(error_of([&](Layer& layer) { layer.trunk[name] = {16}; }),
                AllOf(HasSubstr(name), HasSubstr("[16]")));
  }
  EXPECT_THAT(error_of([](Layer& layer) {
                layer.trunk["model.layers.3.mlp.experts.up_proj.codebook"] = {8};
              }),
              HasSubstr("two codebooks"));
}

TEST_F(RecordLayout, RefusesTwoLayoutsAndStrayTensors) {
  for (const char* name :
       {"switch_mlp.up_proj.weight", "switch_mlp.up_proj.scales", "experts.0.up_proj.weight"}) {
    EXPECT_THAT(error_of([&](Layer& layer) {
                  layer.trunk[std::string("model.layers.3.mlp.") + name] = {4};
                }),
                AllOf(HasSubstr("two layouts"), HasSubstr(name), HasSubstr(kRecords)));
  }
  for (const char* name : {"switch_mlp.up_proj.bias", "experts.norm.weight", "experts.records.0",
                           "switch_mlp.records"}) {
    EXPECT_THAT(error_of([&](Layer& layer) {
                  layer.trunk[std::string("model.layers.3.mlp.") + name] = {4};
                }),
                AllOf(HasSubstr("not understood"), HasSubstr(name)));
  }
}

TEST_F(RecordLayout, RefusesBiasesAndMixedTypesUntilTheyAreSupported) {
  EXPECT_THAT(error_of([](Layer& layer) { layer.with_bias = true; }), HasSubstr("biases"));
  EXPECT_THAT(error_of([](Layer& layer) {
                layer.projections[2].format = WeightFormat::plain;
                layer.projections[2].dtype = DType::f16;
                layer.trunk.erase(kStack + "down_proj.codebook");
                layer.trunk.erase(kStack + "down_proj.signs");
              }),
              HasSubstr("differ in type"));
}

TEST_F(RecordLayout, RefusesATableThatLies) {
  write(Layer());
  spoil("\\\"rows\\\":48", "\\\"rows\\\":49");
  EXPECT_THAT(error(), HasSubstr("shape and format make"));
  write(Layer());
  spoil("\\\"version\\\":1", "\\\"version\\\":9");
  EXPECT_THAT(error(), HasSubstr("version 9"));
  write(Layer());
  spoil("sluice.records.table:", "another.tools.table:1");
  EXPECT_THAT(error(), HasSubstr("no table"));
  write(Layer());
  spoil("\"U8\"", "\"I8\"");
  EXPECT_THAT(error(), HasSubstr("is I8, expected U8"));
}

TEST_F(RecordLayout, RefusesRecordsThatAnotherProgramMoved) {
  write(Layer());
  // As a program does that writes the same tensors with the same metadata and its own padding.
  const std::string path = directory_.file("experts-00001-of-00001.safetensors");
  const SafetensorsHeader header = read_safetensors_header(path);
  std::string data = read_text_file(path, 1 << 24).substr(header.tensors[0].offset);
  SafetensorsWriter writer(path, header.tensors, {.metadata = header.metadata});
  writer.write(std::as_bytes(std::span(data)));
  writer.finish();
  EXPECT_THAT(error(), AllOf(HasSubstr("expected a multiple of 4096"), HasSubstr("repack")));
}

TEST_F(RecordLayout, RefusesATruncatedFile) {
  write(Layer());
  const std::string path = directory_.file("experts-00001-of-00001.safetensors");
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_THROW(find(), Error);
}

}  // namespace
}  // namespace sluice
