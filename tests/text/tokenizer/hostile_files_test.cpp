// Damaged and hostile tokenizer files: an error that names the file, never a crash or a hang.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "text/check_text.h"
#include "text/text_test_util.h"
#include "text/tokenizer/sentencepiece_proto.h"
#include "text/tokenizer/tokenizer.h"
#include "tte/error.h"

namespace tte::text {
namespace {

using ::testing::HasSubstr;

std::string read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

class HostileFiles : public ::testing::Test {
 protected:
  void refused(const std::string& name, std::string_view content, const std::string& what) {
    folder_.write(name, content);
    const std::string message = message_of<ModelError>([&] { Tokenizer::load(folder_.path()); });
    EXPECT_THAT(message, ::testing::AllOf(HasSubstr(name), HasSubstr(what))) << content.substr(0, 200);
  }
  TemporaryFolder folder_;
};

TEST_F(HostileFiles, NoFiles) {
  EXPECT_THAT(message_of<ModelError>([&] { Tokenizer::load(folder_.path()); }),
              HasSubstr("has no tokenizer"));
}

TEST_F(HostileFiles, TruncatedJson) {
  const std::string whole = read(data_folder() / "bpe/tokenizer.json");
  for (std::size_t size = 0; size < whole.size() - 2; size += whole.size() / 37 + 1) {
    refused("tokenizer.json", std::string_view(whole).substr(0, size), "");
  }
}

std::string with_model(const std::string& model, const std::string& rest = "") {
  return R"({"decoder": {"type": "ByteLevel"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, )" +
         rest + R"("model": )" + model + "}";
}

TEST_F(HostileFiles, WrongJson) {
  const std::pair<std::string, const char*> cases[] = {
      {"[]", "not a JSON object"},
      {"5", "not a JSON object"},
      {"{}", "decoder"},
      {R"({"decoder": {"type": "ByteLevel"}})", "\"model\""},
      {R"({"decoder": 5, "model": {}})", "decoder"},
      {R"({"decoder": {"type": "Martian"}})", "Martian"},
      {R"({"normalizer": {"type": "Precompiled"}, "decoder": null})", "Precompiled"},
      {R"({"pre_tokenizer": {"type": "Sequence"}})", "pretokenizers"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}})",
       "split pattern"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Sideways"}})",
       "Sideways"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": 5}, "behavior": "Isolated"}})", "Regex"},
      {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": ""}})", "pre-tokenizer"},
      {with_model(R"({"type": "WordPiece", "vocab": {}})"), "WordPiece"},
      {with_model(R"({"vocab": []})"), "vocab"},
      {with_model(R"({"vocab": {"a": "b"}, "merges": []})"), "\"a\""},
      {with_model(R"({"vocab": {"a": -1}, "merges": []})"), "-1"},
      {with_model(R"({"vocab": {"a": 99999999999}, "merges": []})"), "99999999999"},
      {with_model(R"({"vocab": {"a": 1.5}, "merges": []})"), "1.5"},
      {with_model(R"({"vocab": {"a": 0}})"), "merges"},
      {with_model(R"({"vocab": {"a": 0}, "merges": ["a"]})"), "not a pair"},
      {with_model(R"({"vocab": {"a": 0}, "merges": ["a b c"]})"), "not a pair"},
      {with_model(R"({"vocab": {"a": 0}, "merges": [["a", 5]]})"), "not a pair"},
      {with_model(R"({"vocab": {"a": 0, "b": 1}, "merges": ["a b"]})"), "\"ab\""},
      {with_model(R"({"vocab": {"a": 0}, "merges": ["a q"]})"), "\"q\""},
      {with_model(R"({"vocab": {"a": 0}, "merges": [], "dropout": 0.5})"), "dropout"},
      {with_model(R"({"vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"})"), "<unk>"},
      {with_model(R"({"vocab": {"a": 0}, "merges": []})", R"("added_tokens": 5, )"), "added_tokens"},
      {with_model(R"({"vocab": {"a": 0}, "merges": []})", R"("added_tokens": [5], )"),
       "\"added_tokens\" is 5"},
      {with_model(R"({"vocab": {"a": 0}, "merges": []})", R"("added_tokens": [{"content": "x"}], )"),
       "added_tokens.id"},
      {with_model(R"({"vocab": {"a": 0}, "merges": []})",
                  R"("added_tokens": [{"content": "x", "id": 99999999}], )"),
       "99999999"},
      {with_model(R"({"vocab": {"a": 0}, "merges": []})",
                  R"("added_tokens": [{"content": "\ud800", "id": 1}], )"),
       "not valid JSON"},
  };
  for (const auto& [content, what] : cases) refused("tokenizer.json", content, what);
}

