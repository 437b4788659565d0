// The table of a record: what it says comes back, and what lies is refused.

#include "stream/record_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "io/checksum.h"
#include "io/error.h"

namespace sluice {
namespace {

using nlohmann::json;

RecordTable turboquant_table(uint32_t codebook_length = 8,
                             MatrixLayout layout = MatrixLayout::rows) {
  const auto projection = [&](const char* name, uint32_t rows, uint32_t cols) {
    return RecordProjection{.name = name,
                            .rows = rows,
                            .cols = cols,
                            .format = WeightFormat::turboquant,
                            .dtype = DType::u32,
                            .layout = layout,
                            .group = 32,
                            .codebook_length = codebook_length};
  };
  return lay_out_record({projection("gate_proj", 48, 64), projection("up_proj", 48, 64),
                         projection("down_proj", 64, 96)});
}

RecordTable plain_table_with_biases() {
  return lay_out_record({{.name = "gate_proj", .rows = 5, .cols = 7, .dtype = DType::bf16},
                         {.name = "up_proj", .rows = 5, .cols = 7, .dtype = DType::f16},
                         {.name = "down_proj", .rows = 7, .cols = 5, .dtype = DType::f32}},
                        true);
}

RecordTable scaled_table(const ScaledForm& form, MatrixLayout layout = MatrixLayout::rows) {
  const auto projection = [&](const char* name, uint32_t rows, uint32_t cols) {
    RecordProjection result;
    result.name = name;
    result.rows = rows;
    result.cols = cols;
    result.format = form.format;
    result.layout = layout;
    result.scaled = form;
    return result;
  };
  return lay_out_record({projection("gate_proj", 40, 64), projection("down_proj", 64, 96)}, true);
}

const ScaledForm kMxfp4{.format = WeightFormat::mxfp4, .group = 32};
const ScaledForm kF8{.format = WeightFormat::f8_blocks, .group = 32, .block_rows = 16};
const ScaledForm kAffine{
    .format = WeightFormat::affine, .group = 32, .bits = 5, .scale_dtype = DType::bf16};

std::string parse_error(const std::string& text, uint64_t record_bytes) {
  try {
    parse_record_table(text, record_bytes, "x.safetensors: a.records");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// The error that a table gives after one change to its JSON; "" if it is still accepted.
std::string error_after(const RecordTable& table, const std::function<void(json&)>& change) {
  json value = json::parse(record_table_text(table));
  change(value);
  return parse_error(value.dump(), table.record_bytes);
}

TEST(RecordFormat, TableComesBackAsItWas) {
  for (const RecordTable& table : {turboquant_table(3), turboquant_table(8), turboquant_table(16),
                                   plain_table_with_biases()}) {
    const std::string text = record_table_text(table);
    const RecordTable again = parse_record_table(text, table.record_bytes, "test");
    EXPECT_EQ(record_table_text(again), text);
    EXPECT_EQ(again.record_bytes, table.record_bytes);
  }
}

TEST(RecordFormat, PartsAreAlignedApartAndLeaveRoomForTheTail) {
  for (const RecordTable& table : {turboquant_table(), plain_table_with_biases()}) {
    uint64_t end = 0;
    for (const RecordProjection& projection : table.projections) {
      for (const RecordPart& part : {projection.data, projection.scales, projection.bias}) {
        if (part.size_bytes == 0) continue;
        EXPECT_EQ(part.offset % kPartAlignment, 0);
        EXPECT_GE(part.offset, end);
        end = part.offset + part.size_bytes;
      }
    }
    EXPECT_EQ(table.record_bytes % kRecordAlignment, 0);
    EXPECT_GE(table.record_bytes, end + kRecordTailBytes);
    EXPECT_LT(table.record_bytes, end + kRecordTailBytes + kRecordAlignment);
  }
}

TEST(RecordFormat, SizesFollowFromShapes) {
  const RecordTable table = turboquant_table(8);
  EXPECT_EQ(table.projections[0].data.size_bytes, 48 * 7 * 4);  // 64 indices: 7 words of 10
  EXPECT_EQ(table.projections[0].scales.size_bytes, 48 * 2 * 2);
  EXPECT_EQ(table.projections[2].data.size_bytes, 64 * 10 * 4);
  const RecordTable tiles = turboquant_table(8, MatrixLayout::tiles);
  EXPECT_EQ(tiles.projections[0].data.size_bytes, 48 * 64 * 3 / 8);  // 3 bits, nothing lost
  EXPECT_EQ(tiles.projections[0].scales.size_bytes, 48 * 2 * 2);
  const RecordTable plain = plain_table_with_biases();
  EXPECT_EQ(plain.projections[0].data.size_bytes, 5 * 7 * 2);
  EXPECT_EQ(plain.projections[2].data.size_bytes, 5 * 7 * 4);
  EXPECT_EQ(plain.projections[2].bias.size_bytes, 7 * 2);
}

TEST(RecordFormat, FormatsWithScalesComeBackWithTheSizesOfTheirParts) {
  for (const auto& [table, sizes] : std::vector<std::pair<RecordTable, std::vector<uint64_t>>>{
           {scaled_table(kMxfp4), {64 * 48, 64 * 3, 0}},
           {scaled_table(kMxfp4, MatrixLayout::tiles), {64 * 48, 64 * 3, 0}},
           {scaled_table(kF8), {64 * 96, 4 * 3 * 4, 0}},
           {scaled_table(kAffine), {64 * 60, 64 * 3 * 2, 64 * 3 * 2}}}) {
    const std::string text = record_table_text(table);
    const RecordTable back = parse_record_table(text, table.record_bytes, "x");
    EXPECT_EQ(record_table_text(back), text);
    const RecordProjection& down = back.projections[1];
    EXPECT_EQ(down.scaled, table.projections[1].scaled) << text;
    EXPECT_EQ(down.layout, table.projections[1].layout);
    EXPECT_EQ(down.data.size_bytes, sizes[0]) << text;
    EXPECT_EQ(down.scales.size_bytes, sizes[1]) << text;
    EXPECT_EQ(down.biases.size_bytes, sizes[2]) << text;
    EXPECT_EQ(down.bias.size_bytes, 64u * 2);
  }
  // Tiles of 16 rows: 40 are three.
  EXPECT_EQ(scaled_table(kMxfp4, MatrixLayout::tiles).projections[0].data.size_bytes, 48u * 32);
}

TEST(RecordFormat, RefusesFormatsWithScalesThatCannotBe) {
  const auto error = [](const ScaledForm& form, const char* key, const json& value) {
    return error_after(scaled_table(form),
                       [&](json& table) { table["projections"][0][key] = value; });
  };
  EXPECT_NE(error(kMxfp4, "cols", 40), "");
  EXPECT_NE(error(kMxfp4, "layout", "columns"), "");
  EXPECT_NE(error(kMxfp4, "group", 32), "");
  for (const json& block : {json{32}, json{16, 24}, json{0, 32}, json{16, 1u << 25}, json("x")}) {
    EXPECT_NE(error(kF8, "block", block), "") << block;
  }
  EXPECT_NE(error(kF8, "scale_format", "F8_E4M3"), "");
  for (const uint32_t bits : {0u, 1u, 7u, 9u, 4u}) EXPECT_NE(error(kAffine, "bits", bits), "");
  EXPECT_NE(error(kAffine, "group", 48), "");
  EXPECT_NE(error(kAffine, "biases", json{0, 1}), "");
  EXPECT_NE(error(kAffine, "format", "affine2"), "");
}

TEST(RecordFormat, TilesPadTheirLastRows) {
  const RecordTable table = lay_out_record({{.name = "down_proj",
                                             .rows = 17,
                                             .cols = 96,
                                             .format = WeightFormat::turboquant,
                                             .dtype = DType::u32,
                                             .layout = MatrixLayout::tiles,
                                             .group = 32,
                                             .codebook_length = 16}});
  EXPECT_EQ(table.projections[0].data.size_bytes, 32 * 96 / 2);
  EXPECT_EQ(table.projections[0].scales.size_bytes, 32 * 3 * 2);
}

TEST(RecordFormat, TernaryTilesAreRefused) {
  EXPECT_NE(
      error_after(turboquant_table(3), [](json& v) { v["projections"][0]["layout"] = "tiles"; }),
      "");
}

TEST(RecordFormat, OtherVersionIsRefusedByName) {
  const std::string error =
      error_after(turboquant_table(), [](json& value) { value["version"] = 2; });
  EXPECT_THAT(error, testing::HasSubstr("version 2"));
  EXPECT_THAT(error, testing::HasSubstr("x.safetensors: a.records"));
}

TEST(RecordFormat, EveryLieIsRefused) {
  using Change = std::function<void(json&)>;
  const std::vector<std::pair<const char*, Change>> lies = {
      {"unaligned", [](json& v) { v["projections"][1]["data"][0] = 1601; }},
      {"overlap", [](json& v) { v["projections"][1]["data"][0] = 0; }},
      {"past the end", [](json& v) { v["projections"][2]["scales"][0] = 1 << 20; }},
      {"offset near 2^64", [](json& v) { v["projections"][2]["scales"][0] = 0xffffffffffffffc0u; }},
      {"no tail", [](json& v) { v["projections"][2]["scales"][0] = 8192 - 384; }},
      {"size too small", [](json& v) { v["projections"][0]["data"][1] = 4; }},
      {"negative offset", [](json& v) { v["projections"][0]["data"][0] = -64; }},
      {"fraction", [](json& v) { v["projections"][0]["data"][0] = 0.5; }},
      {"rows that need more", [](json& v) { v["projections"][0]["rows"] = 49; }},
      {"no rows", [](json& v) { v["projections"][0]["rows"] = 0; }},
      {"rows as text", [](json& v) { v["projections"][0]["rows"] = "48"; }},
      {"rows beyond the limit", [](json& v) { v["projections"][0]["rows"] = kMaxRecordSide + 1; }},
      {"a group that does not divide", [](json& v) { v["projections"][2]["group"] = 64; }},
      {"a group of 48", [](json& v) { v["projections"][2]["group"] = 48; }},
      {"a codebook of 5", [](json& v) { v["projections"][0]["codebook"] = 5; }},
      {"a codebook of 2^31", [](json& v) { v["projections"][0]["codebook"] = 1u << 31; }},
      {"tiles of the rows' size", [](json& v) { v["projections"][2]["layout"] = "tiles"; }},
      {"an unknown format", [](json& v) { v["projections"][0]["format"] = "Q4_K"; }},
      {"an unknown layout", [](json& v) { v["projections"][0]["layout"] = "columns"; }},
      {"an unknown key", [](json& v) { v["projections"][0]["shift"] = 1; }},
      {"an unknown key outside", [](json& v) { v["endian"] = "big"; }},
      {"no scales", [](json& v) { v["projections"][0].erase("scales"); }},
      {"no name", [](json& v) { v["projections"][0].erase("name"); }},
      {"a bias without its format",
       [](json& v) {
         v["projections"][0]["bias"] = {0, 96};
       }},
      {"no projections", [](json& v) { v["projections"] = json::array(); }},
      {"four projections", [](json& v) { v["projections"].push_back(json(v["projections"][0])); }},
      {"projections of another kind",
       [](json& v) {
         v["projections"] = {1, 2};
       }},
      {"no version", [](json& v) { v.erase("version"); }},
      {"a list", [](json& v) { v = json::array({v}); }},
  };
  const RecordTable table = turboquant_table();
  ASSERT_EQ(error_after(table, [](json&) {}), "");
  for (const auto& [name, change] : lies) EXPECT_NE(error_after(table, change), "") << name;
}

TEST(RecordFormat, WhatIsNoTableIsRefused) {
  const std::string text = record_table_text(turboquant_table());
  const uint64_t record_bytes = turboquant_table().record_bytes;
  for (const std::string& damaged :
       {std::string(), text.substr(0, text.size() / 2), text + text, std::string("null"),
        text + std::string(1, '\0'), std::string(kMaxRecordTableText + 1, ' ')}) {
    EXPECT_NE(parse_error(damaged, record_bytes), "");
  }
  for (const uint64_t other : {uint64_t{0}, record_bytes - 4096, record_bytes + 1}) {
    EXPECT_NE(parse_error(text, other), "") << other;
  }
}

TEST(RecordFormat, ChecksumsComeBackAndDamageIsRefused) {
  const std::vector<uint64_t> checksums = {0, 1, 0xfedcba9876543210, ~uint64_t{0}};
  const std::string text = record_checksums_text(checksums);
  EXPECT_EQ(text.substr(32, 16), "fedcba9876543210");
  EXPECT_EQ(parse_record_checksums(text, 4, "test"), checksums);
  EXPECT_THROW(parse_record_checksums(text, 5, "test"), Error);
  EXPECT_THROW(parse_record_checksums(text.substr(1), 4, "test"), Error);
  EXPECT_THROW(parse_record_checksums("X" + text.substr(1), 4, "test"), Error);
  EXPECT_THROW(parse_record_checksums("A" + text.substr(1), 4, "test"), Error);
}

// The value that every implementation of XXH3 gives for no bytes: files outlive libraries.
TEST(Checksum, IsXxh3) { EXPECT_EQ(checksum_text(checksum({})), "2d06800538d394c2"); }

}  // namespace
}  // namespace sluice
