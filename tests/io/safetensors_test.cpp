#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/error.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A file's bytes: length, header, zeros as data.
std::string shard(const std::string& json, size_t data_bytes) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(uint64_t{json.size()} >> (8 * i) & 0xff);
  return file + json + std::string(data_bytes, '\0');
}

SafetensorsHeader parse(const std::string& json, uint64_t data_bytes) {
  return parse_safetensors_header(json, 8 + json.size() + data_bytes, "test.safetensors");
}

// The message with which a header is refused; fails the test if it is not.
std::string refusal(const std::string& json, uint64_t data_bytes) {
  try {
    parse(json, data_bytes);
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("test.safetensors"));
    return error.what();
  }
  ADD_FAILURE() << "was accepted: " << json.substr(0, 200);
  return "";
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   uint64_t begin, uint64_t end) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape +
         R"(,"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

// "{a,b,...}"
std::string object(const std::vector<std::string>& entries) {
  std::string json(1, '{');
  for (const std::string& entry : entries) {
    if (json.size() > 1) json += ',';
    json += entry;
  }
  return json += '}';
}

const std::string kTwoTensors = R"({"__metadata__":{"format":"pt","a":""},)" +
                                tensor("b", "F32", "[2,3]", 4, 28) + "," +
                                tensor("a", "BF16", "[2]", 0, 4) + "}  ";

TEST(Safetensors, TensorsComeInTheOrderOfTheirOffsets) {
  const SafetensorsHeader header = parse(kTwoTensors, 28);
  ASSERT_EQ(header.tensors.size(), 2u);
  const TensorInfo& a = header.tensors[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, DType::bf16);
  EXPECT_THAT(a.shape, ElementsAre(2));
  EXPECT_EQ(a.offset, 8 + kTwoTensors.size());
  EXPECT_EQ(a.size_bytes, 4u);
  const TensorInfo& b = header.tensors[1];
  EXPECT_EQ(b.name, "b");
  EXPECT_THAT(b.shape, ElementsAre(2, 3));
  EXPECT_EQ(b.offset, 8 + kTwoTensors.size() + 4);
  EXPECT_EQ(b.size_bytes, 24u);
  EXPECT_EQ(header.metadata.at("format"), "pt");
  EXPECT_EQ(header.metadata.at("a"), "");
  EXPECT_EQ(header.file_bytes, 8 + kTwoTensors.size() + 28);
}

TEST(Safetensors, EveryDtypeHasItsNameAndSize) {
  const std::vector<std::pair<std::string, uint32_t>> dtypes = {
      {"F64", 8},     {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
      {"F8_E8M0", 1}, {"I64", 8}, {"I32", 4}, {"I16", 2},  {"I8", 1},      {"U64", 8},
      {"U32", 4},     {"U16", 2}, {"U8", 1},  {"BOOL", 1}};
  for (const auto& [name, bytes] : dtypes) {
    const SafetensorsHeader header =
        parse(object({tensor("x", name, "[3]", 0, 3 * bytes)}), 3 * bytes);
    EXPECT_EQ(dtype_name(header.tensors[0].dtype), name);
    EXPECT_EQ(dtype_bytes(header.tensors[0].dtype), bytes);
  }
}

TEST(Safetensors, ScalarsAndTensorsOfNoBytesAreLegal) {
  const SafetensorsHeader header =
      parse(object({tensor("one", "F32", "[]", 0, 4), tensor("rest", "U8", "[4]", 4, 8),
                    tensor("none", "F32", "[0,7]", 4, 4), tensor("end", "I8", "[2,0]", 8, 8)}),
            8);
  std::vector<std::string> names;
  for (const TensorInfo& info : header.tensors) names.push_back(info.name);
  EXPECT_THAT(names, ElementsAre("one", "none", "rest", "end"));
  EXPECT_TRUE(parse("{}", 0).tensors.empty());
}

TEST(Safetensors, EveryTruncationOfAHeaderIsRefused) {
  const std::string whole = kTwoTensors.substr(0, kTwoTensors.size() - 2);
  ASSERT_NO_THROW(parse(whole, 28));
  for (size_t length = 0; length < whole.size(); ++length) refusal(whole.substr(0, length), 28);
}

TEST(Safetensors, EveryTruncationOfAFileIsRefused) {
  const TemporaryDirectory directory;
  const std::string whole = shard(kTwoTensors, 28);
  const std::string path = directory.write("x.safetensors", whole);
  ASSERT_NO_THROW(read_safetensors_header(path));
  for (size_t length = whole.size(); length-- > 0;) {
    std::filesystem::resize_file(path, length);
    EXPECT_THROW(read_safetensors_header(path), Error) << length;
  }
}

TEST(Safetensors, BytesBehindTheLastTensorAreRefused) {
  EXPECT_THAT(refusal(kTwoTensors, 29), HasSubstr("expected no bytes behind it"));
}

TEST(Safetensors, HolesAreRefused) {
  EXPECT_THAT(refusal(object({tensor("a", "U8", "[4]", 4, 8)}), 8), HasSubstr("after a hole"));
  EXPECT_THAT(refusal(object({tensor("a", "U8", "[4]", 0, 4), tensor("b", "U8", "[4]", 5, 9)}), 9),
              HasSubstr("\"b\""));
}

TEST(Safetensors, OverlapIsRefused) {
  const std::string a = tensor("a", "U8", "[4]", 0, 4);
  for (const std::string& b : {tensor("b", "U8", "[4]", 3, 7), tensor("b", "U8", "[4]", 0, 4),
                               tensor("b", "U8", "[2]", 1, 3), tensor("b", "U8", "[0]", 2, 2)}) {
    EXPECT_THAT(refusal(object({a, b}), 7), HasSubstr("inside the one before it"));
  }
}

TEST(Safetensors, ASizeThatDisagreesWithTheShapeIsRefused) {
  for (const auto& [begin, end] : {std::pair(0, 23), std::pair(0, 25), std::pair(0, 0)}) {
    EXPECT_THAT(refusal(object({tensor("a", "F32", "[2,3]", static_cast<uint64_t>(begin),
                                       static_cast<uint64_t>(end))}),
                        24),
                HasSubstr("needs 24 bytes"));
  }
  EXPECT_THAT(refusal(object({tensor("a", "U8", "[4]", 4, 0)}), 4), HasSubstr("before they begin"));
}

TEST(Safetensors, AShapeWhoseProductOverflowsIsRefused) {
  for (const std::string shape : {"[4294967296,4294967296]", "[9223372036854775808,2]",
                                  "[18446744073709551615]", "[3,6148914691236517206,4]"}) {
    EXPECT_THAT(refusal(object({tensor("a", "F16", shape, 0, 0)}), 0), HasSubstr("2^64"));
  }
}

TEST(Safetensors, OffsetsBeyondAnyFileAreRefused) {
  const uint64_t huge = ~uint64_t{0};
  refusal(object({tensor("a", "U8", "[1]", huge - 1, huge)}), 1);
  refusal(object({tensor("a", "U8", "[0]", huge, huge)}), 1);
  refusal(object({tensor("a", "U8", "[18446744073709551615]", 0, huge)}), 1);
}

TEST(Safetensors, NumbersOtherThanUnsignedIntegersAreRefused) {
  for (const std::string number :
       {"-1", "-0", "1.0", "1e3", "18446744073709551616", "\"4\"", "null", "true", "[]", "{}"}) {
    const std::string shape =
        R"({"a":{"dtype":"U8","shape":[)" + number + R"(],"data_offsets":[0,1]}})";
    EXPECT_THAT(refusal(shape, 1), HasSubstr("shape")) << number;
    const std::string offsets =
        R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,)" + number + "]}}";
    EXPECT_THAT(refusal(offsets, 1), HasSubstr("data_offsets")) << number;
  }
}

