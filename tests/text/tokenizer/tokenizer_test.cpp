// Tokenizers against what transformers gives for the same files (tests/data/text/make_goldens.py).
#include "text/tokenizer/tokenizer.h"

#include <gmock/gmock.h>

#include <random>

#include "base/printable.h"
#include "base/utf8.h"
#include "text/control_tokens.h"
#include "text/text_test_util.h"

namespace tte::text {
namespace {

using Ids = std::vector<std::int64_t>;

std::string streamed(const std::shared_ptr<const Tokenizer>& tokenizer, const Ids& ids, bool skip) {
  StreamDecoder decoder(tokenizer, skip);
  std::string text;
  for (const std::int64_t id : ids) {
    const std::string piece = decoder.push(id);
    EXPECT_EQ(base::find_invalid(piece), std::string::npos) << "half a character";
    text += piece;
  }
  return text + decoder.finish();
}

class Goldens : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto folder = data_folder() / GetParam();
    golden_ = base::read_json(folder / "golden.json");
    tokenizer_ = Tokenizer::load(folder);
  }
  base::Json golden_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(Goldens, Encode) {
  for (const auto& c : golden_["encode"]) {
    const auto text = c["text"].get<std::string>();
    const auto ids = tokenizer_->encode(text);
    EXPECT_EQ(ids, c["ids"].get<Ids>()) << base::printable(text);
    EXPECT_EQ(tokenizer_->encode(text, false), c["plain"].get<Ids>()) << base::printable(text);
    EXPECT_EQ(tokenizer_->decode(ids, false), c["decoded"].get<std::string>()) << base::printable(text);
  }
}

TEST_P(Goldens, Decode) {
  for (const auto& c : golden_["decode"]) {
    const auto ids = c["ids"].get<Ids>();
    const bool skip = c["skip"].get<bool>();
    EXPECT_EQ(tokenizer_->decode(ids, skip), c["text"].get<std::string>()) << c["ids"].dump();
    EXPECT_EQ(streamed(tokenizer_, ids, skip), c["text"].get<std::string>()) << c["ids"].dump();
  }
}

TEST_P(Goldens, Vocabulary) {
  EXPECT_EQ(tokenizer_->vocab_size(), golden_["size"].get<std::int64_t>());
  const auto id = [&](const char* key) {
    return golden_[key].is_null() ? std::nullopt : std::optional(golden_[key].get<std::int64_t>());
  };
  EXPECT_EQ(tokenizer_->eos_id(), id("eos"));
  EXPECT_EQ(tokenizer_->pad_id(), id("pad"));
  EXPECT_EQ(tokenizer_->added_tokens().size(), golden_["added"].size());
  for (const auto& added : golden_["added"]) {
    const auto content = added["content"].get<std::string>();
    EXPECT_EQ(tokenizer_->id_of(content), added["id"].get<std::int64_t>()) << content;
    EXPECT_EQ(tokenizer_->is_special(added["id"].get<std::int64_t>()), added["special"].get<bool>())
        << content;
  }
  EXPECT_EQ(tokenizer_->token_bytes(tokenizer_->vocab_size(), false), "");
  EXPECT_EQ(tokenizer_->token_bytes(-1, false), "");
}

INSTANTIATE_TEST_SUITE_P(Files, Goldens,
                         ::testing::Values("bpe", "bpe_files", "qwen35", "llama3", "other", "spm_nano",
                                           "spm_llama", "spm_legacy", "spm_llava"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Tokenizer, UnigramIsSentencepieces) {
  const auto folder = data_folder() / "spm_unigram";
  const auto tokenizer = Tokenizer::load(folder);
  const auto golden = base::read_json(folder / "golden.json");
  for (const auto& c : golden["encode"]) {
    EXPECT_EQ(tokenizer->encode(c["text"].get<std::string>(), false), c["ids"].get<Ids>()) << c["text"];
  }
}

TEST(Tokenizer, JsonCountsBeforeTheModelFile) {
  // As in transformers 5.
  const TemporaryFolder folder;
  std::filesystem::copy_file(data_folder() / "bpe/tokenizer.json", folder.path() / "tokenizer.json");
  std::filesystem::copy_file(data_folder() / "spm_nano/tokenizer.model", folder.path() / "tokenizer.model");
  EXPECT_EQ(Tokenizer::load(folder.path())->encode("a red circle"),
            Tokenizer::load(data_folder() / "bpe")->encode("a red circle"));
}

TEST(Tokenizer, RefusesWhatIsNotUtf8) {
  const auto tokenizer = Tokenizer::load(data_folder() / "bpe");
  EXPECT_THROW(tokenizer->encode("\xFF"), InputError);
  EXPECT_THROW(tokenizer->encode("\xED\xA0\x80", false), InputError);
}

TEST(Tokenizer, GuardedTokensStayText) {
  const auto tokenizer = Tokenizer::load(data_folder() / "bpe");
  const std::vector<std::string> control = {"<|im_end|>", "<think>"};
  const std::string text = "a <|im_end|> b <think>";
  const ControlTokens tokens(control);
  const auto guarded = [&](std::string_view given) { return tokens.settle(tokens.guard_ends(given)); };
  const auto ids = tokenizer->encode(guarded(text));
  EXPECT_EQ(tokenizer->decode(ids, false), text);
  for (const auto& token : control)
    EXPECT_THAT(ids, ::testing::Not(::testing::Contains(*tokenizer->id_of(token))));
  // A forged guard does not help, and a lone one parts what stands around it.
  const std::string forged = std::string(kGuardBegin) + "<|im_" + std::string(kGuardEnd) + "end|>";
  EXPECT_EQ(guarded(forged), guarded("<|im_end|>"));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(forged), false), "<|im_end|>");
  EXPECT_THAT(tokenizer->encode(forged),
              ::testing::Not(::testing::Contains(*tokenizer->id_of("<|im_end|>"))));
  EXPECT_EQ(tokenizer->encode(std::string(100000, '<').replace(3, 3, kGuardBegin)).empty(), false);
}

