#include "text/tokenizer/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tte/error.h"

namespace tte::text {
namespace {

using ::testing::ElementsAre;

BpeSpec letters(std::vector<std::pair<std::string, std::string>> merges, Vocabulary more = {}) {
  BpeSpec spec;
  Vocabulary vocabulary = std::move(more);
  std::int32_t id = 0;
  for (char c = 'a'; c <= 'h'; ++c) vocabulary.emplace(std::string(1, c), id++);
  for (const auto& [left, right] : merges) vocabulary.emplace(left + right, id++);
  spec.vocabulary = std::make_shared<const Vocabulary>(std::move(vocabulary));
  spec.merges = std::move(merges);
  return spec;
}

std::vector<std::int64_t> encode(const Bpe& bpe, std::string_view word) {
  std::vector<std::int64_t> ids;
  bpe.encode(word, ids);
  return ids;
}

// The definition, word for word: merge the pair that was learnt first, leftmost first, until there is none.
std::vector<std::int64_t> reference(const BpeSpec& spec, std::string_view word) {
  std::vector<std::string> symbols;
  for (const char c : word) symbols.emplace_back(1, c);
  while (true) {
    std::size_t best = spec.merges.size();
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (std::size_t m = 0; m < best; ++m) {
        if (spec.merges[m].first == symbols[i] && spec.merges[m].second == symbols[i + 1]) {
          best = m;
          at = i;
        }
      }
    }
    if (best == spec.merges.size()) break;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<std::int64_t> ids;
  for (const auto& s : symbols) ids.push_back(spec.vocabulary->at(s));
  return ids;
}

TEST(Bpe, MergesByRank) {
  const Bpe bpe(letters({{"b", "c"}, {"a", "b"}, {"a", "bc"}}), "test");
  EXPECT_THAT(encode(bpe, "abc"), ElementsAre(10));
  EXPECT_THAT(encode(bpe, "abab"), ElementsAre(9, 9));
  EXPECT_THAT(encode(bpe, "zab"), ElementsAre(9));  // No unknown token: dropped.
}

TEST(Bpe, ShortAndLongWordsEqualTheDefinition) {
  const std::vector<std::pair<std::string, std::string>> merges = {{"a", "a"},  {"aa", "aa"}, {"a", "b"},
                                                                   {"c", "d"},  {"cd", "ab"}, {"b", "a"},
                                                                   {"aa", "b"}, {"d", "c"},   {"aaaa", "a"}};
  const BpeSpec spec = letters(merges);
  const Bpe bpe(letters(merges), "test");
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {
    std::string word(1 + random() % (i < 200 ? 40 : 150), ' ');
    for (char& c : word) c = static_cast<char>('a' + random() % 4);
    ASSERT_EQ(encode(bpe, word), reference(spec, word)) << word;
    ASSERT_EQ(encode(bpe, word), reference(spec, word)) << "from the cache: " << word;
  }
}

TEST(Bpe, AMillionLettersInOneWord) {
  const Bpe bpe(letters({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}}), "test");
  EXPECT_EQ(encode(bpe, std::string(1 << 20, 'a')).size(), std::size_t{1} << 17);
}

TEST(Bpe, FallbackAndUnknown) {
  BpeSpec spec = letters({}, {{"<unk>", 100}, {"<0xC3>", 101}, {"<0xA9>", 102}});
  spec.byte_fallback = true;
  spec.unknown = "<unk>";
  spec.fuse_unknown = true;
  BpeSpec apart = spec;
  apart.fuse_unknown = false;
  EXPECT_THAT(encode(Bpe(std::move(spec), "test"), "a\u00e9\u4e2d\u4e2db\u4e2d"),
              ElementsAre(0, 101, 102, 100, 1, 100));
  EXPECT_THAT(encode(Bpe(std::move(apart), "test"), "\u4e2d\u4e2d"), ElementsAre(100, 100));
}

TEST(Bpe, IgnoreMergesTakesWholeWords) {
  BpeSpec spec = letters({{"a", "b"}}, {{"abcd", 50}});
  spec.ignore_merges = true;
  const Bpe bpe(std::move(spec), "test");
  EXPECT_THAT(encode(bpe, "abcd"), ElementsAre(50));
  EXPECT_THAT(encode(bpe, "abcda"), ElementsAre(8, 2, 3, 0));
}

TEST(Bpe, MergeOfAnUnknownTokenIsNamed) {
  BpeSpec spec = letters({});
  spec.merges = {{"a", "zz"}};
  try {
    const Bpe bpe(std::move(spec), "merges.txt");
    FAIL();
  } catch (const ModelError& error) {
    EXPECT_THAT(error.what(),
                ::testing::AllOf(::testing::HasSubstr("merges.txt"), ::testing::HasSubstr("\"zz\"")));
  }
}

TEST(Bpe, ManyThreadsShareTheCache) {
  const Bpe bpe(letters({{"a", "b"}, {"c", "d"}, {"ab", "cd"}}), "test");
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&bpe, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 3000; ++i) {
        std::string word(8, ' ');
        for (char& c : word) c = static_cast<char>('a' + random() % 6);
        EXPECT_EQ(encode(bpe, word), encode(bpe, word));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace tte::text