TEST(Safetensors, IntegersAreReadWithoutLossOfPrecision) {
  // 2^53 + 1 is the first integer that a double cannot hold.
  EXPECT_THAT(refusal(object({tensor("a", "U8", "[9007199254740993]", 0, 9007199254740992)}), 0),
              HasSubstr("needs 9007199254740993 bytes"));
}

TEST(Safetensors, DuplicatesAreRefused) {
  const std::string a = tensor("a", "U8", "[4]", 0, 4);
  EXPECT_THAT(refusal(object({a, tensor("a", "U8", "[4]", 4, 8)}), 8),
              HasSubstr("two tensors are named \"a\""));
  // The same name, written in two ways.
  refusal(object({a, tensor("\\u0061", "U8", "[4]", 4, 8)}), 8);
  refusal(R"({"__metadata__":{},"__metadata__":{},)" + a + "}", 4);
  refusal(R"({"__metadata__":{"k":"v","k":"v"},)" + a + "}", 4);
  EXPECT_THAT(refusal(R"({"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4),
              HasSubstr("\"dtype\" twice"));
}

TEST(Safetensors, AnUnknownDtypeIsRefusedByName) {
  EXPECT_THAT(refusal(object({tensor("a", "F4", "[4]", 0, 2)}), 2),
              testing::AllOf(HasSubstr("unknown dtype \"F4\""), HasSubstr("BF16")));
  refusal(object({tensor("a", "f32", "[1]", 0, 4)}), 4);
}

TEST(Safetensors, MetadataOtherThanStringsIsRefused) {
  for (const std::string value : {"1", "null", "true", "[]", "{}", "1.5", "-1", "[\"x\"]"}) {
    EXPECT_THAT(refusal(R"({"__metadata__":{"k":)" + value + "}}", 0),
                HasSubstr("expected a string"));
    EXPECT_THAT(refusal(R"({"__metadata__":)" + (value == "{}" ? "[]" : value) + "}", 0),
                HasSubstr("expected an object"));
  }
}

