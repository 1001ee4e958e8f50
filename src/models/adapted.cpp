#include "models/adapted.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/checkpoint_name.h"
#include "base/json.h"
#include "base/logging.h"
#include "base/printable.h"
#include "models/config_file.h"
#include "tte/error.h"
#include "weights/adapter.h"

namespace tte::models {
namespace {

namespace fs = std::filesystem;

// Letters and digits in lower case: "Qwen2_5_VL" and "qwen2_5_vl" are one.
std::string plain(std::string_view name) {
  std::string out;
  for (const unsigned char c : name) {
    if (std::isalnum(c) != 0) out.push_back(static_cast<char>(std::tolower(c)));
  }
  return out;
}

// A model_type, plain; a text model beside others is of their family.
std::string plain_type(std::string_view type) {
  std::string out = plain(type);
  if (out.ends_with("text")) out.resize(out.size() - 4);
  return out;
}

// The type of a class of transformers, as plain_type() has it: "qwen2vl" of "Qwen2VLForConditionalGeneration". Empty
// for classes that are called otherwise, as people call their own.
std::string type_of_class(std::string_view name, const std::vector<std::string>& model_types) {
  const std::string whole = plain(name);
  for (const std::string& each : model_types) {
    std::string type = plain_type(each);
    if (!whole.starts_with(type)) continue;
    const std::string_view rest = std::string_view(whole).substr(type.size());
    if (rest == "model" || rest == "textmodel" || rest.starts_with("for")) return type;
  }
  return {};
}

// Whether a model that is called `name` may be the one in the folder: it is that folder, or is called so there.
bool may_be(const std::string& name, const fs::path& folder) {
  std::error_code code;
  if (fs::equivalent(name, folder, code)) return true;
  const std::string wanted = plain(base::name_of(name));
  const std::string own = base::read_json_object(folder / "config.json").text("_name_or_path", "");
  const auto is_wanted = [&](const fs::path& path) { return plain(base::name_of(path)) == wanted; };
  return is_wanted(folder) || (!own.empty() && is_wanted(own));
}

}  // namespace

void check_adapted(const base::Checkpoint& checkpoint, const std::vector<std::string>& model_types) {
  if (!weights::is_adapter(checkpoint.folder())) return;
  const AdapterBase made_for = weights::base_of_adapter(checkpoint.folder());
  const std::string model_class = weights::class_of_base(checkpoint.folder());
  const std::string adapter = base::shown(checkpoint.folder(), 120),
                    given = base::shown(checkpoint.base(), 120);
  const std::string type = read_config_file(checkpoint.base()).type();
  const std::string wanted = type_of_class(model_class, model_types);
  // Models of late interaction are often classes of their own on the weights of others.
  const auto is_own = [](const std::string& name) { return name.find("col") != std::string::npos; };
  if (!wanted.empty() && wanted != plain_type(type) && !is_own(wanted) && !is_own(type)) {
    throw ModelError(fmt::format(
        "{} is an adapter of a {}, and the model_type of {} is {}: give the model that it was made for{}.",
        adapter, base::printable(model_class, 60), given, base::printable(type, 40),
        made_for.name.empty() ? "" : fmt::format(" (\"{}\")", base::printable(made_for.name, 80))));
  }
  if (made_for.name.empty() || may_be(made_for.name, checkpoint.base())) return;
  base::warn_once(fmt::format(
      "{} says that it is an adapter of \"{}\", and is merged into {}: if that is another model, what comes "
      "out means nothing.",
      adapter, base::printable(made_for.name, 80), given));
}

}  // namespace tte::models
