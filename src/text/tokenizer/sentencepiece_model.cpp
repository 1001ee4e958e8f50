// tokenizer.model: a sentencepiece model, made into the pipeline that transformers 5 makes of it.
#include <fmt/core.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <tuple>

#include "base/file.h"
#include "base/printable.h"
#include "base/utf8.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/files.h"
#include "text/tokenizer/sentencepiece_proto.h"
#include "tte/error.h"

namespace tte::text {
namespace {

constexpr std::uintmax_t kMaxModelBytes = std::uintmax_t{64} << 20;
constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581

// The unigram model and all that sentencepiece does around it, by sentencepiece itself.
class UnigramModel final : public SubwordModel {
 public:
  UnigramModel(const std::string& bytes, const std::string& where) {
    if (const auto status = processor_.LoadFromSerializedProto(bytes); !status.ok()) {
      throw ModelError(
          fmt::format("{} is refused by sentencepiece: {}.", where, base::printable(status.ToString())));
    }
  }
  void encode(std::string_view word, std::vector<std::int64_t>& ids) const override {
    std::vector<int> found;
    if (const auto status = processor_.Encode({word.data(), word.size()}, &found); !status.ok()) {
      throw InputError(fmt::format("sentencepiece cannot encode a text of {} bytes: {}.", word.size(),
                                   base::printable(status.ToString())));
    }
    ids.insert(ids.end(), found.begin(), found.end());
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

// A pair of pieces that makes a third, and what orders it among the others.
struct Ranked {
  double score;  // Lower first.
  std::int32_t id;
  std::string_view left, right;
};

// All ways to put pieces together from two others. sentencepiece itself needs no list of merges, tokenizers does.
std::vector<std::pair<std::string, std::string>> merges_of(const SentencePieceModel& model,
                                                           const Vocabulary& vocabulary, bool llama,
                                                           const std::string& where) {
  // Llama's class takes all pieces by their place in the file; others take normal pieces by score.
  const auto usable = [&](std::string_view text) {
    const auto it = vocabulary.find(text);
    return it != vocabulary.end() &&
           (llama || model.pieces[static_cast<std::size_t>(it->second)].type == SentencePiece::kNormal);
  };
  std::uint64_t work = 0;
  std::vector<Ranked> ranked;
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const SentencePiece& piece = model.pieces[i];
    const auto it = vocabulary.find(piece.text);
    if (it == vocabulary.end() || it->second != static_cast<std::int32_t>(i) || !usable(piece.text)) continue;
    work += piece.text.size() * piece.text.size();
    if (work > (std::uint64_t{1} << 31)) {
      throw ModelError(
          fmt::format("{}: the pieces are too long ({} bytes at piece {}).", where, piece.text.size(), i));
    }
    const double score = llama ? 0.0 : -static_cast<double>(piece.score);
    const std::string_view text = piece.text;
    std::size_t at = 0;
    for (base::next_code_point(text, at); at < text.size(); base::next_code_point(text, at)) {
      const std::string_view left = text.substr(0, at);
      const std::string_view right = text.substr(at);
      if (usable(left) && usable(right)) ranked.push_back({score, static_cast<std::int32_t>(i), left, right});
    }
  }
  // By score, then by id; for one piece Llama's class takes the shortest left part first, others the least in
  // code point order, which for prefixes of one piece is the shortest as well.
  std::stable_sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) {
    return std::tie(a.score, a.id) < std::tie(b.score, b.id);
  });
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(ranked.size());
  for (const Ranked& r : ranked) merges.emplace_back(r.left, r.right);
  return merges;
}

std::shared_ptr<const Splitter> regex(const char* pattern, const std::string& where) {
  return Splitter::from_regex(pattern, where);
}

// What sentencepiece does around the model, as transformers' TokenizersBackend does it.
void set_spec_pipeline(TokenizerParts& parts, const SentencePieceModel& model, bool legacy,
                       const std::string& where) {
  if (!model.charsmap.empty()) {
    throw ModelError(
        fmt::format("{}: a BPE model with a character map ({} bytes) is not supported; save the tokenizer "
                    "with normalization_rule_name=identity.",
                    where, model.charsmap.size()));
  }
  if (model.remove_extra_whitespaces) {
    parts.normalizer.add(Normalizer::Replace{regex("\\A +| +\\z", where), ""});
    parts.normalizer.add(Normalizer::Replace{regex(" {2,}", where), " "});
  }
  const std::string space(kMetaspace);
  if (model.escape_whitespaces) parts.normalizer.add(Normalizer::Replace{Splitter::from_string(" "), space});
  if (model.add_dummy_prefix) {
    if (legacy)
      parts.normalizer.add(Normalizer::Replace{regex("\\A\u2581", where), std::string(space).append(space)});
    const auto prepend = legacy ? MetaspaceStep::Prepend::kAlways : MetaspaceStep::Prepend::kFirst;
    parts.pre_tokenizer.emplace_back(std::in_place_type<MetaspaceStep>, MetaspaceStep{space, prepend, false});
  }
  std::vector<std::string> user_defined;
  for (const SentencePiece& piece : model.pieces) {
    if (piece.type == SentencePiece::kUserDefined) user_defined.push_back(piece.text);
  }
  if (!user_defined.empty()) add_split(parts, Splitter::from_strings(user_defined));
}

Vocabulary vocabulary_of(const SentencePieceModel& model) {
  Vocabulary vocabulary;
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    vocabulary[model.pieces[i].text] = static_cast<std::int32_t>(i);
  }
  return vocabulary;
}

}  // namespace

