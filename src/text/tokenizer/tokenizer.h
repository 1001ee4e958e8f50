// Text to token ids and back, as the checkpoint's own tokenizer files say.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/checkpoint.h"

namespace tte::text {

struct AddedToken {
  std::string content;
  std::int64_t id = 0;
  bool special = false;
  bool lstrip = false;
  bool rstrip = false;
  bool single_word = false;
  bool normalized = false;
  // In this or an earlier declaration: it is decoded to what the normalizer makes of it, as in the library.
  bool was_normalized = false;
};

// Noncharacters that enclose control-token strings of user text, so that they are not cut out as control
// tokens: encode() tokenises what stands between them as plain text and on its own, and drops the guards. A
// guard without its partner is dropped too, but still parts the text before it from the text after it.
inline constexpr std::string_view kGuardBegin = "\xEF\xB7\x90";  // U+FDD0
inline constexpr std::string_view kGuardEnd = "\xEF\xB7\x91";    // U+FDD1

// Immutable and safe to use from many threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Loads tokenizer.json, or tokenizer.model, or vocab.json + merges.txt (the first that is there, as
  // transformers 5 does) from a checkpoint folder, with tokenizer_config.json / added_tokens.json /
  // special_tokens_map.json beside it. Throws ModelError naming the file that is missing or damaged.
  static std::shared_ptr<const Tokenizer> load(const base::Checkpoint& checkpoint);

  // Ids of `text`. With parse_control, strings of added tokens become those tokens (unless guarded); without,
  // everything is plain text. No BOS or EOS is added. Throws InputError for text that is not UTF-8, and for
  // guarded text from which the tokenizer makes the control token after all.
  [[nodiscard]] virtual std::vector<std::int64_t> encode(std::string_view text,
                                                         bool parse_control = true) const = 0;

  // The bytes of one token; empty for ids past the vocabulary. Special tokens give their content.
  // `first` is true for the first token of a text (sentencepiece drops its leading space there, if so
  // configured).
  [[nodiscard]] virtual std::string token_bytes(std::int64_t id, bool first) const = 0;

  // True for a fallback token "<0xNN>" of sentencepiece: a run of those is a text only as a whole, and U+FFFD
  // for each byte if it is not UTF-8.
  [[nodiscard]] virtual bool is_byte(std::int64_t id) const;
  // What is dropped from the start of every decoded text: sentencepiece's leading space, or nothing.
  [[nodiscard]] virtual std::string_view dropped_prefix() const { return {}; }

  // Text of ids; bytes that are not UTF-8 become U+FFFD, as transformers does.
  [[nodiscard]] std::string decode(const std::vector<std::int64_t>& ids, bool skip_special = true) const;

  [[nodiscard]] virtual std::optional<std::int64_t> id_of(std::string_view token) const = 0;
  [[nodiscard]] virtual std::int64_t vocab_size() const = 0;  // Highest id + 1.
  [[nodiscard]] virtual const std::vector<AddedToken>& added_tokens() const = 0;
  // Names the checkpoint gives to tokens ("bos_token", "image_token", ...) and their strings: chat templates
  // see them.
  [[nodiscard]] virtual const std::vector<std::pair<std::string, std::string>>& named_tokens() const;
  [[nodiscard]] virtual bool is_special(std::int64_t id) const;
  // What stands before and behind every text that is a prompt of its own (transformers' add_special_tokens): the
  // post-processor of tokenizer.json, or else add_bos_token and add_eos_token. encode() leaves both out.
  [[nodiscard]] const std::vector<std::int64_t>& begin_ids() const { return begin_ids_; }
  [[nodiscard]] const std::vector<std::int64_t>& end_ids() const { return end_ids_; }
  [[nodiscard]] std::optional<std::int64_t> eos_id() const { return eos_id_; }
  [[nodiscard]] std::optional<std::int64_t> pad_id() const { return pad_id_; }

 protected:
  std::optional<std::int64_t> eos_id_;
  std::optional<std::int64_t> pad_id_;
  std::vector<std::int64_t> begin_ids_, end_ids_;
};

// Incremental detokenisation: feeds ids one by one and returns text that is complete. Never emits half a
// character and never takes anything back.
class StreamDecoder {
 public:
  explicit StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special = true);
  std::string push(std::int64_t id);
  std::string finish();  // What is left; an incomplete character becomes U+FFFD.

 private:
  void end_run();
  std::string take_complete();

  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  bool first_ = true;
  std::string run_;      // Bytes of fallback tokens: whether they are a character shows when the run ends.
  std::string pending_;  // The beginning of a character.
};

}  // namespace tte::text
