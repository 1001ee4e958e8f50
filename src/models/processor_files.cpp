#include "models/processor_files.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/file.h"
#include "tte/error.h"

namespace tte::models {
namespace {

using base::Json;
using base::JsonObject;

constexpr int kBicubic = 3;  // Pillow's number.

// Three numbers, or one for all channels.
std::array<double, 3> read_channels(const JsonObject& object, const std::string& key,
                                    std::array<double, 3> fallback) {
  const Json* value = object.find(key);
  if (value == nullptr) return fallback;
  std::vector<double> values;
  if (value->is_number()) values = {value->get<double>()};
  if (auto list = base::strict_cast<std::vector<double>>(*value)) values = std::move(*list);
  if (values.size() == 1) values.assign(3, values[0]);
  if (values.size() != 3 || !std::all_of(values.begin(), values.end(),
                                         [](double v) { return std::isfinite(static_cast<float>(v)); })) {
    object.reject(key, "it must be a number, or one for each of the three colours");
  }
  return {values[0], values[1], values[2]};
}

}  // namespace

ProcessorFile find_processor(const base::Checkpoint& checkpoint, const std::string& section,
                             const std::vector<std::string>& files) {
  for (const std::filesystem::path& folder : checkpoint.folders()) {
    const std::filesystem::path nested = folder / "processor_config.json";
    const base::Json json =
        base::is_present(nested) ? base::read_json_object(nested).json() : base::Json::object();
    const auto found = [&](const std::string& key) -> ProcessorFile {
      return {json[key], fmt::format("{}, \"{}\"", base::shown(nested), key)};
    };
    if (json.contains(section)) return found(section);
    for (const std::string& name : files) {
      const std::filesystem::path file = folder / name;
      if (base::is_present(file)) return {base::read_json(file), base::shown(file)};
    }
    // A model that was made for images alone, such as ColQwen2, has this name for it.
    if (json.contains("image_processor")) return found("image_processor");
  }
  throw ModelError(
      fmt::format("{} has no preprocessor_config.json: copy it from the model's original repository.",
                  base::shown(checkpoint.base())));
}

void read_pixels(const JsonObject& object, media::PatchSpec& patches) {
  patches.mean = read_channels(object, "image_mean", patches.mean);
  patches.std = read_channels(object, "image_std", patches.std);
  if (std::any_of(patches.std.begin(), patches.std.end(),
                  [](double v) { return !(static_cast<float>(v) > 0); }))
    object.reject("image_std", "it must be positive");
  patches.rescale = object.number("rescale_factor", patches.rescale, 0, 1e6);
  patches.do_rescale = object.flag("do_rescale", patches.do_rescale);
  patches.do_normalize = object.flag("do_normalize", patches.do_normalize);
  if (object.integer("resample", kBicubic, 0, 100) != kBicubic)
    object.reject("resample", "it must be 3 (bicubic), the only one tte has");
}

}  // namespace tte::models
