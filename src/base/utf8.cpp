#include "base/utf8.h"

namespace tte::base {
namespace {

struct Lead {
  std::size_t length;       // 0: cannot start a sequence.
  unsigned char low, high;  // What the second byte may be.
};

Lead lead_of(unsigned char c) {
  if (c < 0x80) return {1, 0, 0};
  if (c < 0xC2) return {0, 0, 0};
  if (c < 0xE0) return {2, 0x80, 0xBF};
  if (c < 0xF0) {
    return {3, static_cast<unsigned char>(c == 0xE0 ? 0xA0 : 0x80),
            static_cast<unsigned char>(c == 0xED ? 0x9F : 0xBF)};
  }
  if (c < 0xF5) {
    return {4, static_cast<unsigned char>(c == 0xF0 ? 0x90 : 0x80),
            static_cast<unsigned char>(c == 0xF4 ? 0x8F : 0xBF)};
  }
  return {0, 0, 0};
}

// Well-formed bytes at `at`, at most `lead.length`.
std::size_t matched(std::string_view text, std::size_t at, const Lead& lead) {
  std::size_t n = 1;
  for (; n < lead.length && at + n < text.size(); ++n) {
    const auto c = static_cast<unsigned char>(text[at + n]);
    const unsigned char low = n == 1 ? lead.low : 0x80;
    const unsigned char high = n == 1 ? lead.high : 0xBF;
    if (c < low || c > high) break;
  }
  return n;
}

}  // namespace

std::size_t sequence_length(std::string_view text, std::size_t at) {
  const Lead lead = lead_of(static_cast<unsigned char>(text[at]));
  return lead.length != 0 && matched(text, at, lead) == lead.length ? lead.length : 0;
}

std::size_t broken_length(std::string_view text, std::size_t at, bool& incomplete) {
  incomplete = false;
  const Lead lead = lead_of(static_cast<unsigned char>(text[at]));
  if (lead.length == 0) return 1;
  const std::size_t n = matched(text, at, lead);
  incomplete = n < lead.length && at + n == text.size();
  return n;
}

std::size_t find_invalid(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const std::size_t n = sequence_length(text, i);
    if (n == 0) return i;
    i += n;
  }
  return std::string_view::npos;
}

void append_code_point(std::string& out, char32_t c) {
  const auto put = [&](unsigned value) { out.push_back(static_cast<char>(value)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

void append_replaced(std::string& out, std::string_view bytes) {
  std::size_t good = 0;
  for (std::size_t i = 0; i < bytes.size();) {
    if (static_cast<unsigned char>(bytes[i]) < 0x80) {
      ++i;
      continue;
    }
    if (const std::size_t n = sequence_length(bytes, i); n != 0) {
      i += n;
      continue;
    }
    out.append(bytes.substr(good, i - good));
    out.append(kReplacement);
    bool incomplete = false;
    i += broken_length(bytes, i, incomplete);
    good = i;
  }
  out.append(bytes.substr(good));
}

}  // namespace tte::base
