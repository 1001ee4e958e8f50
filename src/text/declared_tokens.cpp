// The tokens that a checkpoint declares beside its vocabulary.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/printable.h"
#include "text/tokenizer_files.h"
#include "tte/error.h"

namespace tte::text {
namespace {

constexpr std::array<const char*, 7> kNamedTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                     "pad_token", "cls_token", "mask_token"};

// Model types for which transformers takes tokenizer.json as it is, whatever class the checkpoint names
// (MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS), as far as they name LlamaTokenizer.
constexpr std::array<const char*, 12> kJsonAsItIs = {"llava",    "llava_next", "vipllava",     "phi3",
                                                     "phi3_v",   "internlm2",  "hyperclovax",  "minicpmv",
                                                     "ernie4_5", "fuyu",       "paddleocr_vl", "openvla"};

std::optional<base::Json> read_if_there(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  base::Json json = base::read_json(file);
  if (!json.is_object()) throw ModelError(fmt::format("{} is not a JSON object.", file.string()));
  return json;
}

// A token as a string or as an object with "content"; nothing for null.
std::optional<AddedToken> token_of(const base::Json& json, const std::string& where, const std::string& key) {
  if (json.is_null()) return std::nullopt;
  AddedToken token;
  if (json.is_string()) {
    token.content = json.get<std::string>();
  } else if (json.is_object()) {
    token = read_added_token(json, where);
    token.normalized = base::get_or<bool>(json, "normalized", false, where);
  } else {
    throw ModelError(
        fmt::format("{}: \"{}\" is {}, which is neither a token nor null.", where, key,
                    base::printable(json.dump(-1, ' ', false, base::Json::error_handler_t::replace))));
  }
  token.id = -1;
  token.special = true;
  return token;
}

// Named tokens and lists of extra ones.
struct Declared {
  std::vector<std::pair<std::string, AddedToken>> named;
  std::vector<std::string> none;  // Names that stand for no token.
  std::vector<AddedToken> extra;

