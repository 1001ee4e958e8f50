#include "models/preprocessor.h"

#include <fmt/core.h>

#include <optional>
#include <string>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "media/patch_spec.h"
#include "tte/error.h"

namespace tte::models {
namespace {

struct Source {
  base::Json json;
  std::string where;
};

// The first of: processor_config.json's `section`, and `files` one by one.
std::optional<Source> find_source(const std::filesystem::path& checkpoint, const std::string& section,
                                  const std::vector<std::string>& files) {
  const std::filesystem::path nested = checkpoint / "processor_config.json";
  if (base::is_present(nested)) {
    const base::Json json = base::read_json_object(nested);
    if (json.contains(section))
      return Source{json[section], fmt::format("{}, \"{}\"", base::shown(nested), section)};
  }
  for (const std::string& name : files) {
    const std::filesystem::path file = checkpoint / name;
    if (base::is_present(file)) return Source{base::read_json(file), base::shown(file)};
  }
  return std::nullopt;
}

media::PatchSpec read_spec(const std::optional<Source>& source, const std::filesystem::path& checkpoint,
                           const media::PatchSpec& tower, const media::PatchSpec& defaults) {
  if (!source) {
    throw ModelError(
        fmt::format("{} has no preprocessor_config.json: copy it from the model's original repository.",
                    base::shown(checkpoint)));
  }
  media::PatchSpec spec = media::parse_patch_spec(source->json, source->where, defaults);
  const auto check = [&](const char* key, int value, int wanted) {
    if (value == wanted) return;
    throw ModelError(fmt::format("{}: \"{}\" is {}, but the vision tower of config.json reads {}.",
                                 source->where, key, value, wanted));
  };
  check("patch_size", spec.patch_size, tower.patch_size);
  check("merge_size", spec.merge_size, tower.merge_size);
  check("temporal_patch_size", spec.temporal_patch_size, tower.temporal_patch_size);
  return spec;
}

}  // namespace

PatchSpecs load_patch_specs(const std::filesystem::path& checkpoint, const media::PatchSpec& tower) {
  const auto image = find_source(checkpoint, "image_processor", {"preprocessor_config.json"});
  const auto video = find_source(checkpoint, "video_processor",
                                 {"video_preprocessor_config.json", "preprocessor_config.json"});
  return {read_spec(image, checkpoint, tower, {}),
          read_spec(video, checkpoint, tower, media::default_video_patch_spec())};
}

}  // namespace tte::models
