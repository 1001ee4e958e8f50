// The families that tte knows, by model_type. A new family is one include and one line.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <map>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "base/json.h"
#include "base/printable.h"
#include "models/adapted.h"
#include "models/config_file.h"
#include "models/family.h"
#include "models/llama_text.h"
#include "models/llava_next/family.h"
#include "models/qwen2/config.h"
#include "models/qwen2_5_vl/family.h"
#include "models/qwen2_vl/family.h"
#include "models/qwen3/config.h"
#include "models/qwen3_5/family.h"
#include "models/qwen3_vl/family.h"
#include "models/text_only.h"
#include "tte/error.h"

namespace tte::models {
namespace {

const std::map<std::string, Family>& families() {
  static const std::map<std::string, Family> known = {
      {"qwen2_vl", qwen2_vl::family()},
      {"qwen2_5_vl", qwen2_5_vl::family()},
      {"qwen3_vl", qwen3_vl::family()},
      {"colqwen3", qwen3_vl::family()},
      {"ops_colqwen3", qwen3_vl::family()},
      {"qwen3_vl_moe", qwen3_vl::family()},
      {"qwen2", text_only_family(qwen2::read_config)},
      {"qwen3", text_only_family(qwen3::read_config)},
      {"qwen3_moe", text_only_family(qwen3::read_config)},
      {"llama", text_only_family(read_llama_text)},
      {"mistral", text_only_family(read_llama_text)},
      {"llava_next", llava_next::family()},
      {"qwen3_5", qwen3_5::family()},
      {"qwen3_5_text", qwen3_5::text_family()},
      {"qwen3_5_moe", qwen3_5::family()},
      {"qwen3_5_moe_text", qwen3_5::text_family()},
  };
  return known;
}

std::vector<std::string> model_types() {
  std::vector<std::string> names;
  for (const auto& [name, family] : families()) names.push_back(name);
  return names;
}

const Family& family_of(const base::Checkpoint& checkpoint) {
  // Throws for whatever is wrong with the whole file.
  (void)base::read_json_object(checkpoint / "config.json");
  const ConfigFile file = read_config_file(checkpoint);
  const base::JsonObject config = file.root();
  const auto type = base::require<std::string>(config, "model_type");
  const auto it = families().find(type);
  if (it != families().end()) return it->second;
  throw ModelError(fmt::format("{}: \"model_type\" is \"{}\"; the families that tte knows are: {}.",
                               config.where(), base::printable(type, 80), fmt::join(model_types(), ", ")));
}

}  // namespace

std::optional<at::ScalarType> declared_dtype(const base::Checkpoint& checkpoint) {
  const base::JsonObject root = base::read_json_object(checkpoint / "config.json");
  for (const base::JsonObject& object : {root, root.object("text_config")}) {
    for (const char* key : {"dtype", "torch_dtype"}) {
      const std::string name = object.text(key, "");
      if (name.empty()) continue;
      const auto dtype = base::parse_dtype(name);
      if (!dtype) {
        object.reject(key, fmt::format("tte cannot compute in it: load the checkpoint with the dtype {}",
                                       base::dtype_list()));
      }
      return dtype;
    }
  }
  return std::nullopt;
}

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  return family_of(checkpoint).load_preprocessor(checkpoint);
}

std::function<bool(std::string_view)> vision_names(const base::Checkpoint& checkpoint) {
  const bool named = base::is_present(checkpoint / "config.json");
  const auto family = named ? families().find(read_config_file(checkpoint).type()) : families().end();
  if (family == families().end()) return [](std::string_view) { return false; };
  return [&rename = family->second.rename](std::string_view name) {
    return renamed(rename, name).value_or(std::string(name)).starts_with(kVisionPrefix);
  };
}

std::string ModelOptions::key() const {
  std::string out =
      fmt::format("{}|{}|{} {}|{}", placement.dtype ? base::dtype_name(*placement.dtype) : "stored",
                  base::quantization_name(placement.linears), bidirectional.all,
                  fmt::join(bidirectional.layers, " "), fmt::join(read_elsewhere, " "));
  if (latent) {
    out += fmt::format("|{} {} {}", latent->experts_per_step, fmt::join(latent->excluded_experts, " "),
                       latent->tensors);
  }
  return out;
}

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const Family& family = family_of(checkpoint);
  if (checkpoint.is_adapted()) check_adapted(checkpoint, model_types());
  ModelOptions complete = options;
  if (!complete.placement.dtype) complete.placement.dtype = declared_dtype(checkpoint);
  return family.load_model(checkpoint, complete);
}

}  // namespace tte::models
