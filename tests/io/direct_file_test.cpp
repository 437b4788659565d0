#include "io/direct_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "io/error.h"
#include "tests/io/temporary_directory.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

std::string refusal(const std::string& path) {
  try {
    const DirectFile file(path);
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(path));
    return error.what();
  }
  ADD_FAILURE() << path << " was opened";
  return "";
}

bool flag_is_direct(const DirectFile& file) {
  return (::fcntl(file.fd(), F_GETFL) & O_DIRECT) != 0;
}

TEST(DirectFile, IsDirectWithAUsableAlignmentWhereTheFilesystemAllows) {
  const TemporaryDirectory directory;
  const DirectFile file(directory.write("x", std::string(10'000, 'x')));
  EXPECT_EQ(file.size_bytes(), 10'000u);
  EXPECT_EQ(flag_is_direct(file), file.direct());
  EXPECT_EQ(file.direct(), file.buffered_reason().empty());
  if (!file.direct()) {
    EXPECT_EQ(file.alignment(), 1u);
    GTEST_SKIP() << "no direct reads in " << directory.path() << ": " << file.buffered_reason();
  }
  EXPECT_TRUE(std::has_single_bit(file.alignment()));
  EXPECT_GE(file.alignment(), 512u);
  EXPECT_LE(file.alignment(), 4096u);
  // The last block is short: the read stops where the file does.
  const std::unique_ptr<void, decltype(&std::free)> block(std::aligned_alloc(4096, 4096),
                                                          &std::free);
  EXPECT_EQ(::pread(file.fd(), block.get(), 4096, 8192), 10'000 - 8192);
  EXPECT_EQ(static_cast<char*>(block.get())[10'000 - 8192 - 1], 'x');
}

TEST(DirectFile, IsBufferedWhenThatIsAskedFor) {
  const TemporaryDirectory directory;
  const DirectFile file(directory.write("x", std::string_view("abc")), false);
  EXPECT_FALSE(file.direct());
  EXPECT_FALSE(flag_is_direct(file));
  EXPECT_EQ(file.alignment(), 1u);
  EXPECT_THAT(file.buffered_reason(), HasSubstr("asked"));
  char byte = 0;
  EXPECT_EQ(::pread(file.fd(), &byte, 1, 1), 1);
  EXPECT_EQ(byte, 'b');
}

TEST(DirectFile, IsBufferedInMemoryFilesystems) {
  const std::filesystem::path shared_memory = "/dev/shm";
  struct statfs status;
  if (::statfs(shared_memory.c_str(), &status) != 0 || status.f_type != TMPFS_MAGIC ||
      ::access(shared_memory.c_str(), W_OK) != 0) {
    GTEST_SKIP() << "no writable tmpfs at " << shared_memory;
  }
  const TemporaryDirectory directory(shared_memory);
  const DirectFile file(directory.write("x", std::string(5000, 'x')));
  EXPECT_FALSE(file.direct());
  EXPECT_FALSE(flag_is_direct(file));
  EXPECT_THAT(file.buffered_reason(), HasSubstr("memory"));
  char byte = 0;
  EXPECT_EQ(::pread(file.fd(), &byte, 1, 4999), 1);
}

TEST(DirectFile, IsBufferedWhenEmpty) {
  const TemporaryDirectory directory;
  const DirectFile file(directory.write("x", std::string_view()));
  EXPECT_FALSE(file.direct());
  EXPECT_EQ(file.size_bytes(), 0u);
  EXPECT_THAT(file.buffered_reason(), HasSubstr("empty"));
}

TEST(DirectFile, IsBlockingSoThatQueuesMayWaitForIt) {
  const TemporaryDirectory directory;
  const DirectFile file(directory.write("x", std::string_view("abc")));
  EXPECT_EQ(::fcntl(file.fd(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(DirectFile, WhatIsNotARegularFileIsRefusedWithoutWaitingForIt) {
  const TemporaryDirectory directory;
  EXPECT_THAT(refusal(directory.path().string()), HasSubstr("a directory"));
  EXPECT_THAT(refusal(directory.file("absent")), HasSubstr("No such file"));
  EXPECT_THAT(refusal("/dev/null"), HasSubstr("a character device"));
  const std::string fifo = directory.file("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(refusal(fifo), HasSubstr("a FIFO"));

  const std::string socket_path = directory.file("socket");
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(socket_path.size(), sizeof(address.sun_path));
  std::memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  ASSERT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_NE(refusal(socket_path), "");
  ::close(socket);
}

TEST(DirectFile, FollowsSymlinks) {
  const TemporaryDirectory directory;
  directory.write("blob", std::string_view("abc"));
  std::filesystem::create_symlink("blob", directory.file("name"));
  EXPECT_EQ(DirectFile(directory.file("name")).size_bytes(), 3u);
  std::filesystem::create_symlink("circle", directory.file("circle"));
  EXPECT_THAT(refusal(directory.file("circle")), HasSubstr("circle"));
}

TEST(DirectFile, MovesWithItsIdentityAndClosesOnce) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("x", std::string_view("abc"));
  DirectFile first(path);
  DirectFile second(path);
  EXPECT_NE(first.id(), second.id());
  const uint64_t id = first.id();
  const int fd = first.fd();
  const int closed = second.fd();
  second = std::move(first);
  EXPECT_EQ(second.id(), id);
  EXPECT_EQ(second.fd(), fd);
  EXPECT_EQ(second.path(), path);
  EXPECT_EQ(::fcntl(closed, F_GETFD), -1);
  EXPECT_NE(::fcntl(fd, F_GETFD), -1);
}

TEST(DirectFile, ForgetDropsABufferedRangeFromThePageCache) {
  const TemporaryDirectory directory;
  const size_t size = 1 << 20;
  const DirectFile file(directory.write("x", std::string(size, 'x')), false);
  ASSERT_EQ(::fsync(file.fd()), 0);  // dirty pages stay
  std::string text(size, ' ');
  ASSERT_EQ(::pread(file.fd(), text.data(), size, 0), static_cast<ssize_t>(size));
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd(), 0);
  ASSERT_NE(map, MAP_FAILED);
  const auto resident = [&] {
    std::vector<unsigned char> pages(size / 4096);
    EXPECT_EQ(::mincore(map, size, pages.data()), 0);
    size_t count = 0;
    for (const unsigned char page : pages) count += page & 1;
    return count;
  };
  const size_t before = resident();
  file.forget(0, size);
  const size_t after = resident();
  ::munmap(map, size);
  if (before == 0) GTEST_SKIP() << "this kernel does not show the page cache";
  struct statfs status;
  ASSERT_EQ(::fstatfs(file.fd(), &status), 0);
  if (status.f_type == TMPFS_MAGIC) GTEST_SKIP() << "files in tmpfs are the page cache";
  EXPECT_LT(after, before / 10);
}

}  // namespace
}  // namespace sluice
