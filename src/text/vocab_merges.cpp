// vocab.json + merges.txt, the older form of a byte-level BPE.
#include <fmt/core.h>

#include <fstream>
#include <iterator>

#include "base/printable.h"
#include "text/bpe.h"
#include "text/tokenizer_files.h"
#include "text/utf8.h"
#include "tte/error.h"

namespace tte::text {
namespace {

constexpr std::uintmax_t kMaxMergesBytes = std::uintmax_t{256} << 20;

std::string read_text(const std::filesystem::path& file) {
  std::error_code failure;
  const std::uintmax_t size = std::filesystem::file_size(file, failure);
  if (failure) throw ModelError(fmt::format("{} cannot be read: {}.", file.string(), failure.message()));
  if (size > kMaxMergesBytes) {
    throw ModelError(
        fmt::format("{} has {} bytes: at most {} are read.", file.string(), size, kMaxMergesBytes));
  }
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<std::pair<std::string, std::string>> read_merges(const std::filesystem::path& file) {
  const std::string text = read_text(file);
  if (const std::size_t at = find_invalid(text); at != std::string::npos) {
    throw ModelError(fmt::format("{} is not UTF-8 at byte {}.", file.string(), at));
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
      throw ModelError(fmt::format("{}: line {} (\"{}\") is not two tokens and a space between them.",
                                   file.string(), number, base::printable(line)));
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return merges;
}

}  // namespace

TokenizerParts read_vocab_and_merges(const TokenizerConfig& config) {
  const std::filesystem::path vocab_file = config.folder / "vocab.json";
  const std::filesystem::path merges_file = config.folder / "merges.txt";
  TokenizerParts parts;
  const std::string& name = config.class_name;
  const bool gpt2 = name == "GPT2Tokenizer";
  // The files say nothing about normaliser and split pattern: the class does.
  if (name.empty() || name == "Qwen2Tokenizer" || name == "Qwen3_5Tokenizer" ||
      name == "PreTrainedTokenizer") {
    parts.normalizer.add(Normalizer::Form::kNfc);
    const auto pattern = name == "Qwen3_5Tokenizer" ? kQwen35Pattern : kQwen2Pattern;
    add_split(parts, Splitter::from_regex(std::string(pattern), vocab_file.string()));
  } else if (!gpt2) {
    throw ModelError(
        fmt::format("{}: how {} splits text is not in vocab.json and merges.txt; save the tokenizer as "
                    "tokenizer.json with transformers.",
                    config.where, base::printable(name)));
  }
  if (base::get_or<bool>(config.json, "add_prefix_space", false, config.where)) {
    parts.pre_tokenizer.emplace_back(std::in_place_type<PrefixSpaceStep>);
  }
  if (gpt2) {
    add_split(parts, Splitter::from_regex(std::string(kGpt2Pattern), vocab_file.string()));
  }
  const base::Json json = base::read_json(vocab_file);
  if (!json.is_object()) throw ModelError(fmt::format("{} is not a JSON object.", vocab_file.string()));
  BpeSpec spec;
  auto vocabulary = std::make_shared<Vocabulary>();
  vocabulary->reserve(json.size());
  for (const auto& [token, id] : json.items()) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() >= (1 << 24)) {
      throw ModelError(fmt::format("{}: the id of \"{}\" is not an integer from 0 to {}.",
                                   vocab_file.string(), base::printable(token), (1 << 24) - 1));
    }
    vocabulary->emplace(token, id.get<std::int32_t>());
  }
  spec.vocabulary = std::move(vocabulary);
  spec.merges = read_merges(merges_file);
  spec.byte_level = true;
  parts.decoder.byte_level = true;
  parts.named_defaults = {{"eos_token", "<|endoftext|>"}, {"unk_token", "<|endoftext|>"}};
  parts.named_defaults.emplace_back(gpt2 ? "bos_token" : "pad_token", "<|endoftext|>");
  parts.vocabulary = spec.vocabulary;
  parts.model = std::make_unique<Bpe>(std::move(spec), merges_file.string());
  return parts;
}

}  // namespace tte::text
