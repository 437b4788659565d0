#include "tools/token_ids.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "io/error.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string error_of(const std::string& text) {
  try {
    parse_token_ids(text, "ids.txt");
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

class TokenIdFile : public testing::Test {
 protected:
  TokenIdFile() : path_(testing::TempDir() + "sluice_ids_" + std::to_string(::getpid())) {}
  ~TokenIdFile() override { std::remove(path_.c_str()); }
  void write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }
  std::string path_;
};

TEST(TokenIds, MayBeSeparatedByCommasAndWhiteSpace) {
  EXPECT_THAT(parse_token_ids("1,2,3", ""), ElementsAre(1u, 2u, 3u));
  EXPECT_THAT(parse_token_ids(" 7 \n0,\t42,,\r\n4294967295 ", ""),
              ElementsAre(7u, 0u, 42u, 4294967295u));
  EXPECT_THAT(parse_token_ids("", ""), IsEmpty());
  EXPECT_THAT(parse_token_ids(" , ", ""), IsEmpty());
}

TEST(TokenIds, RefuseAnythingElseNamingThePlace) {
  EXPECT_THAT(error_of("1, two"), AllOf(HasSubstr("ids.txt"), HasSubstr("\"two\" at byte 3")));
  for (const char* text :
       {"-1", "1.5", "4294967296", "0x10", "[1]", "1;2", "99999999999999999999"}) {
    EXPECT_THAT(error_of(text), HasSubstr("at byte 0")) << text;
  }
  EXPECT_LT(error_of(std::string(1'000'000, 'x')).size(), 200u);
}

TEST_F(TokenIdFile, IsReadWhereTheArgumentIsNoList) {
  write("5, 6\n7\n");
  EXPECT_THAT(read_token_ids(path_), ElementsAre(5u, 6u, 7u));
  EXPECT_THAT(read_token_ids("5 6"), ElementsAre(5u, 6u));
}

TEST_F(TokenIdFile, MustExist) {
  try {
    read_token_ids(path_);
    FAIL() << "no Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr(path_), HasSubstr("No such file")));
  }
}

TEST_F(TokenIdFile, PromptIsTakenAsItIs) {
  const std::string text("a\0b\r\n\n", 6);
  write(text);
  EXPECT_EQ(read_prompt_file(path_), text);
}

TEST_F(TokenIdFile, PromptMayNotBeHuge) {
  write("");
  ASSERT_EQ(::truncate(path_.c_str(), kMaxPromptBytes + 1), 0);
  EXPECT_THROW(read_prompt_file(path_), Error);
}

}  // namespace
}  // namespace sluice
