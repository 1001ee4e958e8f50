// Which of a checkpoint's tokenizer files counts.
#include <fmt/core.h>

#include <algorithm>

#include "base/file.h"
#include "text/tokenizer/files.h"
#include "text/tokenizer/pipeline.h"
#include "tte/error.h"

namespace tte::text {
namespace {

// add_bos_token and add_eos_token, which count only where no tokenizer.json says it in its own way.
void add_ends(TokenizerParts& parts, const TokenizerConfig& config) {
  const auto add = [&](const char* flag, std::string_view name, std::vector<std::int64_t>& out) {
    if (!config.json.flag(flag, false)) return;
    const auto token = std::find_if(parts.named.begin(), parts.named.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    if (token == parts.named.end()) return;
    const auto added = parts.added_index.find(token->second);
    if (added != parts.added_index.end()) out.push_back(parts.added[added->second].id);
  };
  add("add_bos_token", "bos_token", parts.begin_ids);
  add("add_eos_token", "eos_token", parts.end_ids);
}

TokenizerParts read_parts(const TokenizerConfig& config, std::string& where) {
  const auto there = [&](const char* name) { return base::is_present(config.folder / name); };
  if (there("tokenizer.json")) {
    where = base::shown(config.folder / "tokenizer.json");
    return read_tokenizer_json(config.folder / "tokenizer.json", config);
  }
  if (there("tokenizer.model")) {
    where = base::shown(config.folder / "tokenizer.model");
    return read_sentencepiece(config.folder / "tokenizer.model", config);
  }
  if (there("vocab.json") && there("merges.txt")) {
    where = base::shown(config.folder / "vocab.json");
    return read_vocab_and_merges(config);
  }
  throw ModelError(
      fmt::format("{} has no tokenizer: tokenizer.json, tokenizer.model, or vocab.json and merges.txt are "
                  "needed.",
                  base::shown(config.folder)));
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::load(const base::Checkpoint& checkpoint) {
  const TokenizerConfig config = TokenizerConfig::read(checkpoint);
  std::string where;
  TokenizerParts parts = read_parts(config, where);
  add_declared_tokens(parts, config);
  for (AddedToken& token : parts.added_last) add_token(parts, std::move(token));
  parts.added_last.clear();
  if (!base::is_present(config.folder / "tokenizer.json")) add_ends(parts, config);
  return std::make_shared<PipelineTokenizer>(std::move(parts), where);
}

}  // namespace tte::text
