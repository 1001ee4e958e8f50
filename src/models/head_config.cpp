#include "models/head_config.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <system_error>

#include "base/file.h"
#include "base/json.h"
#include "base/printable.h"
#include "models/config_file.h"
#include "tte/error.h"

namespace tte::models {
namespace {

constexpr std::int64_t kMostHeads = 4096;
constexpr std::int64_t kMostValues = 1 << 20;
constexpr std::int64_t kAbsent = -1;

std::int64_t whole(const base::JsonObject& json, const std::string& key, std::int64_t least,
                   std::int64_t most) {
  const std::int64_t value = json.integer(key, kAbsent, least, most);
  if (value == kAbsent) json.fail(key, "is missing, and tte needs it");
  return value;
}

// Whether it reads as owner/name.
bool may_be_of_hub(const std::string& name) {
  const auto allowed = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.' || c == '/';
  };
  return name.size() <= 200 && std::count(name.begin(), name.end(), '/') == 1 && name.front() != '.' &&
         name.front() != '/' && name.back() != '/' && std::all_of(name.begin(), name.end(), allowed);
}

}  // namespace

bool is_head(const std::filesystem::path& folder) {
  return base::is_present(folder / kHeadFile);
}

HeadConfig read_head(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / kHeadFile;
  const base::JsonObject json = base::read_json_object(file);
  json.allow_only(
      {"base", "revision", "kind", "layers", "pooling", "attention_heads", "projection", "embedding_dim"});
  constexpr std::array kKinds = {HeadKind::kLayers, HeadKind::kAttentionPooler, HeadKind::kLatentAttention};
  HeadConfig out;
  out.where = json.where();
  out.base = base::require<std::string>(json, "base");
  if (out.base.empty())
    json.reject("base", "it must be the folder or the hub id of the model whose head this is");
  out.revision = json.text("revision", "");
  const auto kind = json.choice("kind", {"layers", "attention_pooler", "latent_attention"});
  if (!kind) json.fail("kind", "is missing, and tte needs it");
  out.kind = kKinds[*kind];
  const bool attends = out.kind != HeadKind::kLayers;
  out.layers = whole(json, "layers", attends ? 0 : 1, kMostLayers);
  if (attends && json.has("pooling"))
    json.fail("pooling",
              "is for the kind \"layers\" only: heads of the other kinds are a pooling themselves");
  out.mean = json.choice("pooling", {"last", "mean"}).value_or(0) == 1;
  if (!attends && json.has("attention_heads"))
    json.fail("attention_heads", "is not for the kind \"layers\", whose heads are those of the base");
  if (attends) out.attention_heads = whole(json, "attention_heads", 1, kMostHeads);
  out.projection = json.flag("projection", false);
  out.dim = whole(json, "embedding_dim", 1, kMostValues);
  return out;
}

AdapterBase base_of_head(const std::filesystem::path& folder) {
  const HeadConfig head = read_head(folder);
  AdapterBase out{head.base, head.revision, {}};
  for (const std::filesystem::path& start : {folder, std::filesystem::path()}) {
    std::error_code code;
    const std::filesystem::path candidate = (start / head.base).lexically_normal();
    if (!base::is_present(candidate / "config.json") || std::filesystem::equivalent(candidate, folder, code))
      continue;
    out.folder = candidate;
    break;
  }
  if (out.folder.empty() && !may_be_of_hub(head.base)) {
    throw ModelError(fmt::format(
        "{}: \"base\" is \"{}\": it is neither the folder of a model (with config.json), seen from the "
        "head's folder, nor a hub id such as \"Qwen/Qwen2-VL-2B-Instruct\".",
        head.where, base::printable(head.base, 80)));
  }
  return out;
}

}  // namespace tte::models
