#include "io/safetensors_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "io/error.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

const std::vector<TensorInfo> kTensors = {
    {.name = "b \"quoted\" \u00e9", .dtype = DType::bf16, .shape = {2, 2}},
    {.name = "nothing", .dtype = DType::f32, .shape = {0, 5}},
    {.name = "a", .dtype = DType::u8, .shape = {3}}};

TEST(SafetensorsWriter, WhatIsWrittenIsReadBack) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.safetensors");
  SafetensorsWriter writer(path, kTensors, {.metadata = {{"format", "pt"}, {"k\n", "v\t"}}});
  writer.write(bytes_of("01234"));
  writer.write({});
  writer.write(bytes_of("567abc"));
  writer.finish();

  const SafetensorsHeader header = read_safetensors_header(path);
  ASSERT_EQ(header.tensors.size(), 3u);
  EXPECT_EQ(header.metadata.at("k\n"), "v\t");
  const std::string file = content(path);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(header.tensors[i].name, kTensors[i].name);
    EXPECT_EQ(header.tensors[i].dtype, kTensors[i].dtype);
    EXPECT_EQ(header.tensors[i].shape, kTensors[i].shape);
  }
  EXPECT_EQ(file.substr(header.tensors[0].offset, 8), "01234567");
  EXPECT_EQ(file.substr(header.tensors[2].offset, 3), "abc");
}

TEST(SafetensorsWriter, DataBeginsAtTheAlignmentAskedFor) {
  const TemporaryDirectory directory;
  for (const uint32_t alignment : {1u, 8u, 64u, 4096u}) {
    for (size_t length = 1; length < 20; ++length) {
      const std::string path = directory.file("x.safetensors");
      SafetensorsWriter writer(
          path, {{.name = std::string(length, 'n'), .dtype = DType::u8, .shape = {1}}},
          {.metadata = {}, .data_alignment = alignment});
      writer.write(bytes_of("x"));
      writer.finish();
      EXPECT_EQ(read_safetensors_header(path).tensors[0].offset % alignment, 0u);
    }
  }
}

TEST(SafetensorsWriter, NoTensorsAreALegalFile) {
  const TemporaryDirectory directory;
  SafetensorsWriter(directory.file("x"), {}, {}).finish();
  EXPECT_THAT(read_safetensors_header(directory.file("x")).tensors, IsEmpty());
}

TEST(SafetensorsWriter, UntilItIsFinishedThePathHoldsWhatItHeld) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("x.safetensors", std::string_view("old"));
  {
    SafetensorsWriter writer(path, kTensors, {});
    writer.write(bytes_of("01234567ab"));
    EXPECT_EQ(content(path), "old");
    EXPECT_EQ(directory.names().size(), 2u);
  }
  EXPECT_EQ(content(path), "old");
  EXPECT_THAT(directory.names(), ElementsAre("x.safetensors"));

  SafetensorsWriter writer(path, kTensors, {});
  writer.write(bytes_of("01234567abc"));
  writer.finish();
  EXPECT_EQ(read_safetensors_header(path).tensors.size(), 3u);
  EXPECT_THAT(directory.names(), ElementsAre("x.safetensors"));
}

TEST(SafetensorsWriter, AProcessThatIsKilledLeavesThePathAsItWas) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("x.safetensors", std::string_view("old"));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    SafetensorsWriter writer(path, kTensors, {});
    writer.write(bytes_of("01234567ab"));
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(content(path), "old");
  for (const std::string& name : directory.names()) {
    if (name != "x.safetensors") {
      EXPECT_THAT(name, testing::EndsWith(".partial"));
    }
  }
}

TEST(SafetensorsWriter, TwoWritersOfOnePathDoNotMix) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x");
  const std::vector<TensorInfo> one = {{.name = "a", .dtype = DType::u8, .shape = {4}}};
  SafetensorsWriter first(path, one, {});
  SafetensorsWriter second(path, one, {});
  first.write(bytes_of("1111"));
  second.write(bytes_of("2222"));
  second.finish();
  EXPECT_THAT(content(path), testing::EndsWith("2222"));
  first.finish();
  EXPECT_THAT(content(path), testing::EndsWith("1111"));
  EXPECT_THAT(directory.names(), ElementsAre("x"));
}

TEST(SafetensorsWriter, TensorsThatNoReaderWouldAcceptAreRefusedAndNothingIsLeft) {
  const TemporaryDirectory directory;
  const auto refused = [&](std::vector<TensorInfo> tensors,
                           SafetensorsWriter::Options options = {}) {
    EXPECT_THROW(SafetensorsWriter(directory.file("x"), std::move(tensors), std::move(options)),
                 Error);
  };
  refused({{.name = "a", .dtype = DType::u8, .shape = {1}},
           {.name = "a", .dtype = DType::u8, .shape = {1}}});
  refused({{.name = "\xff", .dtype = DType::u8, .shape = {1}}});
  refused({{.name = "__metadata__", .dtype = DType::u8, .shape = {1}}});
  refused({{.name = "a", .dtype = DType::f32, .shape = {uint64_t{1} << 62, 2}}});
  refused({{.name = "a", .dtype = DType::u8, .shape = {~uint64_t{0}}},
           {.name = "b", .dtype = DType::u8, .shape = {~uint64_t{0}}}});
  refused({{.name = "a", .dtype = DType::u8, .shape = {~uint64_t{0}}}});
  refused({}, {.metadata = {{"k", "\xc3"}}});
  EXPECT_THAT(directory.names(), IsEmpty());
}

TEST(SafetensorsWriter, ADirectoryThatIsNotThereIsNamed) {
  const TemporaryDirectory directory;
  try {
    SafetensorsWriter(directory.file("absent/x"), {}, {});
    FAIL() << "was created";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr("absent/x"), HasSubstr("create its directory")));
  }
}

// A disk that is full, as far as a test can make one: a limit on the file's size.
TEST(SafetensorsWriter, AFileThatCannotGrowIsAnErrorAndLeavesNothing) {
  const TemporaryDirectory directory;
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const rlimit limit{.rlim_cur = 64 * 1024, .rlim_max = old_limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::string message;
  try {
    SafetensorsWriter writer(directory.file("x"),
                             {{.name = "a", .dtype = DType::u8, .shape = {1 << 20}}}, {});
    writer.write(std::vector<std::byte>(1 << 20));
  } catch (const Error& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(message, HasSubstr("larger than the filesystem"));
  EXPECT_THAT(directory.names(), IsEmpty());
}

TEST(WriteTextFile, ReplacesTheFileWhole) {
  const TemporaryDirectory directory;
  const std::string path =
      directory.write("config.json", std::string_view("a much longer old text"));
  write_text_file(path, "{}");
  EXPECT_EQ(content(path), "{}");
  EXPECT_THAT(directory.names(), ElementsAre("config.json"));
}

TEST(WriteTextFile, ANameThatCannotBeTakenIsAnErrorAndLeavesNothing) {
  const TemporaryDirectory directory;
  std::filesystem::create_directories(directory.file("taken/by a directory"));
  EXPECT_THROW(write_text_file(directory.file("taken"), "{}"), Error);
  EXPECT_THAT(directory.names(), ElementsAre("taken"));
}

}  // namespace
}  // namespace sluice
