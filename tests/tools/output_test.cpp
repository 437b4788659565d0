#include "tools/output.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "io/error.h"
#include "tools/text_output.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Pipe {
  Pipe() { EXPECT_EQ(::pipe(ends), 0); }
  ~Pipe() {
    close_reader();
    close_writer();
  }
  void close_reader() {
    if (ends[0] >= 0) ::close(ends[0]);
    ends[0] = -1;
  }
  void close_writer() {
    if (ends[1] >= 0) ::close(ends[1]);
    ends[1] = -1;
  }
  // Everything until the writer is closed.
  std::string read_all() const {
    std::string text;
    char piece[4096];
    for (ssize_t size; (size = ::read(ends[0], piece, sizeof piece)) > 0;) {
      text.append(piece, static_cast<size_t>(size));
    }
    return text;
  }
  int ends[2] = {-1, -1};
};

TEST(Output, WritesAllOfALongTextToASlowReader) {
  for (const int flags : {0, O_NONBLOCK}) {
    Pipe pipe;
    ASSERT_EQ(::fcntl(pipe.ends[1], F_SETFL, flags), 0);
    const std::string text(1'000'000, 'x');  // more than a pipe holds
    std::string received;
    std::thread reader([&] { received = pipe.read_all(); });
    Output output(pipe.ends[1]);
    output.write(text);
    pipe.close_writer();
    reader.join();
    EXPECT_EQ(received.size(), text.size());
    EXPECT_FALSE(output.closed());
  }
}

TEST(Output, IsClosedWhenTheReaderIsGone) {
  Pipe pipe;
  Output output(pipe.ends[1]);
  pipe.close_reader();
  output.write("nobody hears this");
  EXPECT_TRUE(output.closed());
  output.write("nor this");
}

TEST(Output, NamesTheReasonWhenItCannotWrite) {
  const int full = ::open("/dev/full", O_WRONLY);
  if (full < 0) GTEST_SKIP() << "no /dev/full here";
  Output output(full);
  try {
    output.write("text");
    ADD_FAILURE() << "no Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("standard output"), HasSubstr("No space left")));
  }
  ::close(full);
}

TEST(TextOutput, PrintsIdsOnOneLineWithoutATokenizer) {
  Pipe pipe;
  Output output(pipe.ends[1]);
  TextOutput text(output, nullptr, {}, /*print_ids=*/true);
  text.add(12, false);
  text.add(0, false);
  text.add(7, true);
  text.finish();
  pipe.close_writer();
  EXPECT_EQ(pipe.read_all(), "12,0,7\n");
  EXPECT_FALSE(text.stopped());
}

}  // namespace
}  // namespace sluice
