#include "text/tokenizer/bpe.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <queue>

#include "base/printable.h"
#include "base/utf8.h"
#include "tte/error.h"

namespace tte::text {
namespace {

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}

std::uint64_t mix(std::uint64_t key) {
  key ^= key >> 32;
  key *= 0x9E3779B97F4A7C15ULL;
  return key ^ (key >> 29);
}

}  // namespace

Bpe::Bpe(BpeSpec spec, const std::string& where) : spec_(std::move(spec)) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto b = static_cast<unsigned char>(byte);
    byte_ids_[b] = id_of(spec_.byte_level ? alphabet_of_byte(b) : fmt::format("<0x{:02X}>", byte));
  }
  if (spec_.unknown) {
    unknown_id_ = id_of(*spec_.unknown);
    if (unknown_id_ < 0) {
      throw ModelError(fmt::format("{}: the unknown token \"{}\" is not in the vocabulary.", where,
                                   base::printable(*spec_.unknown)));
    }
  }
  if (spec_.ignore_merges && spec_.byte_level) {
    std::string bytes;
    for (const auto& [token, id] : *spec_.vocabulary) {
      if (bytes_of_token(token, bytes)) by_bytes_.emplace(bytes, id);
    }
  }
  if (!spec_.byte_level) note_neighbours();
  add_merges(where);
}

void Bpe::note_neighbours() {
  std::vector<std::uint64_t> pairs;
  for (const auto& [left, right] : spec_.merges) {
    const std::string joined = left + right;
    if (joined.empty()) continue;
    std::size_t at = 0;
    for (char32_t before = base::next_code_point(joined, at); at < joined.size();) {
      const char32_t after = base::next_code_point(joined, at);
      pairs.push_back((std::uint64_t{before} << 32) | after);
      before = after;
    }
  }
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  neighbours_.resize(std::bit_ceil(std::max<std::size_t>(pairs.size() * 2, 16)));
  const std::uint64_t mask = neighbours_.size() - 1;
  for (const std::uint64_t key : pairs) {
    std::uint64_t at = mix(key) & mask;
    while (neighbours_[at] != 0) at = (at + 1) & mask;
    neighbours_[at] = key;
  }
}

void Bpe::add_merges(const std::string& where) {
  table_.resize(std::bit_ceil(std::max<std::size_t>(spec_.merges.size() * 2, 16)));
  mask_ = table_.size() - 1;
  std::string joined;
  for (std::size_t i = 0; i < spec_.merges.size(); ++i) {
    const auto& [left, right] = spec_.merges[i];
    joined.assign(left).append(right);
    const std::int32_t ids[] = {id_of(left), id_of(right), id_of(joined)};
    for (std::size_t k = 0; k < 3; ++k) {
      if (ids[k] >= 0) continue;
      throw ModelError(fmt::format(
          "{}: merge {} (\"{}\" + \"{}\") needs the token \"{}\", which is not in the vocabulary.", where,
          i + 1, base::printable(left), base::printable(right),
          base::printable(k == 0   ? left
                          : k == 1 ? right
                                   : joined)));
    }
    const std::uint64_t key = pair_key(ids[0], ids[1]);
    std::uint64_t at = mix(key) & mask_;
    while (table_[at].key != key && table_[at].key != ~std::uint64_t{0}) at = (at + 1) & mask_;
    table_[at] = {key, {static_cast<std::uint32_t>(i), ids[2]}};
  }
  spec_.merges.clear();
  spec_.merges.shrink_to_fit();
}

std::int32_t Bpe::id_of(std::string_view token) const {
  const auto it = spec_.vocabulary->find(token);
  return it == spec_.vocabulary->end() ? -1 : it->second;
}

Bpe::Merge Bpe::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t key = pair_key(left, right);
  for (std::uint64_t at = mix(key) & mask_;; at = (at + 1) & mask_) {
    if (table_[at].key == key) return table_[at].merge;
    if (table_[at].key == ~std::uint64_t{0}) return {};
  }
}

void Bpe::symbols_of(std::string_view word, std::vector<std::int32_t>& symbols) const {
  symbols.clear();
  if (spec_.byte_level) {
    for (const char c : word) {
      if (const std::int32_t id = byte_ids_[static_cast<unsigned char>(c)]; id >= 0) symbols.push_back(id);
    }
    return;
  }
  // An unknown character waits: a run may count as one. Known characters come after it, fallback bytes before
  // it, as in the reference.
  bool waiting = false;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t begin = at;
    base::next_code_point(word, at);
    const std::string_view character = word.substr(begin, at - begin);
    if (const std::int32_t id = id_of(character); id >= 0) {
      if (waiting) symbols.push_back(unknown_id_);
      waiting = false;
      symbols.push_back(id);
      continue;
    }
    const auto byte_id = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
    if (spec_.byte_fallback &&
        std::all_of(character.begin(), character.end(), [&](char c) { return byte_id(c) >= 0; })) {
      for (const char c : character) symbols.push_back(byte_id(c));
      continue;
    }
    if (unknown_id_ < 0) continue;
    if (waiting && !spec_.fuse_unknown) symbols.push_back(unknown_id_);
    waiting = true;
  }
  if (waiting) symbols.push_back(unknown_id_);
}

