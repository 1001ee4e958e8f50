#include "text/tokenizer/normalizer.h"

#include <fmt/core.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include <algorithm>

#include "text/check_text.h"
#include "tte/error.h"

namespace tte::text {
namespace {

[[noreturn]] void no_data(UErrorCode status) {
  throw ModelError(
      fmt::format("ICU has no normalisation data ({}): install the ICU data files.", u_errorName(status)));
}

// The normal forms of Unicode 9, which the tokenizers library knows: a combining mark that came later is to
// it a character like any other, and is not put in order among the marks around it.
const icu::Normalizer2& instance(Normalizer::Form form) {
  const auto make = [](const icu::Normalizer2* (*get)(UErrorCode&)) {
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* newest = get(status);
    static const icu::UnicodeSet known = [] {
      UErrorCode failure = U_ZERO_ERROR;
      icu::UnicodeSet set(icu::UnicodeString("[:Age=9.0:]"), failure);
      if (U_FAILURE(failure)) no_data(failure);
      set.freeze();
      return set;
    }();
    if (U_FAILURE(status)) no_data(status);
    return icu::FilteredNormalizer2(*newest, known);
  };
  static const icu::FilteredNormalizer2 nfc = make(icu::Normalizer2::getNFCInstance);
  static const icu::FilteredNormalizer2 nfd = make(icu::Normalizer2::getNFDInstance);
  static const icu::FilteredNormalizer2 nfkc = make(icu::Normalizer2::getNFKCInstance);
  static const icu::FilteredNormalizer2 nfkd = make(icu::Normalizer2::getNFKDInstance);
  switch (form) {
    case Normalizer::Form::kNfd:
      return nfd;
    case Normalizer::Form::kNfkc:
      return nfkc;
    case Normalizer::Form::kNfkd:
      return nfkd;
    default:
      return nfc;
  }
}

// A normal form makes at most 18 bytes of one; steps that double a text, one after another, have no end.
constexpr std::size_t kMostBytes = 4 * kMostTextBytes;

[[noreturn]] void too_long(std::string_view text) {
  throw InputError(
      fmt::format("The tokenizer's normalizers make more than {} bytes of a text; one of them was "
                  "given {} bytes: cut the text into parts.",
                  kMostBytes, text.size()));
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// True if `out` holds the result; false if nothing changes.
bool apply_step(const Normalizer::Form& form, std::string_view text, std::string& out) {
  if (is_ascii(text)) return false;
  const icu::Normalizer2& normalizer = instance(form);
  UErrorCode status = U_ZERO_ERROR;
  const icu::StringPiece piece(text.data(), static_cast<std::int32_t>(text.size()));
  if (normalizer.isNormalizedUTF8(piece, status) != 0 && U_SUCCESS(status)) return false;
  icu::StringByteSink<std::string> sink(&out, static_cast<std::int32_t>(text.size()));
  status = U_ZERO_ERROR;
  normalizer.normalizeUTF8(0, piece, sink, nullptr, status);
  if (U_FAILURE(status)) {
    throw InputError(
        fmt::format("A text of {} bytes cannot be normalised ({}).", text.size(), u_errorName(status)));
  }
  return true;
}

bool apply_step(const Normalizer::Replace& replace, std::string_view text, std::string& out) {
  std::vector<Range> matches;
  replace.pattern->find(text, matches);
  if (matches.empty()) return false;
  std::size_t at = 0;
  for (const Range& m : matches) {
    out.append(text.substr(at, m.begin - at)).append(replace.content);
    at = m.end;
    if (out.size() > kMostBytes) too_long(text);
  }
  out.append(text.substr(at));
  return true;
}

bool apply_step(const Normalizer::Prepend& prepend, std::string_view text, std::string& out) {
  if (text.empty()) return false;
  out.append(prepend.content).append(text);
  return true;
}

}  // namespace

void Normalizer::add(Step step) {
  steps_.push_back(std::move(step));
}

std::string_view Normalizer::apply(std::string_view text, std::string& storage) const {
  std::string_view current = text;
  for (const Step& step : steps_) {
    std::string next;
    if (std::visit([&](const auto& s) { return apply_step(s, current, next); }, step)) {
      if (next.size() > kMostBytes) too_long(current);
      storage.swap(next);
      current = storage;
    }
  }
  return current;
}

}  // namespace tte::text
