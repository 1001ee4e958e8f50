#include "text/tokenizer/pipeline.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/printable.h"
#include "text/check_text.h"
#include "tte/error.h"

namespace tte::text {
namespace {

constexpr std::int64_t kMaxId = std::int64_t{1} << 24;
constexpr std::size_t kMaxAddedBytes = 4096;
constexpr std::size_t kMaxAddedTogether = std::size_t{8} << 20;

void check_added_size(std::string_view content, const std::string& where) {
  if (content.size() <= kMaxAddedBytes) return;
  throw ModelError(fmt::format("{}: an added token has {} bytes: at most {} are taken.", where,
                               content.size(), kMaxAddedBytes));
}

std::string replaced(std::string_view text, std::string_view what, std::string_view by) {
  std::string out;
  std::size_t at = 0;
  for (std::size_t found = text.find(what); found != std::string_view::npos; found = text.find(what, at)) {
    out.append(text.substr(at, found - at)).append(by);
    at = found + what.size();
  }
  return out.append(text.substr(at));
}

}  // namespace

void add_split(TokenizerParts& parts, std::shared_ptr<const Splitter> splitter, Splitter::Behavior behavior,
               bool invert) {
  auto& step = parts.pre_tokenizer.emplace_back();  // The first alternative: a SplitStep.
  auto& cut = std::get<SplitStep>(step);
  cut.splitter = std::move(splitter);
  cut.behavior = behavior;
  cut.invert = invert;
}

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts, const std::string& where)
    : parts_(std::move(parts)) {
  number_tokens(where);
  const SearchBudget budget(0);
  std::string storage;
  std::vector<AddedTokenMatcher::Entry> raw;
  std::vector<AddedTokenMatcher::Entry> normalized;
  for (const AddedToken& token : parts_.added) {
    if (!token.normalized) raw.push_back({token.content, token});
    if (!token.was_normalized) continue;
    std::string normal;
    try {
      normal = parts_.normalizer.apply(token.content, storage);
    } catch (const InputError& error) {
      throw ModelError(fmt::format("{}: the added token \"{}\" cannot be normalised: {}", where,
                                   base::printable(token.content, 40), error.what()));
    }
    check_added_size(normal, where);
    tokens_[static_cast<std::size_t>(token.id)].bytes = decoded(normal);
    if (token.normalized) normalized.push_back({std::move(normal), token});
  }
  raw_ = AddedTokenMatcher(raw, parts_.split_special);
  normalized_ = AddedTokenMatcher(normalized, parts_.split_special);
  for (const auto& [name, content] : parts_.named) {
    if (name == "eos_token") eos_id_ = id_of(content);
    if (name == "pad_token") pad_id_ = id_of(content);
  }
  begin_ids_ = parts_.begin_ids;
  end_ids_ = parts_.end_ids;
  for (const auto* ids : {&begin_ids_, &end_ids_}) {
    for (const std::int64_t id : *ids) {
      if (id >= 0 && id < vocab_size()) continue;
      throw ModelError(
          fmt::format("{}: the post-processor writes the token {}, which there is not.", where, id));
    }
  }
  encode_control("\n", newline_);
}

void PipelineTokenizer::number_tokens(const std::string& where) {
  std::int64_t end = 0;
  std::size_t together = 0;
  const auto check = [&](std::string_view token, std::int64_t id) {
    if (id < 0 || id >= kMaxId) {
      throw ModelError(fmt::format("{}: the token \"{}\" has the id {}; ids are from 0 to {}.", where,
                                   base::printable(token), id, kMaxId - 1));
    }
    end = std::max(end, id + 1);
  };
  for (const auto& [token, id] : *parts_.vocabulary) check(token, id);
  for (AddedToken& token : parts_.added) {
    check_added_size(token.content, where);
    together += token.content.size();
    check(token.content, token.id);
    longest_added_ = std::max(longest_added_, token.content.size());
  }
  if (together > kMaxAddedTogether) {
    throw ModelError(fmt::format("{}: the added tokens have {} bytes together: at most {} are taken.", where,
                                 together, kMaxAddedTogether));
  }
  tokens_.resize(static_cast<std::size_t>(end));
  const auto number = [&](const std::string& token, std::int64_t id) -> Token& {
    Token& entry = tokens_[static_cast<std::size_t>(id)];
    entry.bytes = decoded(token);
    entry.byte = parts_.decoder.byte_fallback && fallback_byte(token) >= 0;
    return entry;
  };
  for (const auto& [token, id] : *parts_.vocabulary) number(token, id).known = true;
  for (const AddedToken& token : parts_.added) {
    const auto piece = parts_.vocabulary->find(token.content);
    const bool new_id = piece == parts_.vocabulary->end();
    if (tokens_[static_cast<std::size_t>(token.id)].known && new_id && !parts_.renames_pieces) {
      throw ModelError(fmt::format("{}: the added token \"{}\" has the id {} of another token.", where,
                                   base::printable(token.content), token.id));
    }
    Token& entry = number(token.content, token.id);
    entry.known = true;
    entry.special = token.special;
  }
}