// Quadratic, but without memory or pointers: best for words.
void Bpe::merge_short(std::vector<std::int32_t>& symbols) const {
  std::array<Merge, kCachedBytes> merges;
  std::size_t n = symbols.size();
  for (std::size_t i = 0; i + 1 < n; ++i) merges[i] = find(symbols[i], symbols[i + 1]);
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNoRank) break;
    symbols[best] = merges[best].id;
    for (std::size_t i = best + 1; i + 1 < n; ++i) {
      symbols[i] = symbols[i + 1];
      merges[i] = merges[i + 1];
    }
    --n;
    if (best > 0) merges[best - 1] = find(symbols[best - 1], symbols[best]);
    if (best + 1 < n) merges[best] = find(symbols[best], symbols[best + 1]);
  }
  symbols.resize(n);
}

// A heap of candidate pairs over a linked list: n log n for texts that are one long word.
void Bpe::merge_long(std::vector<std::int32_t>& symbols) const {
  struct Candidate {
    std::uint32_t rank;
    std::int32_t at, id, left, right;
    bool operator<(
        const Candidate& other) const {  // The queue gives the largest: lowest rank, then leftmost.
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  if (symbols.size() >= (std::size_t{1} << 31)) {
    throw InputError(fmt::format("A word of {} symbols is too long to tokenise.", symbols.size()));
  }
  const auto n = static_cast<std::int32_t>(symbols.size());
  std::vector<std::int32_t> next(symbols.size());
  std::vector<std::int32_t> previous(symbols.size());
  const auto symbol = [&](std::int32_t at) -> std::int32_t& { return symbols[static_cast<std::size_t>(at)]; };
  const auto after = [&](std::int32_t at) -> std::int32_t& { return next[static_cast<std::size_t>(at)]; };
  const auto before = [&](std::int32_t at) -> std::int32_t& {
    return previous[static_cast<std::size_t>(at)];
  };
  std::vector<Candidate> candidates;
  const auto candidate = [&](std::int32_t at) -> std::optional<Candidate> {
    if (at < 0 || after(at) >= n) return std::nullopt;
    const Merge merge = find(symbol(at), symbol(after(at)));
    if (merge.rank == kNoRank) return std::nullopt;
    return Candidate{merge.rank, at, merge.id, symbol(at), symbol(after(at))};
  };
  for (std::int32_t i = 0; i < n; ++i) {
    after(i) = i + 1;
    before(i) = i - 1;
  }
  for (std::int32_t i = 0; i + 1 < n; ++i) {
    if (const auto c = candidate(i)) candidates.push_back(*c);
  }
  std::priority_queue<Candidate> queue({}, std::move(candidates));
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    // Stale: one of the two has been merged with another since. A dead symbol is -1.
    if (symbol(top.at) != top.left || after(top.at) >= n || symbol(after(top.at)) != top.right) continue;
    const std::int32_t gone = after(top.at);
    symbol(top.at) = top.id;
    symbol(gone) = -1;
    after(top.at) = after(gone);
    if (after(gone) < n) before(after(gone)) = top.at;
    if (const auto c = candidate(before(top.at))) queue.push(*c);
    if (const auto c = candidate(top.at)) queue.push(*c);
  }
  symbols.erase(std::remove(symbols.begin(), symbols.end(), -1), symbols.end());
}

void Bpe::encode(std::string_view word, std::vector<std::int64_t>& ids) const {
  if (spec_.ignore_merges) {
    const auto& whole = spec_.byte_level ? by_bytes_ : *spec_.vocabulary;
    if (const auto it = whole.find(word); it != whole.end()) {
      ids.push_back(it->second);
      return;
    }
  }
  std::size_t begin = 0;
  if (!spec_.byte_level && word.size() > kCachedBytes) {
    std::size_t at = 0;
    std::size_t left_at = 0;
    for (char32_t left = base::next_code_point(word, at); at < word.size();) {
      const std::size_t cut = at;
      const char32_t right = base::next_code_point(word, at);
      // Only between known characters: unknown ones may count together.
      if (never_together(left, right) && id_of(word.substr(left_at, cut - left_at)) >= 0 &&
          id_of(word.substr(cut, at - cut)) >= 0) {
        encode_word(word.substr(begin, cut - begin), ids);
        begin = cut;
      }
      left = right;
      left_at = cut;
    }
  }
  encode_word(word.substr(begin), ids);
}

bool Bpe::never_together(char32_t left, char32_t right) const {
  const std::uint64_t key = (std::uint64_t{left} << 32) | right;
  const std::uint64_t mask = neighbours_.size() - 1;
  for (std::uint64_t at = mix(key) & mask;; at = (at + 1) & mask) {
    if (neighbours_[at] == key) return false;
    if (neighbours_[at] == 0) return true;
  }
}

void Bpe::encode_word(std::string_view word, std::vector<std::int64_t>& ids) const {
  const bool cached = word.size() <= kCachedBytes;
  Shard& shard = (*cache_)[TextHash{}(word) >> 7 & (kShards - 1)];
  if (cached) {
    const std::lock_guard lock(shard.mutex);
    if (const auto it = shard.words.find(word); it != shard.words.end()) {
      ids.insert(ids.end(), it->second.begin(), it->second.end());
      return;
    }
  }
  std::vector<std::int32_t> symbols;
  symbols_of(word, symbols);
  symbols.size() <= kCachedBytes ? merge_short(symbols) : merge_long(symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
  if (cached) {
    const std::lock_guard lock(shard.mutex);
    if (shard.words.size() >= kShardWords) shard.words.clear();
    shard.words.emplace(word, std::move(symbols));
  }
}

}  // namespace tte::text
