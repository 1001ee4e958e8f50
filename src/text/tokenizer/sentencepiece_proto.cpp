#include "text/tokenizer/sentencepiece_proto.h"

#include <fmt/core.h>

#include <bit>
#include <cstring>
#include <optional>

#include "base/utf8.h"
#include "tte/error.h"

namespace tte::text {
namespace {

struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;   // Varint or fixed.
  std::string_view content;  // Length-delimited.
};

// Walks the fields of one protocol buffer message.
class Message {
 public:
  Message(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  bool next(Field& field) {
    if (at_ == bytes_.size()) return false;
    const std::uint64_t tag = varint();
    field = {tag >> 3, 0, {}};
    switch (tag & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2:
        field.content = read(varint());
        break;
      case 5:
        field.value = fixed(4);
        break;
      default:
        damaged();
    }
    if (field.number == 0) damaged();
    return true;
  }

 private:
  [[noreturn]] void damaged() const {
    throw ModelError(
        fmt::format("{} is not a sentencepiece model, or is cut off: get the file again.", where_));
  }
  std::string_view read(std::uint64_t size) {
    if (size > bytes_.size() - at_) damaged();
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  std::uint64_t fixed(std::size_t size) {
    const std::string_view raw = read(size);
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) value = (value << 8) | static_cast<unsigned char>(raw[i]);
    return value;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(read(1)[0]);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    damaged();
  }

  std::string_view bytes_;
  const std::string& where_;
  std::size_t at_ = 0;
};

SentencePiece parse_piece(std::string_view bytes, const std::string& where) {
  SentencePiece piece;
  Message message(bytes, where);
  for (Field field; message.next(field);) {
    if (field.number == 1) piece.text = field.content;
    if (field.number == 2) piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
    if (field.number == 3) piece.type = static_cast<std::int64_t>(field.value);
  }
  return piece;
}

void parse_trainer(std::string_view bytes, const std::string& where, SentencePieceModel& model) {
  Message message(bytes, where);
  for (Field field; message.next(field);) {
    // Negative int32 are written as 64-bit varints.
    const auto number = static_cast<std::int64_t>(field.value);
    switch (field.number) {
      case 3:
        model.type = number;
        break;
      case 35:
        model.byte_fallback = number != 0;
        break;
      case 40:
        model.unk_id = number;
        break;
      case 41:
        model.bos_id = number;
        break;
      case 42:
        model.eos_id = number;
        break;
      case 45:
        model.unk_piece = field.content;
        break;
      case 46:
        model.bos_piece = field.content;
        break;
      case 47:
        model.eos_piece = field.content;
        break;
      default:
        break;
    }
  }
}

void parse_normalizer(std::string_view bytes, const std::string& where, SentencePieceModel& model) {
  Message message(bytes, where);
  for (Field field; message.next(field);) {
    switch (field.number) {
      case 2:
        model.charsmap = field.content;
        break;
      case 3:
        model.add_dummy_prefix = field.value != 0;
        break;
      case 4:
        model.remove_extra_whitespaces = field.value != 0;
        break;
      case 5:
        model.escape_whitespaces = field.value != 0;
        break;
      default:
        break;
    }
  }
}

}  // namespace

SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& where) {
  SentencePieceModel model;
  Message message(bytes, where);
  for (Field field; message.next(field);) {
    if (field.number == 1) model.pieces.push_back(parse_piece(field.content, where));
    if (field.number == 2) parse_trainer(field.content, where, model);
    if (field.number == 3) parse_normalizer(field.content, where, model);
  }
  if (model.pieces.empty())
    throw ModelError(fmt::format("{} has no pieces: it is not a sentencepiece model.", where));
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const std::string& text = model.pieces[i].text;
    if (text.empty() || base::find_invalid(text) != std::string::npos) {
      throw ModelError(fmt::format("{}: piece {} is empty or not UTF-8.", where, i));
    }
  }
  return model;
}

}  // namespace tte::text
