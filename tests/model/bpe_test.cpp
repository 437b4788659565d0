#include "model/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "io/error.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Rules {
  std::vector<std::string> tokens;                          // by id
  std::vector<std::pair<std::string, std::string>> merges;  // by rank
  BpeOptions options{};
};

Bpe make(const Rules& rules) {
  TokenTable tokens;
  for (uint32_t id = 0; id < rules.tokens.size(); ++id) tokens.add(rules.tokens[id], id);
  MergeTable merges;
  for (uint32_t rank = 0; rank < rules.merges.size(); ++rank) {
    const auto& [left, right] = rules.merges[rank];
    merges.add(tokens.find(left).value(), tokens.find(right).value(),
               {rank, tokens.find(left + right).value()});
  }
  return Bpe(std::move(tokens), std::move(merges), rules.options);
}

std::vector<std::string> pieces(const Bpe& bpe, const std::string& word) {
  Bpe::Scratch scratch;
  std::vector<uint32_t> ids;
  bpe.encode(word, scratch, ids);
  std::vector<std::string> texts;
  for (const uint32_t id : ids) texts.emplace_back(bpe.tokens().text(id));
  return texts;
}

TEST(Bpe, MergesTheLowestRankFirstAndOfEqualsTheLeftmost) {
  const Bpe bpe =
      make({{"a", "b", "c", "bc", "ab", "aa", "aaa"}, {{"b", "c"}, {"a", "b"}, {"a", "a"}}});
  EXPECT_THAT(pieces(bpe, "abc"), ElementsAre("a", "bc"));
  EXPECT_THAT(pieces(bpe, "abb"), ElementsAre("ab", "b"));
  EXPECT_THAT(pieces(bpe, "aaa"), ElementsAre("aa", "a"));
  EXPECT_THAT(pieces(bpe, ""), IsEmpty());
}

TEST(Bpe, OfAPairGivenTwiceTheLastRankCounts) {
  const Bpe bpe = make({{"a", "b", "c", "ab", "bc"}, {{"a", "b"}, {"b", "c"}, {"a", "b"}}});
  EXPECT_THAT(pieces(bpe, "abc"), ElementsAre("a", "bc"));
}

TEST(Bpe, AWordThatIsATokenNeedsNoMergesIfTheyAreIgnored) {
  Rules rules{{"a", "b", "ab"}, {}};
  EXPECT_THAT(pieces(make(rules), "ab"), ElementsAre("a", "b"));
  rules.options.ignore_merges = true;
  EXPECT_THAT(pieces(make(rules), "ab"), ElementsAre("ab"));
}

TEST(Bpe, UnknownCharactersAreDroppedWithoutAnUnknownToken) {
  EXPECT_THAT(pieces(make({{"a", "b"}, {}}), "axb"), ElementsAre("a", "b"));
}

TEST(Bpe, UnknownCharactersInARowFuseOnlyIfAsked) {
  Rules rules{{"a", "?"}, {}};
  rules.options.unknown_token = "?";
  EXPECT_THAT(pieces(make(rules), "xéay"), ElementsAre("?", "?", "a", "?"));
  rules.options.fuse_unknown = true;
  EXPECT_THAT(pieces(make(rules), "xéay"), ElementsAre("?", "a", "?"));
}

TEST(Bpe, AnUnknownTokenOutsideTheVocabularyIsAnErrorWhenNeeded) {
  Rules rules{{"a"}, {}};
  rules.options.unknown_token = "?";
  const Bpe bpe = make(rules);
  EXPECT_THAT(pieces(bpe, "a"), ElementsAre("a"));
  EXPECT_THROW(pieces(bpe, "x"), Error);
}

TEST(Bpe, CharactersFallBackToAllOfTheirBytesOrNone) {
  Rules rules{{"a", "?", "<0xC3>", "<0xA9>"}, {}};
  rules.options.byte_fallback = true;
  rules.options.unknown_token = "?";
  EXPECT_THAT(pieces(make(rules), "aé"), ElementsAre("a", "<0xC3>", "<0xA9>"));
  EXPECT_THAT(pieces(make(rules), "aè"), ElementsAre("a", "?"));
}

