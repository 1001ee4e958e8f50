// The families that tte knows. A new family is one include and one line.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/printable.h"
#include "models/model.h"
#include "models/qwen2_vl/layout.h"
#include "models/qwen2_vl/model.h"
#include "tte/error.h"

namespace tte::models {
namespace {

struct Family {
  std::function<std::shared_ptr<const Layout>(const std::filesystem::path&)> layout;
  std::function<std::shared_ptr<const Model>(const std::filesystem::path&, const ModelOptions&)> model;
};

const std::map<std::string, Family>& families() {
  static const std::map<std::string, Family> known = {
      {"qwen2_vl", {qwen2_vl::load_layout, qwen2_vl::load_model}},
  };
  return known;
}

// Weights of few bits: their tensors have names and types of their own.
void check_plain(const base::JsonObject& config) {
  const base::Json* quantised = config.find("quantization_config");
  if (quantised == nullptr) return;
  std::string method = "unknown";
  if (quantised->is_object())
    method = base::JsonObject(*quantised, config.where()).text("quant_method", method);
  config.fail(
      "quantization_config",
      fmt::format("says that the weights are quantised ({}), which tte does not read: use the original "
                  "checkpoint, or save it as bfloat16 with transformers' model.dequantize()",
                  base::printable(method, 40)));
}

const Family& family_of(const std::filesystem::path& checkpoint) {
  const std::filesystem::path file = checkpoint / "config.json";
  const base::Json json = base::read_json_object(file);
  const base::JsonObject config(json, base::shown(file));
  const auto type = base::require<std::string>(config, "model_type");
  const auto it = families().find(type);
  if (it != families().end()) {
    check_plain(config);
    return it->second;
  }
  std::vector<std::string> names;
  for (const auto& [name, family] : families()) names.push_back(name);
  throw ModelError(fmt::format("{}: \"model_type\" is \"{}\"; the families that tte knows are: {}.",
                               config.where(), base::printable(type, 80), fmt::join(names, ", ")));
}

}  // namespace

std::shared_ptr<const Layout> load_layout(const std::filesystem::path& checkpoint) {
  return family_of(checkpoint).layout(checkpoint);
}

std::shared_ptr<const Model> load_model(const std::filesystem::path& checkpoint,
                                        const ModelOptions& options) {
  return family_of(checkpoint).model(checkpoint, options);
}

}  // namespace tte::models
