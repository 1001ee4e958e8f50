// The tokens that a checkpoint declares beside its vocabulary.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "base/file.h"
#include "base/printable.h"
#include "text/tokenizer/files.h"
#include "tte/error.h"

namespace tte::text {
namespace {

constexpr std::array<const char*, 7> kNamedTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                     "pad_token", "cls_token", "mask_token"};

// Model types for which transformers takes the files as they are, whatever class the checkpoint names: those of
// MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS, as far as they name LlamaTokenizer, and Mistral's, whose own class
// belongs to another package.
constexpr std::array<const char*, 16> kJsonAsItIs = {
    "llava",    "llava_next", "vipllava", "phi3",     "phi3_v",  "internlm2",    "hyperclovax", "minicpmv",
    "ernie4_5", "fuyu",       "mistral",  "mistral3", "mixtral", "paddleocr_vl", "openvla",     "pixtral"};

// Empty when there is no such file.
base::JsonObject read_if_there(const std::filesystem::path& file) {
  if (base::is_present(file)) return base::read_json_object(file);
  return {base::Json::object(), base::shown(file)};
}

// A token as a string or as an object with "content"; nothing for null.
std::optional<AddedToken> token_of(const base::Json& json, const std::string& where, const std::string& key) {
  if (json.is_null()) return std::nullopt;
  AddedToken token;
  if (json.is_string()) {
    token.content = json.get<std::string>();
  } else if (json.is_object()) {
    const base::JsonObject object(json, where, key);
    token = read_added_token(object);
    token.normalized = object.flag("normalized", false);
  } else {
    throw ModelError(
        fmt::format("{}: \"{}\" is {}, which is neither a token nor null.", where, key, base::shown(json)));
  }
  token.id = -1;
  token.special = true;
  return token;
}

bool is_standard(const std::string& key) {
  return std::find(kNamedTokens.begin(), kNamedTokens.end(), key) != kNamedTokens.end();
}

// Named tokens and lists of extra ones, as transformers' tokenizers keep them.
struct Declared {
  std::vector<std::pair<std::string, AddedToken>> named;
  std::vector<std::string> none;  // Names that stand for no token.
  std::vector<AddedToken> extra;

