#include "model/split_regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "io/error.h"

namespace sluice {
namespace {

using Syntax = SplitRegex::Syntax;

std::vector<std::string> matches(const std::string& pattern, const std::string& text,
                                 Syntax syntax = Syntax::regex) {
  const SplitRegex regex(pattern, syntax, "test");
  SplitRegex::Search search(regex, text);
  std::vector<std::string> found;
  while (const auto span = search.next()) {
    found.push_back(text.substr(span->begin, span->end - span->begin));
  }
  return found;
}

std::string error_of(const std::string& pattern, const std::string& text = "") {
  try {
    matches(pattern, text);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(SplitRegex, MatchesComeFromLeftToRightWithoutOverlap) {
  EXPECT_THAT(matches("a|bb", "abbba"), ElementsAre("a", "bb", "a"));
  EXPECT_THAT(matches("x", ""), IsEmpty());
  EXPECT_THAT(matches("\\p{Han}+", "ab汉字cd日"), ElementsAre("汉字", "日"));
}

TEST(SplitRegex, EmptyMatchesAreFoundOncePerPlaceAndNotBehindAMatch) {
  EXPECT_THAT(matches("x*", "axé"), ElementsAre("", "x", ""));
  EXPECT_THAT(matches("(?=b)", "abab"), ElementsAre("", ""));
}

TEST(SplitRegex, LiteralPatternsHaveNoSpecialCharacters) {
  EXPECT_THAT(matches("a.c", "abca.c", Syntax::literal), ElementsAre("a.c"));
  EXPECT_THAT(matches("\\s", " \\s", Syntax::literal), ElementsAre("\\s"));
}

TEST(SplitRegex, CaseIsIgnoredAsUnicodeFoldsIt) {
  EXPECT_THAT(matches("(?i:'s|'t)", "'S 'ſ 'T s"), ElementsAre("'S", "'ſ", "'T"));
}

// PCRE2's own \s takes the Mongolian vowel separator for a space; Unicode and Oniguruma do not.
TEST(SplitRegex, SpaceIsUnicodesWhiteSpace) {
  EXPECT_THAT(matches("\\s", "\u180E\u200B\u0085\u00A0\u3000\t"),
              ElementsAre("\u0085", "\u00A0", "\u3000", "\t"));
  EXPECT_THAT(matches("[^\\s]+", "a\u180Eb\u2003c"), ElementsAre("a\u180Eb", "c"));
  EXPECT_THAT(matches("\\S+", "a \u00A0b"), ElementsAre("a", "b"));
}

TEST(SplitRegex, AnchorsAreThoseOfLines) {
  EXPECT_THAT(matches("^a", "a\nab"), ElementsAre("a", "a"));
  EXPECT_THAT(matches("b$", "ab\nab"), ElementsAre("b", "b"));
  EXPECT_THAT(matches("\\Aa", "a\na"), ElementsAre("a"));
}

TEST(SplitRegex, WhatDiffersFromPcre2IsTranslated) {
  const std::pair<const char*, const char*> cases[] = {
      {"\\s+(?!\\S)", "\\p{White_Space}+(?!\\P{White_Space})"},
      {"[^\\s\\p{L}\\]]", "[^\\p{White_Space}\\p{L}\\]]"},
      {"a{,3}", "a{0,3}"},
      {"a{1,3}|{|{,}|{}|{x}", "a{1,3}|{|{,}|{}|{x}"},
      {"\\u00e9\\x{E9}", "\\x{00e9}\\x{E9}"},
      {"\\\\s\\[\\-", "\\\\s\\[\\-"},
      {"(?i:'s)(?=a)(?!b)(?<=c)(?<!d)(?>e)(?:f)(g)", "(?i:'s)(?=a)(?!b)(?<=c)(?<!d)(?>e)(?:f)(g)"},
  };
  for (const auto& [from, to] : cases) EXPECT_EQ(pcre2_from_oniguruma(from, "test"), to);
}

TEST(SplitRegex, WhatCannotBeTranslatedIsAnErrorWithItsPlace) {
  for (const char* pattern :
       {"\\w",   "\\W+",   "\\b",   "\\h",     "\\R",    "\\X",         "\\K",    "\\G",  "\\1",
        "\\x41", "\\u12",  "\\pL",  "\\",      "[a[b]]", "[[:alpha:]]", "[a&&b]", "[]a]", "[^]",
        "[a",    "(?m:a)", "(?i)a", "(?<n>a)", "(?#a)",  "(*FAIL)",     "(?R)",   "a{2}+"}) {
    EXPECT_THAT(error_of(pattern), HasSubstr("does not support")) << pattern;
  }
  EXPECT_THAT(error_of("ab\\w"), testing::AllOf(HasSubstr("test: "), HasSubstr("at byte 2")));
}

TEST(SplitRegex, WhatIsNoPatternIsAnError) {
  EXPECT_THAT(error_of("(a"), HasSubstr("no regular expression"));
  EXPECT_THAT(error_of("\\p{Nonsense}"), HasSubstr("no regular expression"));
  EXPECT_THAT(error_of("*"), HasSubstr("no regular expression"));
  EXPECT_THAT(error_of(std::string(1000, '(') + "a" + std::string(1000, ')')),
              HasSubstr("no regular expression"));
  EXPECT_THAT(error_of(""), HasSubstr("empty"));
  EXPECT_THAT(error_of(std::string(100'000, 'a')), HasSubstr("limit"));
}

TEST(SplitRegex, BacktrackingWithoutEndIsAnError) {
  EXPECT_THAT(error_of("(a+)+[bc]", std::string(60, 'a')), HasSubstr("match limit exceeded"));
  // Many matches that each backtrack a little less than one may.
  std::string many;
  for (int i = 0; i < 2000; ++i) many += std::string(22, 'a') + "c";
  EXPECT_THAT(error_of("(?:a+)+[bd]|a", many), HasSubstr("match limit exceeded"));
}

TEST(SplitRegex, LongRunsThatPublishedPatternsBacktrackOverAreFine) {
  const std::string published =
      "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const std::string spaces(1'000'000, ' ');
  EXPECT_THAT(matches(published, spaces + "1"), ElementsAre(std::string(999'999, ' '), " ", "1"));
  EXPECT_THAT(matches("(?:ab|cd)+", std::string(1'000'000, 'x') + "abcd"), ElementsAre("abcd"));
}

// A repeated group needs memory for each turn: more than the JIT's stack.
TEST(SplitRegex, AGroupMayRepeatOverAMegabyte) {
  const std::string text(500'000, 'a');
  EXPECT_THAT(matches("(?:a|b)+", text), ElementsAre(text));
}

TEST(SplitRegex, ASearchGoesOnWithAnotherText) {
  const SplitRegex regex("a+", Syntax::regex, "test");
  SplitRegex::Search search(regex, "aab");
  EXPECT_EQ(search.next()->end, 2u);
  search.restart("ba");
  EXPECT_EQ(search.next()->begin, 1u);
  EXPECT_FALSE(search.next());
  EXPECT_FALSE(search.next());
}

}  // namespace
}  // namespace sluice