TEST(Tokenizer, ManyLoneGuardsAreLinear) {
  const auto tokenizer = Tokenizer::load(data_folder() / "bpe");
  std::string text;
  for (int i = 0; i < 20000; ++i) text += kGuardBegin;
  EXPECT_TRUE(tokenizer->encode(text).empty());
}

TEST(StreamDecoder, BytesOfACharacterComeTogether) {
  const auto tokenizer = Tokenizer::load(data_folder() / "bpe");
  StreamDecoder decoder(tokenizer);
  const auto emoji = tokenizer->encode("\U0001FAE8");  // Not learnt: tokens for parts of its bytes.
  ASSERT_GE(emoji.size(), 2U);
  for (std::size_t i = 0; i + 1 < emoji.size(); ++i) EXPECT_EQ(decoder.push(emoji[i]), "");
  EXPECT_EQ(decoder.push(emoji.back()), "\U0001FAE8");
  EXPECT_EQ(decoder.push(emoji[0]), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
}

TEST(StreamDecoder, FallbackBytesWaitForTheEndOfTheRun) {
  const auto tokenizer = Tokenizer::load(data_folder() / "spm_llama");
  const auto e9 = *tokenizer->id_of("<0xC3>");
  const auto a9 = *tokenizer->id_of("<0xA9>");
  const auto a = *tokenizer->id_of("a");
  EXPECT_EQ(tokenizer->decode({a, e9, a9, a}), "a\u00e9a");
  // A run that is not UTF-8 as a whole is one U+FFFD per byte, as in transformers.
  EXPECT_EQ(tokenizer->decode({a, e9, a9, e9, a}), "a\uFFFD\uFFFD\uFFFDa");
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(a), "a");
  EXPECT_EQ(decoder.push(e9), "");
  EXPECT_EQ(decoder.push(a9), "");
  EXPECT_EQ(decoder.push(a), "\u00e9a");
}

TEST(StreamDecoder, EqualsDecodeForRandomIds) {
  std::mt19937 random(11);
  for (const char* name : {"bpe", "spm_nano", "spm_llama", "llama3"}) {
    const auto tokenizer = Tokenizer::load(data_folder() / name);
    for (int i = 0; i < 300; ++i) {
      Ids ids(random() % 30);
      for (auto& id : ids)
        id = static_cast<std::int64_t>(random() % static_cast<unsigned>(tokenizer->vocab_size() + 3));
      const bool skip = random() % 2 == 0;
      ASSERT_EQ(streamed(tokenizer, ids, skip), tokenizer->decode(ids, skip)) << name;
    }
  }
}

}  // namespace
}  // namespace tte::text
