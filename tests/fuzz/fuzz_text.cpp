// Fuzzes what text/ reads from checkpoints, and what it does with what it has read. The first byte of an
// input chooses:
//   0 tokenizer.json   1 vocab.json + merges.txt   2 tokenizer.model   3 a chat template
//   4 text through a good tokenizer, and its bytes as ids back
// Anything but a tte::Error is a finding.
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "text/control_tokens.h"
#include "text/jinja/template.h"
#include "text/tokenizer/tokenizer.h"
#include "tte/error.h"

namespace {

using tte::text::Tokenizer;

const std::filesystem::path& folder() {
  static const std::filesystem::path path = [] {
    // In memory where there is such a file system: an input is a few files.
    const std::filesystem::path shm = "/dev/shm";
    const auto base = std::filesystem::is_directory(shm) ? shm : std::filesystem::temp_directory_path();
    auto out = base / ("tte_fuzz_text_" + std::to_string(::getpid()));
    std::filesystem::create_directories(out);
    return out;
  }();
  return path;
}

void write(const char* name, std::string_view content) {
  std::ofstream(folder() / name, std::ios::binary) << content;
}

void use(const Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode("A red  circle\n it's 12 \u00e9\u4e2d <|im_end|> <think>");
  static_cast<void>(tokenizer.decode(ids));
  static_cast<void>(tokenizer.decode({0, 1, 2, 255, 256, 257, 1 << 20, -1}, false));
}

void load_with(const char* name, std::string_view content) {
  write(name, content);
  use(*Tokenizer::load(folder()));
}

void vocab_and_merges(std::string_view content) {
  // The merges are what is fuzzed: over a vocabulary of some letters and pairs.
  write("vocab.json", R"({"a":0,"b":1,"ab":2,"aa":3,"aab":4,"\u0120":5,"\u0120a":6})");
  load_with("merges.txt", content);
}

void chat_template(std::string_view content) {
  using tte::text::jinja::Dict;
  using tte::text::jinja::List;
  using tte::text::jinja::Value;
  const tte::text::jinja::Template parsed(content, "fuzz");
  Dict message;
  message.set("role", "user");
  message.set("content", List{Value("a"), Value(std::int64_t{2})});
  const std::string text =
      parsed.render({{"messages", List{message, message}}, {"x", "x y"}, {"n", std::int64_t{3}}});
  if (tte::base::find_invalid(text) != std::string::npos) __builtin_trap();
}

void round_trip(std::string_view content) {
  static const auto tokenizer =
      Tokenizer::load(std::filesystem::path(TTE_SOURCE_DIR) / "tests/data/text/spm_nano");
  static const auto bytes = Tokenizer::load(std::filesystem::path(TTE_SOURCE_DIR) / "tests/data/text/bpe");
  static const tte::text::ControlTokens control({"<think>", "<|im_end|>"});
  for (const auto& t : {tokenizer, bytes}) {
    std::vector<std::int64_t> ids;
    for (const char c : content) ids.push_back(static_cast<unsigned char>(c) + 3);
    std::string streamed;
    tte::text::StreamDecoder decoder(t, false);
    for (const auto id : ids) streamed += decoder.push(id);
    if (streamed + decoder.finish() != t->decode(ids, false)) __builtin_trap();
    static_cast<void>(t->encode(content, false));
    static_cast<void>(t->encode(control.settle(control.guard_ends(content) + "end|>")));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view content(reinterpret_cast<const char*>(data) + 1, size - 1);
  for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model"}) {
    std::filesystem::remove(folder() / name);
  }
  try {
    switch (data[0] % 5) {
      case 0:
        load_with("tokenizer.json", content);
        break;
      case 1:
        vocab_and_merges(content);
        break;
      case 2:
        load_with("tokenizer.model", content);
        break;
      case 3:
        chat_template(content);
        break;
      default:
        round_trip(content);
        break;
    }
  } catch (const tte::Error&) {
  }
  return 0;
}
