/// @file
/// A checkpoint's tokenizer and chat template by themselves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tte/export.h"
#include "tte/input.h"

namespace tte {

/// Immutable and thread-safe; copies share it.
class TTE_API Tokenizer {
 public:
  /// Reads tokenizer.json, vocab.json + merges.txt, or tokenizer.model of a checkpoint folder. Throws
  /// ModelError naming the file that is missing or damaged.
  static Tokenizer load(const std::filesystem::path& checkpoint);

  /// Ids of `text`. With parse_control, strings of added tokens become those tokens; without, all is plain
  /// text. No begin or end token is added. Throws InputError for text that is not UTF-8, or has more than 8 MiB.
  [[nodiscard]] std::vector<std::int64_t> encode(std::string_view text, bool parse_control = true) const;

  /// Text of ids; bytes that are not UTF-8 become U+FFFD. Throws InputError for a negative id.
  [[nodiscard]] std::string decode(const std::vector<std::int64_t>& ids, bool skip_special = true) const;

  /// Chat messages as the checkpoint's own template writes them, with one placeholder per image and video.
  /// `continue_final_message` leaves the last turn open and excludes `add_generation_prompt`. Control-token
  /// strings inside the messages are left as they are: the result is text. Throws ModelError if there is no
  /// template.
  [[nodiscard]] std::string apply_chat_template(const std::vector<Message>& messages,
                                                bool add_generation_prompt = true,
                                                bool continue_final_message = false) const;

  [[nodiscard]] std::optional<std::int64_t> id_of(std::string_view token) const;
  [[nodiscard]] std::int64_t vocab_size() const;  ///< Highest id + 1.
  [[nodiscard]] std::optional<std::int64_t> eos_id() const;
  [[nodiscard]] std::optional<std::int64_t> pad_id() const;
  /// Digest of all tokens and their ids: equal for two tokenizers whose ids mean the same.
  [[nodiscard]] const std::string& vocabulary() const;

  class Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl);

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace tte