TEST(Safetensors, FormsOtherThanTheOneAllowedAreRefused) {
  for (const std::string json :
       {"",
        " {}",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{} x",
        "{}{}",
        "{\"a\":1}",
        "{\"a\":[]}",
        "{\"a\":{}}",
        "{\"a\":null}",
        "\xef\xbb\xbf{}",
        "{\"a\xff\":{}}",
        "{\"a\":1e999}",
        "{'a':{}}",
        "{} // end",
        R"({"a":{"dtype":"U8","shape":[0]}})",
        R"({"a":{"dtype":"U8","data_offsets":[0,0]}})",
        R"({"a":{"shape":[0],"data_offsets":[0,0]}})",
        R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}})",
        R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[]}})",
        R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}})",
        R"({"a":{"dtype":"U8","shape":0,"data_offsets":[0,0]}})",
        R"({"a":{"dtype":"U8","shape":[0],"data_offsets":0}})",
        R"({"a":{"dtype":7,"shape":[0],"data_offsets":[0,0]}})",
        R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"more":1}})"}) {
    refusal(json, 0);
  }
}

TEST(Safetensors, ANulDoesNotHideWhatFollowsIt) {
  using namespace std::string_literals;
  EXPECT_THAT(refusal("{}\0"s, 0), HasSubstr("NUL"));
  EXPECT_THAT(refusal("{}\0garbage"s, 0), HasSubstr("NUL"));
}

TEST(Safetensors, DeepNestingIsRefusedAtItsFirstLevel) {
  const size_t depth = 1'000'000;
  refusal(std::string(depth, '['), 0);
  refusal("{\"a\":" + std::string(depth, '['), 0);
  refusal(R"({"a":{"dtype":"U8","shape":)" + std::string(depth, '['), 0);
  std::string objects;
  for (size_t i = 0; i < depth; ++i) objects += "{\"a\":";
  refusal(objects, 0);
}

TEST(Safetensors, AShapeHasABoundedNumberOfDimensions) {
  const auto ones = [](size_t rank) {
    std::string shape = "[1";
    for (size_t i = 1; i < rank; ++i) shape += ",1";
    return shape + "]";
  };
  EXPECT_EQ(
      parse(object({tensor("a", "U8", ones(kMaxTensorRank), 0, 1)}), 1).tensors[0].shape.size(),
      kMaxTensorRank);
  EXPECT_THAT(refusal(object({tensor("a", "U8", ones(kMaxTensorRank + 1), 0, 1)}), 1),
              HasSubstr("dimensions"));
}

TEST(Safetensors, MessagesShowOnlyTheBeginningOfALongName) {
  const std::string name(1'000'000, 'x');
  EXPECT_LT(refusal(object({tensor(name, "F32", "[1]", 0, 3)}), 3).size(), 1000u);
  EXPECT_LT(refusal("{\"" + name, 3).size(), 1000u);
}

TEST(Safetensors, AHeaderLengthBeyondFileOrLimitIsRefused) {
  const TemporaryDirectory directory;
  const auto length_of = [](uint64_t value) {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
    return bytes;
  };
  for (const uint64_t length : {uint64_t{3}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    const std::string path = directory.write("x.safetensors", length_of(length) + "{}");
    EXPECT_THROW(read_safetensors_header(path), Error) << length;
  }
  // Long enough a file (a sparse one), but more of a header than the format allows.
  const std::string path = directory.write("y.safetensors", length_of(kMaxHeaderBytes + 1) + "{}");
  std::filesystem::resize_file(path, 2 * kMaxHeaderBytes);
  try {
    read_safetensors_header(path);
    FAIL() << "was accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("100000000"));
  }
}

TEST(Safetensors, WhatIsNotARegularFileIsRefused) {
  const TemporaryDirectory directory;
  EXPECT_THROW(read_safetensors_header(directory.path().string()), Error);
  EXPECT_THROW(read_safetensors_header(directory.file("absent")), Error);
  EXPECT_THROW(read_safetensors_header("/dev/null"), Error);
  EXPECT_THROW(read_safetensors_header(directory.write("empty", std::string_view())), Error);
}

TEST(Safetensors, HeadersOfPublishedSizeAreRead) {
  std::string json = "{";
  const uint64_t count = 20'000;
  for (uint64_t i = 0; i < count; ++i) {
    if (i > 0) json += ',';
    json += tensor("model.layers." + std::to_string(i / 256) + ".mlp.experts." +
                       std::to_string(i % 256) + ".gate_proj.weight",
                   "BF16", "[2,1]", 4 * i, 4 * i + 4);
  }
  EXPECT_EQ(parse(json + "}", 4 * count).tensors.size(), count);
}

// The seeds of the fuzzer: a data size (4 bytes, little-endian), then a header.
TEST(Safetensors, EverySeedOfTheFuzzerIsReadOrRefused) {
  size_t seeds = 0;
  size_t read = 0;
  const std::filesystem::path corpus =
      std::filesystem::path(SLUICE_TEST_DATA).parent_path() / "fuzz/corpus/safetensors";
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    ASSERT_GE(bytes.size(), 4u) << entry.path();
    uint64_t data_bytes = 0;
    for (size_t i = 4; i-- > 0;)
      data_bytes = data_bytes << 8 | static_cast<unsigned char>(bytes[i]);
    ++seeds;
    try {
      parse(bytes.substr(4), data_bytes);
      ++read;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(read, 0u);
  EXPECT_GT(seeds, read);
}

}  // namespace
}  // namespace sluice