TEST_F(HostileFiles, WrongPostProcessors) {
  const std::pair<std::string, const char*> cases[] = {
      {"5", "post-processor"},
      {R"({"type": "Martian"})", "Martian"},
      {R"({"type": "Sequence"})", "processors"},
      {R"({"type": "BertProcessing", "sep": ["a", 0]})", "cls"},
      {R"({"type": "RobertaProcessing", "sep": ["a", 0], "cls": ["a"]})", "RobertaProcessing"},
      {R"({"type": "TemplateProcessing"})", "single"},
      {R"({"type": "TemplateProcessing", "single": [5]})", "tokenizer.json"},
      {R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a"}}]})", "ids"},
      {R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a"}}],
           "special_tokens": {"a": {"ids": [7]}}})",
       "token 7"},
      {R"({"type": "BertProcessing", "sep": ["a", 0], "cls": ["a", -1]})", "BertProcessing"},
  };
  for (const auto& [content, what] : cases) {
    refused(
        "tokenizer.json",
        with_model(R"({"vocab": {"a": 0}, "merges": []})", fmt::format(R"("post_processor": {}, )", content)),
        what);
  }
  std::string nested = R"({"type": "ByteLevel"})";
  for (int i = 0; i < 100; ++i) nested = fmt::format(R"({{"type": "Sequence", "processors": [{}]}})", nested);
  refused(
      "tokenizer.json",
      with_model(R"({"vocab": {"a": 0}, "merges": []})", fmt::format(R"("post_processor": {}, )", nested)),
      "more than 64");
}

TEST_F(HostileFiles, DeepJson) {
  refused("tokenizer.json", std::string(std::size_t{100} << 20, '['), "nests deeper");
  refused("tokenizer.json", R"({"normalizer": )" + std::string(1 << 20, '['), "nests deeper");
}

TEST_F(HostileFiles, LongAddedToken) {
  refused("tokenizer.json",
          with_model(R"({"vocab": {"a": 0}, "merges": []})",
                     R"("added_tokens": [{"id": 1, "content": ")" + std::string(100000, 'x') + "\"}], "),
          "has 100000 bytes: at most 4096");
}

TEST_F(HostileFiles, ManyBytesOfAddedTokens) {
  std::string entries;
  for (int i = 0; i < 2100; ++i) {
    entries += fmt::format(R"({}{{"id": {}, "content": "{}{:04}"}})", i == 0 ? "" : ", ", i + 1,
                           std::string(4092, 'x'), i);
  }
  refused("tokenizer.json",
          with_model(R"({"vocab": {"a": 0}, "merges": []})", R"("added_tokens": [)" + entries + "], "),
          "together: at most 8388608");
}

