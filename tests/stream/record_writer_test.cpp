// What RecordWriter puts on disk: a legal safetensors file, records where the table says, checksums
// that hold, and nothing at all before finish().

#include "stream/record_writer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include "io/checksum.h"
#include "io/error.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

RecordTable plain_table(uint32_t rows, uint32_t cols) {
  return lay_out_record({{.name = "gate_proj", .rows = rows, .cols = cols, .dtype = DType::bf16},
                         {.name = "down_proj", .rows = cols, .cols = rows, .dtype = DType::f32}});
}

std::vector<std::byte> random_record(const RecordTable& table, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> record(table.record_bytes);
  for (std::byte& value : record) value = static_cast<std::byte>(random());
  return record;
}

std::vector<std::byte> bytes_at(const std::string& path, uint64_t offset, uint64_t size_bytes) {
  std::vector<std::byte> bytes(size_bytes);
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size_bytes));
  EXPECT_TRUE(file.good());
  return bytes;
}

TEST(RecordWriter, RecordsComeBackAlignedWithTheirTablesAndChecksums) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("experts-00001-of-00001.safetensors");
  const std::vector<RecordTensor> tensors = {{"a.experts.records", 3, plain_table(5, 7)},
                                             {"b.experts.records", 2, plain_table(900, 3)}};
  RecordWriter writer(path, tensors, {{"made_by", "a test"}});
  for (uint32_t t = 0; t < tensors.size(); ++t) {
    for (uint32_t e = tensors[t].experts; e-- > 0;) {  // not in the order of the file
      writer.write(t, e, random_record(tensors[t].table, 100 * t + e));
    }
  }
  writer.finish();

  const SafetensorsHeader header = read_safetensors_header(path);
  EXPECT_EQ(header.file_bytes, writer.file_bytes());
  EXPECT_EQ(header.metadata.at("made_by"), "a test");
  ASSERT_EQ(header.tensors.size(), tensors.size());
  for (uint32_t t = 0; t < tensors.size(); ++t) {
    const TensorInfo& info = header.tensors[t];
    EXPECT_EQ(info.name, tensors[t].name);
    EXPECT_EQ(info.dtype, DType::u8);
    EXPECT_EQ(info.shape,
              (std::vector<uint64_t>{tensors[t].experts, tensors[t].table.record_bytes}));
    EXPECT_EQ(info.offset % kRecordAlignment, 0);
    EXPECT_EQ(info.offset, writer.tensors()[t].offset);
    EXPECT_EQ(header.metadata.at(record_table_key(info.name)), record_table_text(tensors[t].table));
    const std::vector<uint64_t> checksums = parse_record_checksums(
        header.metadata.at(record_checksums_key(info.name)), tensors[t].experts, "test");
    for (uint32_t e = 0; e < tensors[t].experts; ++e) {
      const std::vector<std::byte> expected = random_record(tensors[t].table, 100 * t + e);
      EXPECT_EQ(bytes_at(path, info.offset + e * expected.size(), expected.size()), expected);
      EXPECT_EQ(checksums[e], checksum(expected));
    }
  }
}

TEST(RecordWriter, ThreadsMayWriteAtOnce) {
  const TemporaryDirectory directory;
  const RecordTable table = plain_table(64, 64);
  constexpr uint32_t kExperts = 40;
  std::vector<std::string> paths;
  for (const uint32_t threads : {1u, 4u}) {
    paths.push_back(directory.file("threads" + std::to_string(threads)));
    RecordWriter writer(paths.back(), {{"a.experts.records", kExperts, table}});
    std::vector<std::jthread> pool;
    for (uint32_t thread = 0; thread < threads; ++thread) {
      pool.emplace_back([&writer, &table, thread, threads] {
        for (uint32_t e = thread; e < kExperts; e += threads) {
          writer.write(0, e, random_record(table, e));
        }
      });
    }
    pool.clear();
    writer.finish();
  }
  const uint64_t size_bytes = std::filesystem::file_size(paths[0]);
  ASSERT_EQ(std::filesystem::file_size(paths[1]), size_bytes);
  EXPECT_EQ(bytes_at(paths[0], 0, size_bytes), bytes_at(paths[1], 0, size_bytes));
}

TEST(RecordWriter, NothingIsLeftWithoutFinish) {
  const TemporaryDirectory directory;
  const RecordTable table = plain_table(8, 8);
  {
    RecordWriter writer(directory.file("experts"), {{"a.experts.records", 2, table}});
    writer.write(0, 1, random_record(table, 1));
    EXPECT_FALSE(std::filesystem::exists(directory.file("experts")));
  }
  EXPECT_TRUE(directory.names().empty());
}

TEST(RecordWriter, UnfinishedFileIsNoSafetensorsFile) {
  const TemporaryDirectory directory;
  const RecordTable table = plain_table(8, 8);
  RecordWriter writer(directory.file("experts"), {{"a.experts.records", 2, table}});
  writer.write(0, 0, random_record(table, 0));
  writer.write(0, 1, random_record(table, 1));
  ASSERT_EQ(directory.names().size(), 1);
  EXPECT_THROW(read_safetensors_header(directory.file(directory.names()[0])), Error);
}

TEST(RecordWriter, NamesThePathThatCannotBeWritten) {
  try {
    RecordWriter writer("/nowhere/experts", {{"a.experts.records", 1, plain_table(8, 8)}});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("/nowhere/experts"), std::string::npos);
  }
}

TEST(RecordWriter, ANameTwiceIsRefused) {
  const TemporaryDirectory directory;
  const RecordTable table = plain_table(8, 8);
  EXPECT_THROW(RecordWriter(directory.file("experts"), {{"a", 1, table}, {"a", 1, table}}), Error);
  EXPECT_TRUE(directory.names().empty());
}

}  // namespace
}  // namespace sluice
