#include "engine/think_budget.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/fake_model.h"
#include "temp_dir.h"
#include "text/tokenizer/tokenizer.h"

namespace tte::engine {
namespace {

using Ids = std::vector<std::int64_t>;

constexpr const char* kOpen = "<think>";
constexpr const char* kClose = "</think>";

std::string text_of(const text::Tokenizer& tokenizer, const Ids& ids) {
  std::string text;
  for (const std::int64_t id : ids) text += tokenizer.token_bytes(id, false);
  return text;
}

// What a sequence looks like whose model wants to write `wanted`.
Ids written(const std::shared_ptr<const text::Tokenizer>& tokenizer, std::optional<int> limit,
            const Ids& prompt, const Ids& wanted, const std::string& open = kOpen,
            const std::string& close = kClose) {
  ThinkBudget budget(limit, open, close, tokenizer, prompt);
  Ids result;
  for (const std::int64_t id : wanted) {
    for (int i = 0; i < 20; ++i) {
      const auto forced = budget.forced();
      if (!forced) break;
      budget.accept(*forced);
      result.push_back(*forced);
    }
    budget.accept(id);
    result.push_back(id);
  }
  return result;
}

// Bytes as tokens, an end token, and any other pieces of text that a test asks for.
class Pieces : public testing::FakeTokenizer {
 public:
  std::string token_bytes(std::int64_t id, bool first) const override {
    return id < kFirst ? FakeTokenizer::token_bytes(id, first)
                       : pieces_[static_cast<std::size_t>(id - kFirst)];
  }
  std::int64_t add(std::string piece) {
    pieces_.push_back(std::move(piece));
    return kFirst + static_cast<std::int64_t>(pieces_.size()) - 1;
  }