  void name(const std::string& key, std::optional<AddedToken> token) {
    const auto same = [&](const auto& entry) { return entry.first == key; };
    named.erase(std::remove_if(named.begin(), named.end(), same), named.end());
    none.erase(std::remove(none.begin(), none.end(), key), none.end());
    if (token) {
      named.emplace_back(key, std::move(*token));
    } else {
      none.push_back(key);
    }
  }
  [[nodiscard]] bool knows(const std::string& key) const {
    return std::find(none.begin(), none.end(), key) != none.end() ||
           std::any_of(named.begin(), named.end(), [&](const auto& entry) { return entry.first == key; });
  }
  // The reference's standard names come first, in its order.
  void sort() {
    const auto rank = [](const auto& entry) {
      return std::find(kNamedTokens.begin(), kNamedTokens.end(), entry.first) - kNamedTokens.begin();
    };
    std::stable_sort(named.begin(), named.end(),
                     [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  }
};

// Later calls override earlier ones.
void collect(const base::Json& json, const std::string& where, Declared& out) {
  for (const auto& [key, value] : json.items()) {
    const bool standard = std::find(kNamedTokens.begin(), kNamedTokens.end(), key) != kNamedTokens.end();
    if (!standard && !(key.ends_with("_token") && (value.is_string() || value.is_object()))) continue;
    out.name(key, token_of(value, where, key));
  }
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
    const auto it = json.find(key);
    if (it == json.end() || !(it->is_array() || it->is_object())) continue;
    for (const auto& [name, value] : it->items()) {
      auto token = token_of(value, where, key);
      if (!token) continue;
      if (it->is_object()) {
        out.name(name, std::move(token));
      } else {
        out.extra.push_back(std::move(*token));
      }
    }
  }
}

}  // namespace

AddedToken read_added_token(const base::Json& json, const std::string& where) {
  if (!json.is_object()) {
    throw ModelError(
        fmt::format("{}: an added token is {}, not an object.", where,
                    base::printable(json.dump(-1, ' ', false, base::Json::error_handler_t::replace))));
  }
  AddedToken token;
  token.content = base::require<std::string>(json, "content", where);
  token.special = base::get_or<bool>(json, "special", false, where);
  token.lstrip = base::get_or<bool>(json, "lstrip", false, where);
  token.rstrip = base::get_or<bool>(json, "rstrip", false, where);
  token.single_word = base::get_or<bool>(json, "single_word", false, where);
  token.normalized = base::get_or<bool>(json, "normalized", !token.special, where);
  token.id = -1;
  return token;
}

TokenizerConfig TokenizerConfig::read(const std::filesystem::path& folder) {
  TokenizerConfig config;
  config.folder = folder;
  config.where = (folder / "tokenizer_config.json").string();
  config.json = read_if_there(folder / "tokenizer_config.json").value_or(base::Json::object());
  config.class_name = base::get_or<std::string>(config.json, "tokenizer_class", "", config.where);
  if (config.class_name.ends_with("Fast")) config.class_name.resize(config.class_name.size() - 4);
  return config;
}

bool TokenizerConfig::is_llama_class() const {
  if (class_name != "LlamaTokenizer") return false;
  const auto model = read_if_there(folder / "config.json");
  if (!model) return true;
  const auto type = base::get_or<std::string>(*model, "model_type", "", (folder / "config.json").string());
  return std::find(kJsonAsItIs.begin(), kJsonAsItIs.end(), type) == kJsonAsItIs.end();
}

void add_token(TokenizerParts& parts, AddedToken token) {
  if (token.content.empty() || !parts.added_index.emplace(token.content, parts.added.size()).second) return;
  if (parts.next_id < 0) {
    parts.next_id = 0;
    for (const auto& [text, id] : *parts.vocabulary)
      parts.next_id = std::max(parts.next_id, std::int64_t{id} + 1);
  }
  if (const auto it = parts.vocabulary->find(token.content); it != parts.vocabulary->end())
    token.id = it->second;
  if (token.id < 0) token.id = parts.next_id;
  parts.next_id = std::max(parts.next_id, token.id + 1);
  parts.added.push_back(std::move(token));
}

namespace {

std::vector<AddedToken> tokens_of_decoder(const base::Json& decoder, const std::string& where) {
  if (!decoder.is_object())
    throw ModelError(fmt::format("{}: \"added_tokens_decoder\" is not an object.", where));
  std::vector<AddedToken> tokens;
  for (const auto& [key, value] : decoder.items()) {
    AddedToken token = read_added_token(value, where);
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token.id);
    if (error != std::errc{} || end != key.data() + key.size() || token.id < 0) {
      throw ModelError(fmt::format("{}: \"added_tokens_decoder\" has the key \"{}\", which is not an id.",
                                   where, base::printable(key)));
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// added_tokens.json; a token is special if it is declared to be.
std::vector<AddedToken> tokens_of_list(const std::filesystem::path& file, const Declared& declared) {
  std::vector<AddedToken> tokens;
  const auto list = read_if_there(file);
  if (!list) return tokens;
  const auto has = [](const std::string& content) {
    return [&content](const auto& entry) {
      if constexpr (requires { entry.second; }) {
        return entry.second.content == content;
      } else {
        return entry.content == content;
      }
    };
  };
  for (const auto& [content, id] : list->items()) {
    AddedToken token;
    token.content = content;
    token.id = base::require<std::int64_t>(*list, content, file.string());
    if (token.id < 0) throw ModelError(fmt::format("{}: the id {} is negative.", file.string(), token.id));
    token.special = std::any_of(declared.named.begin(), declared.named.end(), has(content)) ||
                    std::any_of(declared.extra.begin(), declared.extra.end(), has(content));
    token.normalized = !token.special;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

void add_declared_tokens(TokenizerParts& parts, const TokenizerConfig& config) {
  Declared declared;
  collect(config.json, config.where, declared);
  std::vector<AddedToken> tokens;
  if (const auto it = config.json.find("added_tokens_decoder"); it != config.json.end()) {
    tokens = tokens_of_decoder(*it, config.where);
  } else {
    // Checkpoints from before added_tokens_decoder.
    const std::filesystem::path map_file = config.folder / "special_tokens_map.json";
    if (const auto map = read_if_there(map_file)) collect(*map, map_file.string(), declared);
    tokens = tokens_of_list(config.folder / "added_tokens.json", declared);
  }
  for (const auto& [name, content] : parts.named_defaults) {
    if (declared.knows(name)) continue;
    AddedToken token;
    token.content = content;
    token.id = -1;
    token.special = true;
    declared.name(name, std::move(token));
  }
  declared.sort();
  std::stable_sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  for (AddedToken& token : tokens) {
    const auto names_it = [&](const auto& entry) { return entry.second.content == token.content; };
    token.special = token.special || std::any_of(declared.named.begin(), declared.named.end(), names_it);
    add_token(parts, std::move(token));
  }
  for (auto& [name, token] : declared.named) {
    parts.named.emplace_back(name, token.content);
    add_token(parts, std::move(token));
  }
  for (AddedToken& token : declared.extra) add_token(parts, std::move(token));
}

}  // namespace tte::text