// Each step doubles a text: forty of them make terabytes.
TEST_F(HostileFiles, NormalizersThatDoubleAText) {
  const std::string step = R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  const auto file = [&](int steps, const std::string& added) {
    std::string list = step;
    for (int i = 1; i < steps; ++i) list += ", " + step;
    return with_model(R"({"vocab": {"a": 0}, "merges": []})",
                      R"("normalizer": {"type": "Sequence", "normalizers": [)" + list + "]}, " + added);
  };
  folder_.write("tokenizer.json", file(40, ""));
  const auto tokenizer = Tokenizer::load(folder_.path());
  EXPECT_EQ(tokenizer->encode("b").size(), 0U);
  EXPECT_THAT(message_of<InputError>([&] { tokenizer->encode("aaaa"); }),
              HasSubstr("normalizers make more than"));
  refused("tokenizer.json", file(100, ""), "more than 64 steps");
  refused("tokenizer.json",
          file(40, R"("added_tokens": [{"id": 1, "content": "xay", "normalized": true}], )"),
          "cannot be normalised");
  folder_.write("tokenizer.json", with_model(R"({"vocab": {"a": 0}, "merges": []})",
                                             R"("normalizer": {"type": "Replace", "pattern": {"String": "a"},
                                                 "content": ")" +
                                                 std::string(1000, 'a') + R"("}, )"));
  EXPECT_THROW(Tokenizer::load(folder_.path())->encode(std::string(100'000, 'a')), InputError);
}

TEST_F(HostileFiles, LongTexts) {
  const auto tokenizer = Tokenizer::load(data_folder() / "bpe");
  const std::string text(kMostTextBytes + 1, 'a');
  for (const bool control : {true, false}) {
    EXPECT_THAT(message_of<InputError>([&] { tokenizer->encode(text, control); }),
                HasSubstr("8388609 bytes: at most 8388608"));
  }
}

// Links in circles, pipes and folders in the place of files: told, not waited for.
TEST_F(HostileFiles, WhatIsNotAFile) {
  std::filesystem::create_symlink("tokenizer.json", folder_.path() / "tokenizer.json");
  EXPECT_THAT(message_of<ModelError>([&] { Tokenizer::load(folder_.path()); }),
              ::testing::AllOf(HasSubstr("tokenizer.json"), HasSubstr("cannot be opened")));
  std::filesystem::remove(folder_.path() / "tokenizer.json");
  std::filesystem::create_directory(folder_.path() / "tokenizer.model");
  EXPECT_THAT(message_of<ModelError>([&] { Tokenizer::load(folder_.path()); }), HasSubstr("a folder"));
  folder_.write("added_tokens.json", "{}");
  for (const char* name : {"config.json", "tokenizer_config.json"}) {
    ASSERT_EQ(::mkfifo((folder_.path() / name).c_str(), 0600), 0);
    EXPECT_THAT(message_of<ModelError>([&] { Tokenizer::load(folder_.path()); }),
                ::testing::AllOf(HasSubstr(name), HasSubstr("a pipe")));
    std::filesystem::remove(folder_.path() / name);
  }
  std::filesystem::remove(folder_.path() / "tokenizer.model");
  folder_.write("tokenizer.json", "{}");
  std::filesystem::resize_file(folder_.path() / "tokenizer.json", std::uintmax_t{50} << 30);  // Sparse.
  EXPECT_THAT(message_of<ModelError>([&] { Tokenizer::load(folder_.path()); }), HasSubstr("at most"));
}

TEST_F(HostileFiles, VocabAndMerges) {
  folder_.write("vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  refused("merges.txt", "#version: 0.2\na b\na", "line 3");
  refused("merges.txt", "a b c", "line 1");
  refused("merges.txt", " b", "line 1");
  refused("merges.txt", "a \xFF", "not UTF-8");
  refused("merges.txt", "a z", "\"z\"");
  folder_.write("merges.txt", "#version: 0.2\r\na b\r\n\r\n");
  EXPECT_EQ(Tokenizer::load(folder_.path())->encode("ab"), std::vector<std::int64_t>{2});
  folder_.write("merges.txt", "");
  refused("vocab.json", "[]", "not a JSON object");
  refused("vocab.json", R"({"a": null})", "\"a\"");
  folder_.write("vocab.json", "{}");
  EXPECT_TRUE(Tokenizer::load(folder_.path())->encode("anything").empty());
}

TEST_F(HostileFiles, Configs) {
  std::filesystem::copy_file(data_folder() / "bpe/tokenizer.json", folder_.path() / "tokenizer.json");
  refused("tokenizer_config.json", "[]", "not a JSON object");
  refused("tokenizer_config.json", R"({"tokenizer_class": 5})", "tokenizer_class");
  refused("tokenizer_config.json", R"({"eos_token": 5})", "eos_token");
  refused("tokenizer_config.json", R"({"eos_token": {"id": 5}})", "content");
  refused("tokenizer_config.json", R"({"added_tokens_decoder": 5})", "added_tokens_decoder");
  refused("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "y"}}})", "\"x\"");
  refused("tokenizer_config.json", R"({"added_tokens_decoder": {"-5": {"content": "y"}}})", "-5");
  folder_.write("tokenizer_config.json", "{}");
  refused("added_tokens.json", R"({"x": "y"})", "\"x\"");
  refused("added_tokens.json", R"({"x": -2})", "-2");
  folder_.write("added_tokens.json", "{}");
  refused("special_tokens_map.json", R"({"pad_token": [1]})", "pad_token");
  std::filesystem::remove(folder_.path() / "tokenizer.json");
  folder_.write("special_tokens_map.json", "{}");
  folder_.write("vocab.json", R"({"a": 0})");
  folder_.write("merges.txt", "");
  refused("tokenizer_config.json", R"({"tokenizer_class": "BertTokenizer"})", "BertTokenizer");
}

TEST_F(HostileFiles, SentencepieceModels) {
  for (const char* name : {"spm_llama", "spm_unigram"}) {
    const std::string whole = read(data_folder() / name / "tokenizer.model");
    refused("tokenizer.model", "", "");
    refused("tokenizer.model", "garbage, not a model", "");
    refused("tokenizer.model", std::string(1000, '\xFF'), "");
    // Cut anywhere: refused, or (at the end of a field) a smaller model, but nothing else.
    for (std::size_t size = 1; size < whole.size(); size += 97) {
      folder_.write("tokenizer.model", std::string_view(whole).substr(0, size));
      try {
        static_cast<void>(Tokenizer::load(folder_.path())->encode("a red circle \u00e9"));
      } catch (const ModelError&) {
      }
    }
    for (std::size_t at = 0; at < whole.size(); at += 211) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
      folder_.write("tokenizer.model", damaged);
      try {
        static_cast<void>(Tokenizer::load(folder_.path())->encode("a red circle \u00e9"));
      } catch (const Error&) {
      }
    }
  }
}

TEST_F(HostileFiles, SentencepieceLongPieces) {
  // One piece of many bytes: the pairs that it could be made of are quadratic in number.
  const auto varint = [](std::size_t value) {
    std::string out;
    for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
    return out + static_cast<char>(value);
  };
  const auto field = [&](int number, const std::string& content) {
    std::string out(1, static_cast<char>(number << 3 | 2));
    return out.append(varint(content.size())).append(content);
  };
  const std::string model =
      field(1, field(1, std::string(1 << 20, 'a'))) + field(2, std::string("\x18\x02", 2));
  refused("tokenizer.model", model, "too long");
}

}  // namespace
}  // namespace tte::text
