// A tokenizer as tokenizer.json describes one: added tokens, normaliser, pre-tokenizer, model, decoder.
// Every format that tte reads is turned into these parts.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/splitter.h"
#include "text/tokenizer/subword_model.h"
#include "text/tokenizer/tokenizer.h"

namespace tte::text {

struct SplitStep {
  std::shared_ptr<const Splitter> splitter;
  Splitter::Behavior behavior = Splitter::Behavior::kIsolated;
  bool invert = false;
};
// Spaces become `replacement`, and one is put before the text unless it begins with one.
struct MetaspaceStep {
  enum class Prepend { kAlways, kFirst, kNever };  // kFirst: only at the very start of the text.
  std::string replacement = "\xE2\x96\x81";        // U+2581
  Prepend prepend = Prepend::kAlways;
  bool split = false;  // Before each replacement.
};
struct PrefixSpaceStep {};  // ByteLevel's add_prefix_space.
using PreTokenizerStep = std::variant<SplitStep, MetaspaceStep, PrefixSpaceStep>;

struct DecoderSpec {
  bool byte_level = false;  // Token strings are in the byte-level alphabet; nothing below applies.
  std::vector<std::pair<std::string, std::string>> replace;
  bool byte_fallback = false;
  std::string dropped_prefix;  // From the start of the text, once.
  // The metaspace decoder: all of these are dropped from the first token.
  std::string dropped_from_first;
};

struct TokenizerParts {
  Normalizer normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::unique_ptr<const SubwordModel> model;
  std::shared_ptr<const Vocabulary> vocabulary;
  // An added token with the id of a piece takes its place; otherwise that is an error.
  bool renames_pieces = false;
  // Tokens of added_tokens_decoder are looked for in the raw text, whatever it says of them.
  bool declared_raw = false;
  DecoderSpec decoder;
  bool split_special = false;      // Special tokens in a text stay text (split_special_tokens).
  std::vector<AddedToken> added;   // Filled by add_token().
  std::vector<AddedToken> listed;  // tokenizer.json's, with the ids that it gives them.
  // To be added after those that the checkpoint declares, unless it lists them.
  std::vector<AddedToken> added_last;
  TextMap<std::size_t> added_index;
  std::int64_t next_id = 0;                      // Of a token that is new: see start_adding().
  std::vector<std::int64_t> begin_ids, end_ids;  // Around every text of its own.
  // "eos_token" and the like. Of a name given twice the first counts.
  std::vector<std::pair<std::string, std::string>> named;
  // What the tokenizer's class says where the checkpoint says nothing.
  std::vector<std::pair<std::string, std::string>> named_defaults;
};

// Appends a step that cuts at the matches of `splitter`.
void add_split(TokenizerParts& parts, std::shared_ptr<const Splitter> splitter,
               Splitter::Behavior behavior = Splitter::Behavior::kIsolated, bool invert = false);

class PipelineTokenizer final : public Tokenizer {
 public:
  // Throws ModelError naming `where` if an added token and the vocabulary disagree.
  PipelineTokenizer(TokenizerParts parts, const std::string& where);

  [[nodiscard]] std::vector<std::int64_t> encode(std::string_view text, bool parse_control) const override;
  [[nodiscard]] std::string token_bytes(std::int64_t id, bool first) const override;
  [[nodiscard]] bool is_byte(std::int64_t id) const override;
  [[nodiscard]] bool is_special(std::int64_t id) const override;
  [[nodiscard]] std::string_view dropped_prefix() const override { return parts_.decoder.dropped_prefix; }
  [[nodiscard]] std::optional<std::int64_t> id_of(std::string_view token) const override;
  [[nodiscard]] std::int64_t vocab_size() const override { return static_cast<std::int64_t>(tokens_.size()); }
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& named_tokens() const override {
    return parts_.named;
  }
  [[nodiscard]] const std::vector<AddedToken>& added_tokens() const override { return parts_.added; }

 private:
  struct Token {
    std::string bytes;
    bool byte = false;
    bool special = false;
    bool known = false;  // Ids without a token are holes.
  };
  void number_tokens(const std::string& where);
  [[nodiscard]] std::string decoded(const std::string& token) const;
  // Text with control tokens and without guards.
  void encode_control(std::string_view text, std::vector<std::int64_t>& ids) const;
  // Text with guards.
  void encode_guarded(std::string_view text, std::vector<std::int64_t>& ids) const;
  // A part of a guarded text behind the first: what is special about the start of a text does not hold there.
  void encode_part(std::string_view part, bool plain, std::vector<std::int64_t>& ids) const;
  // Raw text without added tokens.
  void encode_plain(std::string_view text, std::vector<std::int64_t>& ids) const;
  // Normalised text from pre-tokenizer step `step` on.
  void run(std::size_t step, std::string_view text, bool at_start, std::vector<std::int64_t>& ids) const;

  TokenizerParts parts_;
  std::vector<Token> tokens_;
  AddedTokenMatcher raw_;          // Looked for in the text as it is,
  AddedTokenMatcher normalized_;   // and in the normalised text.
  std::size_t longest_added_ = 0;  // In bytes.
  std::vector<std::int64_t> newline_;
};

}  // namespace tte::text