 private:
  static constexpr std::int64_t kFirst = 1000;
  std::vector<std::string> pieces_;
};

std::string text_written(std::optional<int> limit, const std::string& prompt, const std::string& wanted,
                         const std::string& open = kOpen, const std::string& close = kClose) {
  const auto tokenizer = std::make_shared<testing::FakeTokenizer>();
  return text_of(*tokenizer, written(tokenizer, limit, testing::bytes_of(prompt), testing::bytes_of(wanted),
                                     open, close));
}

TEST(ThinkBudget, WithoutALimitNothingIsForced) {
  EXPECT_EQ(text_written(std::nullopt, "", "<think>abcdef", "", ""), "<think>abcdef");
}

TEST(ThinkBudget, ClosesWhatTheModelOpened) {
  EXPECT_EQ(text_written(2, "q", "a<think>bcd"), "a<think>bc</think>d");
  EXPECT_EQ(text_written(0, "q", "a<think>bcd"), "a<think></think>bcd");
}

TEST(ThinkBudget, ClosesWhatThePromptOpened) {
  EXPECT_EQ(text_written(2, "x<think>\n", "abc"), "ab</think>c");
  EXPECT_EQ(text_written(0, "<think>", "abc"), "</think>abc");
  EXPECT_EQ(text_written(2, "<thi", "nk>abc"), "nk>ab</think>c") << "opened across the prompt's end";
  EXPECT_EQ(text_written(1, "<think>a</think>", "bcd"), "bcd") << "the prompt closed it itself";
  EXPECT_EQ(text_written(1, "<think>a</think>b<think>", "cd"), "c</think>d");
}

TEST(ThinkBudget, TagsBeforeTheLastControlTokenOpenNothing) {
  const auto tokenizer = std::make_shared<testing::FakeTokenizer>();
  Ids prompt = testing::bytes_of("what does <think> mean?");
  prompt.push_back(testing::kEos);
  const Ids wanted = testing::bytes_of("abcdef");
  EXPECT_EQ(written(tokenizer, 2, prompt, wanted), wanted);
  for (const char c : std::string("<think>")) prompt.push_back(c);
  EXPECT_EQ(text_of(*tokenizer, written(tokenizer, 2, prompt, wanted)), "ab</think>cdef");
}

TEST(ThinkBudget, TagsMayBeAddedTokens) {
  const auto tokenizer = std::make_shared<testing::FakeTokenizer>();
  EXPECT_EQ(written(tokenizer, 2, {testing::kEos, testing::kThink}, {'a', 'b', 'c'}),
            (Ids{'a', 'b', testing::kThinkEnd, 'c'}));
  EXPECT_EQ(written(tokenizer, 2, {'q'}, {testing::kThink, 'a', testing::kThinkEnd, 'b', 'c', 'd'}),
            (Ids{testing::kThink, 'a', testing::kThinkEnd, 'b', 'c', 'd'}));
}

TEST(ThinkBudget, AnAnswerIsLeftAloneWhateverItQuotes) {
  EXPECT_EQ(text_written(9, "<think>", "a</think> the tag <think> opens"), "a</think> the tag <think> opens");
  EXPECT_EQ(text_written(1, "<think>", "ab</think> <think> c"), "a</think>b</think> <think> c");
  EXPECT_EQ(text_written(1, "", "</think> <think> abc"), "</think> <think> abc");
}

TEST(ThinkBudget, BeginsWhatIsLeftOfATag) {
  EXPECT_EQ(text_written(3, "<think>", "a</ and so on"), "a</think> and so on");
  EXPECT_EQ(text_written(8, "<think>", "a</thinks"), "a</think>s");
  EXPECT_EQ(text_written(2, "<think>", "a<<b"), "a</think><b");
}

TEST(ThinkBudget, TagsOfCharactersThatAreSeveralBytes) {
  const std::string open = "\xE2\x97\x81think\xE2\x96\xB7", close = "\xE2\x97\x81/think\xE2\x96\xB7";
  EXPECT_EQ(text_written(2, open, "abc", open, close), "ab" + close + "c");
  EXPECT_EQ(text_written(4, open, "a" + close + "bcdefghijk", open, close),
            "a" + close + "/think\xE2\x96\xB7" + "bcdefghijk")
      << "one character of the tag was there";
  EXPECT_EQ(text_written(3, open, "a" + close, open, close), "a\xE2\x97" + close + "\x81/think\xE2\x96\xB7")
      << "half a character cannot be continued: U+FFFD, then the tag";
}

TEST(ThinkBudget, BytesThatAreNoTextDoNotHideATag) {
  EXPECT_EQ(text_written(10, "<think>", "a\xE2</think>bcdefghijk"), "a\xE2</think>bcdefghijk");
  EXPECT_EQ(text_written(2, "<think>", "a\xE2\x97\x81"), "a\xE2</think>\x97\x81");
}

// One token of the text is any piece of it, the others are bytes: all merges of the tags with their
// neighbours and with each other, for every limit.
TEST(ThinkBudget, SeesTagsHoweverTheyAreMerged) {
  const std::string text = "A <think>\n\nxy z.</think>\nB <think> c";
  const std::size_t opened = text.find(kOpen) + std::string(kOpen).size();
  const std::size_t closed = text.find(kClose) + std::string(kClose).size();
  for (std::size_t begin = 0; begin < text.size(); ++begin) {
    for (std::size_t end = begin + 1; end <= text.size(); ++end) {
      const auto tokenizer = std::make_shared<Pieces>();
      Ids wanted = testing::bytes_of(text.substr(0, begin));
      wanted.push_back(tokenizer->add(text.substr(begin, end - begin)));
      for (const char c : text.substr(end)) wanted.push_back(static_cast<unsigned char>(c));
      // Where each token ends; how many are written after the opening tag is complete.
      std::vector<std::size_t> ends;
      for (const std::int64_t id : wanted) {
        ends.push_back((ends.empty() ? 0 : ends.back()) + tokenizer->token_bytes(id, false).size());
      }
      for (int limit = 0; limit < 20; ++limit) {
        std::size_t at = 0;
        while (ends[at] < opened) ++at;
        at = std::min(at + static_cast<std::size_t>(limit), ends.size() - 1);
        std::string expected = text;
        if (ends[at] < closed) {
          const std::string before = text.substr(0, ends[at]);
          std::size_t part = std::string(kClose).size() - 1;
          while (part > 0 &&
                 (before.size() < opened + part || !before.ends_with(std::string(kClose).substr(0, part))))
            --part;
          expected = before + std::string(kClose).substr(part) + text.substr(ends[at]);
        }
        ASSERT_EQ(text_of(*tokenizer, written(tokenizer, limit, {}, wanted)), expected)
            << "piece \"" << text.substr(begin, end - begin) << "\", limit " << limit;
      }
    }
  }
}

// A byte-level BPE with merges as Qwen2's has them.
class Merged : public ::testing::Test {
 protected:
  Merged() {
    base::Json vocabulary = base::Json::object();
    const auto add = [&](const std::string& token) {
      if (!vocabulary.contains(token)) vocabulary[token] = vocabulary.size();
    };
    for (char c = '!'; c <= '~'; ++c) add(std::string(1, c));
    add("\xC4\xA0");  // A space,
    add("\xC4\x8A");  // and a new line, in byte-level spelling.
    base::Json merges = base::Json::array();
    const auto merge = [&](const std::string& a, const std::string& b) {
      merges.push_back(a + " " + b);
      add(a + b);
    };
    merge("t", "h");
    merge("i", "n");
    merge("in", "k");
    merge("th", "ink");
    merge("<", "/");
    merge(">", "\xC4\x8A");
    merge(".", "</");
    merge("\xC4\xA0", "</");
    merge(">", "\xC4\xA0");
    const base::Json json = {
        {"added_tokens",
         {{{"id", vocabulary.size()},
           {"content", "<|im_end|>"},
           {"special", true},
           {"single_word", false},
           {"lstrip", false},
           {"rstrip", false},
           {"normalized", false}}}},
        {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
        {"decoder", {{"type", "ByteLevel"}}},
        {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}}};
    std::ofstream(folder_.path() / "tokenizer.json") << json.dump();
    std::ofstream(folder_.path() / "tokenizer_config.json")
        << R"({"tokenizer_class": "PreTrainedTokenizerFast"})";
    tokenizer_ = text::Tokenizer::load(folder_.path());
  }