std::string PipelineTokenizer::decoded(const std::string& token) const {
  const DecoderSpec& decoder = parts_.decoder;
  if (decoder.byte_level) {
    std::string bytes;
    return bytes_of_token(token, bytes) ? bytes : token;
  }
  std::string text = token;
  for (const auto& [what, by] : decoder.replace) text = replaced(text, what, by);
  if (decoder.byte_fallback) {
    if (const int byte = fallback_byte(text); byte >= 0) return std::string(1, static_cast<char>(byte));
  }
  return text;
}

std::string PipelineTokenizer::token_bytes(std::int64_t id, bool first) const {
  if (id < 0 || id >= vocab_size()) return {};
  const std::string& bytes = tokens_[static_cast<std::size_t>(id)].bytes;
  if (!first) return bytes;
  if (!parts_.decoder.dropped_from_first.empty())
    return replaced(bytes, parts_.decoder.dropped_from_first, "");
  const std::string& prefix = parts_.decoder.dropped_prefix;
  return bytes.starts_with(prefix) ? bytes.substr(prefix.size()) : bytes;
}

bool PipelineTokenizer::is_byte(std::int64_t id) const {
  return id >= 0 && id < vocab_size() && tokens_[static_cast<std::size_t>(id)].byte;
}

bool PipelineTokenizer::is_special(std::int64_t id) const {
  return id >= 0 && id < vocab_size() && tokens_[static_cast<std::size_t>(id)].special;
}

std::optional<std::int64_t> PipelineTokenizer::id_of(std::string_view token) const {
  if (const auto it = parts_.added_index.find(token); it != parts_.added_index.end()) {
    return parts_.added[it->second].id;
  }
  const auto it = parts_.vocabulary->find(token);
  if (it == parts_.vocabulary->end()) return std::nullopt;
  return it->second;
}

std::vector<std::int64_t> PipelineTokenizer::encode(std::string_view text, bool parse_control) const {
  require_size(text);
  require_utf8(text);
  const SearchBudget budget(text.size());
  std::vector<std::int64_t> ids;
  if (!parse_control) {
    encode_plain(text, ids);
  } else if (text.find(kGuardBegin) == std::string_view::npos &&
             text.find(kGuardEnd) == std::string_view::npos) {
    encode_control(text, ids);
  } else {
    encode_guarded(text, ids);
  }
  return ids;
}

void PipelineTokenizer::encode_control(std::string_view text, std::vector<std::int64_t>& ids) const {
  std::vector<Segment> segments;
  raw_.cut(text, segments);
  std::string storage;
  std::vector<Segment> inner;
  for (const Segment& segment : segments) {
    if (segment.id >= 0) {
      ids.push_back(segment.id);
      continue;
    }
    const auto normal =
        parts_.normalizer.apply(text.substr(segment.begin, segment.end - segment.begin), storage);
    inner.clear();
    normalized_.cut(normal, inner);
    for (const Segment& part : inner) {
      if (part.id >= 0) {
        ids.push_back(part.id);
      } else {
        run(0, normal.substr(part.begin, part.end - part.begin), segment.begin == 0 && part.begin == 0, ids);
      }
    }
  }
}

