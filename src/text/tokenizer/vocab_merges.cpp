// vocab.json + merges.txt, the older form of a byte-level BPE.
#include <fmt/core.h>

#include "base/file.h"
#include "base/printable.h"
#include "base/utf8.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/files.h"
#include "tte/error.h"

namespace tte::text {
namespace {

constexpr std::uintmax_t kMaxMergesBytes = std::uintmax_t{256} << 20;

std::vector<std::pair<std::string, std::string>> read_merges(const std::filesystem::path& file) {
  const std::string text = base::read_file(file, kMaxMergesBytes);
  const std::string where = base::shown(file);
  if (const std::size_t at = base::find_invalid(text); at != std::string::npos) {
    throw ModelError(fmt::format("{} is not UTF-8 at byte {}.", where, at));
  }
  std::vector<std::pair<std::string, std::string>> merges;
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const std::size_t space = line.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      throw ModelError(fmt::format("{}: line {} (\"{}\") is not two tokens and a space between them.", where,
                                   number, base::printable(line)));
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return merges;
}

}  // namespace

void set_qwen_pipeline(TokenizerParts& parts, const TokenizerConfig& config) {
  parts.normalizer.add(Normalizer::Form::kNfc);
  const auto pattern = config.class_name == "Qwen3_5Tokenizer" ? kQwen35Pattern : kQwen2Pattern;
  add_split(parts, Splitter::from_regex(std::string(pattern), config.json.where()));
  if (config.json.flag("add_prefix_space", false)) {
    parts.pre_tokenizer.emplace_back(std::in_place_type<PrefixSpaceStep>);
  }
  parts.decoder.byte_level = true;
  for (const char* name : {"eos_token", "unk_token", "pad_token"})
    parts.named_defaults.emplace_back(name, "<|endoftext|>");
}

TokenizerParts read_vocab_and_merges(const TokenizerConfig& config) {
  const std::filesystem::path vocab_file = config.folder / "vocab.json";
  const std::filesystem::path merges_file = config.folder / "merges.txt";
  const std::string where = base::shown(vocab_file);
  TokenizerParts parts;
  const std::string& name = config.class_name;
  // The files say nothing about normaliser and split pattern: the class does.
  if (name == "GPT2Tokenizer") {
    if (config.json.flag("add_prefix_space", false)) {
      parts.pre_tokenizer.emplace_back(std::in_place_type<PrefixSpaceStep>);
    }
    add_split(parts, Splitter::from_regex(std::string(kGpt2Pattern), where));
    parts.decoder.byte_level = true;
    for (const char* token : {"eos_token", "unk_token", "bos_token"})
      parts.named_defaults.emplace_back(token, "<|endoftext|>");
  } else if (name.empty() || name == "PreTrainedTokenizer" || config.is_qwen_class()) {
    set_qwen_pipeline(parts, config);
  } else {
    throw ModelError(
        fmt::format("{}: how {} splits text is not in vocab.json and merges.txt; save the tokenizer as "
                    "tokenizer.json with transformers.",
                    config.json.where(), base::printable(name)));
  }
  const base::JsonObject object = base::read_json_object(vocab_file);
  const base::Json& json = object.json();
  BpeSpec spec;
  auto vocabulary = std::make_shared<Vocabulary>();
  vocabulary->reserve(json.size());
  for (const auto& [token, id] : json.items()) {
    const auto number = base::whole_number(id, 0, (1 << 24) - 1);
    if (!number) {
      throw ModelError(fmt::format("{}: the id of \"{}\" is not an integer from 0 to {}.", where,
                                   base::printable(token), (1 << 24) - 1));
    }
    vocabulary->emplace(token, static_cast<std::int32_t>(*number));
  }
  spec.vocabulary = std::move(vocabulary);
  spec.merges = read_merges(merges_file);
  spec.byte_level = true;
  parts.vocabulary = spec.vocabulary;
  parts.model = std::make_unique<Bpe>(std::move(spec), base::shown(merges_file));
  return parts;
}

}  // namespace tte::text