  // A name declared again keeps its place.
  void name(const std::string& key, std::optional<AddedToken> token) {
    const auto same = [&](const auto& entry) { return entry.first == key; };
    const auto it = std::find_if(named.begin(), named.end(), same);
    none.erase(std::remove(none.begin(), none.end(), key), none.end());
    if (!token) {
      if (it != named.end()) named.erase(it);
      none.push_back(key);
    } else if (it != named.end()) {
      it->second = std::move(*token);
    } else {
      named.emplace_back(key, std::move(*token));
    }
  }
  [[nodiscard]] bool knows(const std::string& key) const {
    return std::find(none.begin(), none.end(), key) != none.end() ||
           std::any_of(named.begin(), named.end(), [&](const auto& entry) { return entry.first == key; });
  }
  // The reference's standard names come first, in its order; the others in the order of the file.
  void sort() {
    const auto rank = [](const auto& entry) {
      return std::find(kNamedTokens.begin(), kNamedTokens.end(), entry.first) - kNamedTokens.begin();
    };
    std::stable_sort(named.begin(), named.end(),
                     [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  }
};

// The tokens of a list, or of the values of an object whose keys name them.
void collect_extra(const base::Json& json, const std::string& where, const std::string& key, Declared& out) {
  if (json.is_null()) return;
  if (!json.is_array() && !json.is_object()) {
    throw ModelError(fmt::format("{}: \"{}\" is {}: it must be a list of tokens, or an object of them.",
                                 where, key, base::shown(json)));
  }
  for (const auto& [name, value] : json.items()) {
    auto token = token_of(value, where, key);
    if (!token) continue;
    if (json.is_object()) {
      out.name(name, std::move(token));
    } else {
      out.extra.push_back(std::move(*token));
    }
  }
}

// Named tokens override those of earlier calls. additional_special_tokens is the old name of
// extra_special_tokens, and counts only where there is nothing under the new one.
void collect(const base::JsonObject& object, Declared& out) {
  const base::Json& json = object.json();
  const std::string& where = object.where();
  const auto names_token = [](const std::string& key, const base::Json& value) {
    return is_standard(key) || (key.ends_with("_token") && (value.is_string() || value.is_object()));
  };
  // transformers comes to objects first.
  for (const bool objects : {true, false}) {
    for (const auto& [key, value] : json.items()) {
      if (value.is_object() == objects && names_token(key, value)) out.name(key, token_of(value, where, key));
    }
  }
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
    const auto it = json.find(key);
    if (it == json.end() || it->is_null() || it->empty()) continue;
    collect_extra(*it, where, key, out);
    return;
  }
}

}  // namespace

AddedToken read_added_token(const base::JsonObject& json) {
  AddedToken token;
  token.content = base::require<std::string>(json, "content");
  token.special = json.flag("special", false);
  token.lstrip = json.flag("lstrip", false);
  token.rstrip = json.flag("rstrip", false);
  token.single_word = json.flag("single_word", false);
  token.normalized = json.flag("normalized", !token.special);
  token.id = -1;
  return token;
}

TokenizerConfig TokenizerConfig::read(const base::Checkpoint& checkpoint) {
  const auto& folders = checkpoint.folders();
  const auto found = std::find_if(folders.begin(), folders.end(), [](const auto& folder) {
    return base::is_present(folder / "tokenizer.json") || base::is_present(folder / "tokenizer.model") ||
           (base::is_present(folder / "vocab.json") && base::is_present(folder / "merges.txt"));
  });
  const std::filesystem::path& folder = found == folders.end() ? folders.back() : *found;
  TokenizerConfig config{folder, read_if_there(folder / "tokenizer_config.json"), "",
                         read_if_there(checkpoint / "config.json").text("model_type", "")};
  config.class_name = config.json.text("tokenizer_class", "");
  if (config.class_name.ends_with("Fast")) config.class_name.resize(config.class_name.size() - 4);
  return config;
}

bool TokenizerConfig::is_llama_class() const {
  return class_name == "LlamaTokenizer" &&
         std::find(kJsonAsItIs.begin(), kJsonAsItIs.end(), model_type) == kJsonAsItIs.end();
}

bool TokenizerConfig::is_qwen_class() const {
  return class_name == "Qwen2Tokenizer" || class_name == "Qwen3_5Tokenizer" ||
         (class_name.empty() && model_type == "qwen2_vl");  // Its class in transformers, where none is named.
}

void start_adding(TokenizerParts& parts) {
  parts.next_id = static_cast<std::int64_t>(parts.vocabulary->size());
  for (const AddedToken& token : parts.added) parts.next_id = std::max(parts.next_id, token.id + 1);
}

void add_token(TokenizerParts& parts, AddedToken token) {
  if (token.content.empty()) return;
  const auto [it, is_new] = parts.added_index.emplace(token.content, parts.added.size());
  token.was_normalized = token.normalized || (!is_new && parts.added[it->second].was_normalized);
  if (!is_new) {
    AddedToken& known = parts.added[it->second];
    token.id = known.id;
    token.special = token.special || known.special;  // As in the library, where nothing ends to be special.
    known = std::move(token);
    return;
  }
  const auto pieces = static_cast<std::int64_t>(parts.vocabulary->size());
  if (const auto piece = parts.vocabulary->find(token.content); piece != parts.vocabulary->end()) {
    token.id = piece->second;
  } else if (!parts.renames_pieces || token.id < 0 || token.id >= pieces) {
    token.id = parts.next_id++;
  }
  parts.added.push_back(std::move(token));
}

namespace {

std::vector<AddedToken> tokens_of_decoder(const base::JsonObject& decoder) {
  std::vector<AddedToken> tokens;
  for (const auto& [key, value] : decoder.json().items()) {
    AddedToken token = read_added_token({value, decoder.where(), decoder.below(key)});
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token.id);
    if (error != std::errc{} || end != key.data() + key.size() || token.id < 0) {
      decoder.fail("", fmt::format("has the key \"{}\", which is not an id", base::printable(key)));
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// added_tokens.json; a token is special if it is declared to be.
std::vector<AddedToken> tokens_of_list(const std::filesystem::path& file, const Declared& declared) {
  std::vector<AddedToken> tokens;
  const base::JsonObject list = read_if_there(file);
  TextMap<bool> special;
  for (const auto& [name, token] : declared.named) special.emplace(token.content, true);
  for (const AddedToken& token : declared.extra) special.emplace(token.content, true);
  for (const auto& [content, id] : list.json().items()) {
    const auto number = base::whole_number(id, 0);
    if (!number) {
      throw ModelError(fmt::format("{}: the token \"{}\" has the id {}: ids are whole numbers from 0.",
                                   list.where(), base::printable(content), base::shown(id)));
    }
    AddedToken token;
    token.content = content;
    token.id = *number;
    token.special = special.contains(content);
    token.normalized = !token.special;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// What the model file would add by itself, and the checkpoint lists. Names of such tokens do not change how they are
// looked for.
void drop_listed(TokenizerParts& parts) {
  std::erase_if(parts.added_last,
                [&](const AddedToken& token) { return parts.added_index.contains(token.content); });
}

}  // namespace

void add_declared_tokens(TokenizerParts& parts, const TokenizerConfig& config) {
  Declared declared;
  collect(config.json, declared);
  std::vector<AddedToken> tokens;
  if (config.json.has("added_tokens_decoder")) {
    tokens = tokens_of_decoder(config.json.object("added_tokens_decoder"));
    for (AddedToken& token : tokens) token.normalized = token.normalized && !parts.declared_raw;
  } else {
    // Checkpoints from before added_tokens_decoder.
    collect(read_if_there(config.folder / "special_tokens_map.json"), declared);
    tokens = tokens_of_list(config.folder / "added_tokens.json", declared);
    // Of two with one id the last counts, and tokenizer.json is read last.
    tokens.insert(tokens.end(), parts.listed.begin(), parts.listed.end());
    std::map<std::int64_t, AddedToken> by_id;
    for (AddedToken& token : tokens) by_id.insert_or_assign(token.id, std::move(token));
    tokens.clear();
    for (auto& [id, token] : by_id) tokens.push_back(std::move(token));
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
  TextMap<bool> named;
  for (const auto& [name, token] : declared.named) named.emplace(token.content, true);
  const bool own_class = config.is_qwen_class();
  start_adding(parts);
  for (AddedToken& token : tokens) {
    token.special = token.special || named.contains(token.content);
    add_token(parts, std::move(token));
  }
  drop_listed(parts);
  const auto declare = [&](AddedToken token) {
    // Qwen's class adds its special tokens once more, without flags; others only those that are new.
    if (own_class) {
      AddedToken plain;
      plain.content = token.content;
      plain.id = token.id;
      plain.special = true;
      add_token(parts, std::move(plain));
    } else if (!parts.added_index.contains(token.content)) {
      add_token(parts, std::move(token));
    }
  };
  for (auto& [name, token] : declared.named) {
    parts.named.emplace_back(name, token.content);
    declare(std::move(token));
  }
  for (AddedToken& token : declared.extra) declare(std::move(token));
  parts.split_special = config.json.flag("split_special_tokens", false);
}

}  // namespace tte::text