void PipelineTokenizer::encode_plain(std::string_view text, std::vector<std::int64_t>& ids) const {
  std::string storage;
  const std::string_view normal = parts_.normalizer.apply(text, storage);
  if (!normal.empty()) run(0, normal, true, ids);
}

void PipelineTokenizer::encode_part(std::string_view part, bool plain, std::vector<std::int64_t>& ids) const {
  const auto encode_into = [&](std::string_view text, std::vector<std::int64_t>& out) {
    plain ? encode_plain(text, out) : encode_control(text, out);
  };
  // Behind a newline there is no start of text, where sentencepiece would put a space; the newline goes again, unless
  // it has grown together with what follows. transformers' sanitize_control_tokens does just this.
  std::vector<std::int64_t> with_newline;
  encode_into(std::string("\n").append(part), with_newline);
  if (with_newline.size() >= newline_.size() &&
      std::equal(newline_.begin(), newline_.end(), with_newline.begin())) {
    ids.insert(ids.end(), with_newline.begin() + static_cast<std::ptrdiff_t>(newline_.size()),
               with_newline.end());
  } else {
    encode_into(part, ids);
  }
}

void PipelineTokenizer::encode_guarded(std::string_view text, std::vector<std::int64_t>& ids) const {
  bool first = true;
  const auto put = [&](std::string_view part, bool plain) {
    if (first) {
      encode_control(part, ids);  // The text before the first guard, even if empty.
    } else if (!part.empty()) {
      const std::size_t before = ids.size();
      encode_part(part, plain, ids);
      const auto id = plain ? id_of(part) : std::nullopt;
      if (id && std::find(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end(), *id) != ids.end()) {
        throw InputError(
            fmt::format("The text contains \"{}\", which this tokenizer cannot keep apart from its control "
                        "token; take it out of the text.",
                        base::printable(part)));
      }
    }
    first = false;
  };
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const bool begins = rest.starts_with(kGuardBegin);
    if (!begins && !rest.starts_with(kGuardEnd)) {
      ++at;
      continue;
    }
    put(text.substr(done, at - done), false);
    at += kGuardBegin.size();
    done = at;
    if (!begins) continue;
    // A guarded token, if what stands up to the next guard is one.
    const std::size_t length = text.substr(at, longest_added_ + kGuardEnd.size()).find(kGuardEnd);
    if (length == std::string_view::npos) continue;
    const std::string_view inside = text.substr(at, length);
    if (!parts_.added_index.contains(inside)) continue;
    put(inside, true);
    at += length + kGuardEnd.size();
    done = at;
  }
  put(text.substr(done), false);
}

void PipelineTokenizer::run(std::size_t step, std::string_view text, bool at_start,
                            std::vector<std::int64_t>& ids) const {
  if (step == parts_.pre_tokenizer.size()) {
    parts_.model->encode(text, ids);
    return;
  }
  const PreTokenizerStep& now = parts_.pre_tokenizer[step];
  if (const auto* cut = std::get_if<SplitStep>(&now)) {
    for (const Range& piece : split(*cut->splitter, text, cut->behavior, cut->invert)) {
      run(step + 1, text.substr(piece.begin, piece.end - piece.begin), at_start && piece.begin == 0, ids);
    }
  } else if (const auto* meta = std::get_if<MetaspaceStep>(&now)) {
    using Prepend = MetaspaceStep::Prepend;
    std::string spaced = replaced(text, " ", meta->replacement);
    const bool wanted = meta->prepend == Prepend::kAlways || (meta->prepend == Prepend::kFirst && at_start);
    if (wanted && !spaced.starts_with(meta->replacement)) spaced.insert(0, meta->replacement);
    if (!meta->split) {
      run(step + 1, spaced, at_start, ids);
      return;
    }
    for (std::size_t at = 0; at < spaced.size();) {
      const std::size_t end = std::min(spaced.find(meta->replacement, at + 1), spaced.size());
      run(step + 1, std::string_view(spaced).substr(at, end - at), at_start && at == 0, ids);
      at = end;
    }
  } else {
    std::string spaced(text.starts_with(' ') ? "" : " ");
    run(step + 1, spaced.append(text), at_start, ids);
  }
}

}  // namespace tte::text