void set_llama_pipeline(TokenizerParts& parts, const TokenizerConfig& config) {
  const bool prefix = config.json.flag("add_prefix_space", true);
  const bool legacy = config.json.flag("legacy", false);
  using Prepend = MetaspaceStep::Prepend;
  const Prepend prepend = !prefix ? Prepend::kNever : legacy ? Prepend::kAlways : Prepend::kFirst;
  parts.pre_tokenizer.emplace_back(std::in_place_type<MetaspaceStep>,
                                   MetaspaceStep{std::string(kMetaspace), prepend, false});
  parts.decoder.replace.emplace_back(kMetaspace, " ");
  parts.decoder.byte_fallback = true;
  if (prefix) parts.decoder.dropped_prefix = std::string(1, ' ');
  parts.named_defaults = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}};
}

TokenizerParts read_sentencepiece(const std::filesystem::path& file, const TokenizerConfig& config) {
  const std::string where = base::shown(file);
  const std::string bytes = base::read_file(file, kMaxModelBytes);
  const SentencePieceModel model = parse_sentencepiece(bytes, where);
  const bool llama = config.is_llama_class();
  TokenizerParts parts;
  parts.vocabulary = std::make_shared<const Vocabulary>(vocabulary_of(model));
  parts.renames_pieces = !llama;
  parts.declared_raw = !llama && model.add_dummy_prefix;
  if (model.type == SentencePieceModel::kUnigram) {
    parts.model = std::make_unique<UnigramModel>(bytes, where);
  } else if (model.type == SentencePieceModel::kBpe) {
    BpeSpec spec;
    spec.vocabulary = parts.vocabulary;
    spec.merges = merges_of(model, *parts.vocabulary, llama, where);
    spec.byte_fallback = llama || model.byte_fallback;
    spec.fuse_unknown = true;
    const auto user_defined = [](const SentencePiece& piece) {
      return piece.type == SentencePiece::kUserDefined;
    };
    if (!llama) {
      spec.unknown = model.unk_piece;
      spec.ignore_merges = std::any_of(model.pieces.begin(), model.pieces.end(), user_defined);
    }
    parts.model = std::make_unique<Bpe>(std::move(spec), where);
  } else {
    throw ModelError(fmt::format(
        "{}: sentencepiece models of type {} are not supported, only unigram and BPE.", where, model.type));
  }
  if (llama && model.type == SentencePieceModel::kBpe) {
    set_llama_pipeline(parts, config);
  } else {
    const bool legacy = config.json.flag("legacy", true);
    if (model.type == SentencePieceModel::kBpe) set_spec_pipeline(parts, model, legacy, where);
    parts.decoder.replace.emplace_back(kMetaspace, " ");
    parts.decoder.byte_fallback = model.byte_fallback;
    if (model.bos_id >= 0) parts.named_defaults.emplace_back("bos_token", model.bos_piece);
    if (model.eos_id >= 0) parts.named_defaults.emplace_back("eos_token", model.eos_piece);
    if (model.unk_id >= 0) parts.named_defaults.emplace_back("unk_token", model.unk_piece);
    if (model.add_dummy_prefix) parts.decoder.dropped_prefix = std::string(1, ' ');
  }
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const SentencePiece& piece = model.pieces[i];
    if (piece.type != SentencePiece::kControl && piece.type != SentencePiece::kUserDefined) continue;
    AddedToken token;
    token.content = piece.text;
    token.id = static_cast<std::int64_t>(i);
    token.special = piece.type == SentencePiece::kControl;
    parts.added_last.push_back(std::move(token));
  }
  return parts;
}

}  // namespace tte::text
