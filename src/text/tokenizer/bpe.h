// Byte-pair encoding: the symbols of a word are merged pair by pair, the pair learnt first before all others.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer/subword_model.h"

namespace tte::text {

struct BpeSpec {
  std::shared_ptr<const Vocabulary> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;  // In the order they were learnt.
  // Symbols are bytes, written in the byte-level alphabet; otherwise characters.
  bool byte_level = false;
  // A character that is not in the vocabulary becomes tokens <0xNN>, if all of its bytes have one.
  bool byte_fallback = false;
  // What is still unknown becomes `unknown` (with fuse_unknown: one for a run), or nothing if that is not set.
  std::optional<std::string> unknown;
  bool fuse_unknown = false;
  // A word that is in the vocabulary is that token, whatever the merges say.
  bool ignore_merges = false;
};

class Bpe final : public SubwordModel {
 public:
  // Throws ModelError naming `where` if a merge names a token that is not in the vocabulary.
  Bpe(BpeSpec spec, const std::string& where);
  void encode(std::string_view word, std::vector<std::int64_t>& ids) const override;

 private:
  struct Merge {
    std::uint32_t rank = kNoRank;
    std::int32_t id = -1;
  };
  static constexpr std::uint32_t kNoRank = ~std::uint32_t{0};

  void note_neighbours();
  void add_merges(const std::string& where);
  [[nodiscard]] std::int32_t id_of(std::string_view token) const;  // -1 if unknown.
  [[nodiscard]] Merge find(std::int32_t left, std::int32_t right) const;
  void symbols_of(std::string_view word, std::vector<std::int32_t>& symbols) const;
  void encode_word(std::string_view word, std::vector<std::int64_t>& ids) const;
  // True if no token has `left` and `right` side by side, so that no merge can join them.
  [[nodiscard]] bool never_together(char32_t left, char32_t right) const;
  void merge_short(std::vector<std::int32_t>& symbols) const;
  void merge_long(std::vector<std::int32_t>& symbols) const;

  BpeSpec spec_;
  std::int32_t unknown_id_ = -1;
  std::array<std::int32_t, 256> byte_ids_{};
  Vocabulary by_bytes_;  // ignore_merges of a byte-level vocabulary.

  // Pairs in an open-addressed table: key (left << 32 | right), all ones when free.
  struct Slot {
    std::uint64_t key = ~std::uint64_t{0};
    Merge merge;
  };
  std::vector<Slot> table_;
  std::uint64_t mask_ = 0;

  // For a vocabulary of characters: pairs of characters (left << 32 | right) that stand side by side in some
  // token that is merged, open-addressed, zero when free. Sentencepiece knows no words: a long text is cut
  // where nothing could be merged, which changes nothing but the time it takes.
  std::vector<std::uint64_t> neighbours_;

  // Words repeat. Each shard forgets everything when it is full.
  static constexpr std::size_t kShards = 32;
  static constexpr std::size_t kShardWords = 1024;
  static constexpr std::size_t kCachedBytes = 48;
  struct Shard {
    std::mutex mutex;
    TextMap<std::vector<std::int32_t>> words;
  };
  std::unique_ptr<std::array<Shard, kShards>> cache_ = std::make_unique<std::array<Shard, kShards>>();
};

}  // namespace tte::text
