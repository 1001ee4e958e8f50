// The parts of a sentencepiece model file (a protocol buffer) that tte needs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tte::text {

struct SentencePiece {
  enum Type : std::int64_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };
  std::string text;
  float score = 0;
  std::int64_t type = kNormal;
};

struct SentencePieceModel {
  static constexpr std::int64_t kUnigram = 1;
  static constexpr std::int64_t kBpe = 2;
  std::vector<SentencePiece> pieces;
  // trainer_spec
  std::int64_t type = kUnigram;
  bool byte_fallback = false;
  std::int64_t unk_id = 0;
  std::int64_t bos_id = 1;
  std::int64_t eos_id = 2;
  std::string unk_piece = "<unk>";
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  // normalizer_spec
  std::string charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

// Throws ModelError naming `where` for bytes that are not such a model, or one without pieces.
SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& where);

}  // namespace tte::text