// The textbook's way: again and again the best pair of all, in quadratic time.
std::vector<uint32_t> merge_slowly(const MergeTable& merges, std::vector<uint32_t> ids) {
  for (;;) {
    const MergeTable::Merge* best = nullptr;
    size_t place = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto* merge = merges.find(ids[i], ids[i + 1]);
      if (merge != nullptr && (best == nullptr || merge->rank < best->rank)) {
        best = merge;
        place = i;
      }
    }
    if (best == nullptr) return ids;
    ids[place] = best->id;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

TEST(Bpe, EqualsTheTextbookOnRandomVocabulariesAndWords) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::vector<std::string> texts = {"a", "b", "c"};
    TokenTable tokens;
    for (uint32_t id = 0; id < 3; ++id) tokens.add(texts[id], id);
    MergeTable merges;
    for (uint32_t rank = 0; rank < 40; ++rank) {
      const auto left = static_cast<uint32_t>(random() % texts.size());
      const auto right = static_cast<uint32_t>(random() % texts.size());
      if (merges.find(left, right) != nullptr) continue;
      const std::string both = texts[left] + texts[right];
      if (tokens.add(both, tokens.end_id()) == TokenTable::Added::yes) texts.push_back(both);
      merges.add(left, right, {rank, *tokens.find(both)});
    }
    const MergeTable same_merges = merges;
    const Bpe bpe(std::move(tokens), std::move(merges), {});
    Bpe::Scratch scratch;
    for (int round = 0; round < 20; ++round) {
      std::string word;
      std::vector<uint32_t> characters;
      for (auto length = random() % 60; length > 0; --length) {
        characters.push_back(static_cast<uint32_t>(random() % 3));
        word += texts[characters.back()];
      }
      std::vector<uint32_t> ids;
      bpe.encode(word, scratch, ids);
      ASSERT_EQ(ids, merge_slowly(same_merges, characters)) << "seed " << seed << ", " << word;
    }
  }
}

TEST(Bpe, AMegabyteWithoutASpaceIsOneWordLikeAnyOther) {
  const Bpe bpe = make({{"a", "aa", "aaaa"}, {{"a", "a"}, {"aa", "aa"}}});
  Bpe::Scratch scratch;
  std::vector<uint32_t> ids;
  bpe.encode(std::string(1 << 20, 'a'), scratch, ids);
  EXPECT_EQ(ids, std::vector<uint32_t>(1 << 18, 2));
}

TEST(TokenTable, FindsWhatWasAddedAndRefusesWhatIsTaken) {
  TokenTable table;
  EXPECT_FALSE(table.find(""));
  EXPECT_EQ(table.add("", 7), TokenTable::Added::yes);
  EXPECT_EQ(table.add("a", 7), TokenTable::Added::id_taken);
  EXPECT_EQ(table.add("", 8), TokenTable::Added::text_taken);
  for (uint32_t i = 0; i < 5000; ++i) {
    ASSERT_EQ(table.add("token" + std::to_string(i), 10 + 2 * i), TokenTable::Added::yes);
  }
  EXPECT_EQ(table.size(), 5001u);
  EXPECT_EQ(table.end_id(), 10u + 2 * 4999 + 1);
  for (uint32_t i = 0; i < 5000; ++i) {
    ASSERT_EQ(table.find("token" + std::to_string(i)), 10 + 2 * i);
    ASSERT_EQ(table.text(10 + 2 * i), "token" + std::to_string(i));
    ASSERT_FALSE(table.contains(11 + 2 * i));
  }
  EXPECT_EQ(table.find(""), 7u);
  EXPECT_FALSE(table.find("token5000"));
}

}  // namespace
}  // namespace sluice
