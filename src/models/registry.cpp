// The families that tte knows. A new family is one include and one line.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "base/json.h"
#include "base/printable.h"
#include "models/config_file.h"
#include "models/llama/model.h"
#include "models/llama/preprocessor.h"
#include "models/llava_next/model.h"
#include "models/llava_next/preprocessor.h"
#include "models/model.h"
#include "models/qwen2/model.h"
#include "models/qwen2/preprocessor.h"
#include "models/qwen2_5_vl/model.h"
#include "models/qwen2_5_vl/preprocessor.h"
#include "models/qwen2_vl/model.h"
#include "models/qwen2_vl/preprocessor.h"
#include "models/qwen3/model.h"
#include "models/qwen3/preprocessor.h"
#include "models/qwen3_5/model.h"
#include "models/qwen3_5/preprocessor.h"
#include "models/qwen3_vl/model.h"
#include "models/qwen3_vl/preprocessor.h"
#include "tte/error.h"

namespace tte::models {
namespace {

struct Family {
  std::function<std::shared_ptr<const Preprocessor>(const base::Checkpoint&)> preprocessor;
  std::function<std::shared_ptr<const Model>(const base::Checkpoint&, const ModelOptions&)> model;
};

const std::map<std::string, Family>& families() {
  static const std::map<std::string, Family> known = {
      {"qwen2_vl", {qwen2_vl::load_preprocessor, qwen2_vl::load_model}},
      {"qwen2_5_vl", {qwen2_5_vl::load_preprocessor, qwen2_5_vl::load_model}},
      {"qwen3_vl", {qwen3_vl::load_preprocessor, qwen3_vl::load_model}},
      {"colqwen3", {qwen3_vl::load_preprocessor, qwen3_vl::load_model}},
      {"ops_colqwen3", {qwen3_vl::load_preprocessor, qwen3_vl::load_model}},
      {"qwen3_vl_moe", {qwen3_vl::load_preprocessor, qwen3_vl::load_model}},
      {"qwen2", {qwen2::load_preprocessor, qwen2::load_model}},
      {"qwen3", {qwen3::load_preprocessor, qwen3::load_model}},
      {"qwen3_moe", {qwen3::load_preprocessor, qwen3::load_model}},
      {"llama", {llama::load_preprocessor, llama::load_model}},
      {"mistral", {llama::load_preprocessor, llama::load_model}},
      {"llava_next", {llava_next::load_preprocessor, llava_next::load_model}},
      {"qwen3_5", {qwen3_5::load_preprocessor, qwen3_5::load_model}},
      {"qwen3_5_text", {qwen3_5::load_text_preprocessor, qwen3_5::load_text_model}},
      {"qwen3_5_moe", {qwen3_5::load_preprocessor, qwen3_5::load_model}},
      {"qwen3_5_moe_text", {qwen3_5::load_text_preprocessor, qwen3_5::load_text_model}},
  };
  return known;
}

const Family& family_of(const base::Checkpoint& checkpoint) {
  // Throws for whatever is wrong with the whole file.
  (void)base::read_json_object(checkpoint / "config.json");
  const ConfigFile file = read_config_file(checkpoint);
  const base::JsonObject config = file.root();
  const auto type = base::require<std::string>(config, "model_type");
  const auto it = families().find(type);
  if (it != families().end()) return it->second;
  std::vector<std::string> names;
  for (const auto& [name, family] : families()) names.push_back(name);
  throw ModelError(fmt::format("{}: \"model_type\" is \"{}\"; the families that tte knows are: {}.",
                               config.where(), base::printable(type, 80), fmt::join(names, ", ")));
}

}  // namespace

std::optional<at::ScalarType> declared_dtype(const base::Checkpoint& checkpoint) {
  const std::filesystem::path file = checkpoint / "config.json";
  const base::Json json = base::read_json_object(file);
  const base::JsonObject root(json, base::shown(file));
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
  return family_of(checkpoint).preprocessor(checkpoint);
}

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const Family& family = family_of(checkpoint);
  ModelOptions complete = options;
  if (!complete.placement.dtype) complete.placement.dtype = declared_dtype(checkpoint);
  return family.model(checkpoint, complete);
}

}  // namespace tte::models