  [[nodiscard]] std::string written_text(int limit, const std::string& prompt,
                                         const std::string& wanted) const {
    return text_of(*tokenizer_,
                   written(tokenizer_, limit, tokenizer_->encode(prompt), tokenizer_->encode(wanted)));
  }

  ::tte::testing::TempDir folder_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
};

TEST_F(Merged, TheTagsHaveOtherIdsBesideOtherText) {
  const auto alone = tokenizer_->encode(kClose);
  EXPECT_NE(tokenizer_->encode(".</think>\n"), alone);
  EXPECT_EQ(tokenizer_->encode(".</think>\n").size(), alone.size());
}

TEST_F(Merged, AThoughtIsClosedAfterItsLimit) {
  for (const std::string before : {"", " ", ".", "a"}) {
    for (const std::string after : {"\n", " ", "T", "."}) {
      EXPECT_EQ(written_text(3, "q<|im_end|>", before + "<think>" + after + "xyzuvw"),
                before + "<think>" +
                    (after == "\n" || after == " " ? after + "xyz</think>uvw" : after + "xy</think>zuvw"));
    }
  }
}

TEST_F(Merged, AThoughtThatEndsInTimeIsLeftAlone) {
  for (const std::string before : {"", " ", ".", "a", " ."}) {
    for (const std::string after : {"", "\n", " ", "B", "."}) {
      const std::string text = "<think>\nx" + before + "</think>" + after + "an answer of many tokens";
      EXPECT_EQ(written_text(8, "q<|im_end|>", text), text);
    }
  }
}

TEST_F(Merged, WhatIsLeftOfATagIsSpelledByItself) {
  EXPECT_EQ(written_text(2, "q<|im_end|><think>", "x.</ and"), "x.</think> and");
  EXPECT_EQ(written_text(3, "q<|im_end|><think>", "x.</think and"), "x.</think> and");
}

TEST_F(Merged, AUsersTagOpensNothing) {
  const std::string text = "an answer of many tokens";
  EXPECT_EQ(written_text(2, "what is <think>?<|im_end|>\n", text), text);
}

TEST(ThinkBudget, SentencepieceSpellsTheRestWithoutASpace) {
  const auto tokenizer = text::Tokenizer::load(TTE_SOURCE_DIR "/tests/data/text/spm_nano");
  const Ids prompt = tokenizer->encode("<think>");
  const Ids wanted = tokenizer->encode("a b c d e </ f g");
  for (int limit = 0; limit < static_cast<int>(wanted.size()); ++limit) {
    const std::string text = tokenizer->decode(written(tokenizer, limit, prompt, wanted), false);
    const auto at = text.find(kClose);
    ASSERT_NE(at, std::string::npos) << text;
    EXPECT_EQ(text.find(kClose, at + 1), std::string::npos) << text;
    if (text.ends_with("</think> f g")) {
      EXPECT_EQ(text, "a b c d e </think> f g");
    }
  }
}

}  // namespace
}  // namespace tte::engine
