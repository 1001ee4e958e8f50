#include "tte/quantize.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <optional>
#include <random>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/linear_format.h"
#include "base/plain_error.h"
#include "base/printable.h"
#include "base/threads.h"
#include "kernels/packed_weight.h"
#include "models/head_config.h"
#include "models/model.h"
#include "prompt/checkpoint_files.h"
#include "prompt/find_recipe.h"
#include "tte/error.h"
#include "weights/rounding.h"
#include "weights/safetensors_writer.h"

namespace tte {
namespace {

namespace fs = std::filesystem;

// States are not needed: the model is only taken apart.
constexpr std::int64_t kStateBytes = std::int64_t{64} << 20;

// Refuses a folder within the checkpoint, however it is named: what is written would become part of what is read.
void refuse_within(const base::Checkpoint& checkpoint, const fs::path& target) {
  const fs::path given = fs::weakly_canonical(fs::absolute(target));
  for (const fs::path& folder : checkpoint.folders()) {
    const fs::path own = fs::canonical(folder);
    if (std::ranges::mismatch(own, given).in1 != own.end()) continue;
    throw InputError(fmt::format("{} is within the checkpoint {}: give a folder outside of it.",
                                 base::shown(target), base::shown(folder)));
  }
}

// A folder that appears when it is whole.
class NewFolder {
 public:
  explicit NewFolder(const fs::path& target) : target_(fs::absolute(target).lexically_normal()) {
    if (!target_.has_filename()) target_ = target_.parent_path();
    std::error_code code;
    if (fs::exists(target_, code) && !fs::is_empty(target_, code)) {
      throw InputError(
          fmt::format("{} is there and not empty: give the name of a new folder.", base::shown(target_)));
    }
    std::random_device random;
    do {
      partial_ = target_;
      partial_ += fmt::format(".partial{:06x}", random() & 0xffffff);
    } while (fs::exists(partial_, code));
    if (!fs::create_directory(partial_, code)) {
      partial_.clear();
      weights::fail_to_write(base::shown(target_) + " cannot be made", code);
    }
  }
  ~NewFolder() {
    std::error_code ignored;
    if (!partial_.empty()) fs::remove_all(partial_, ignored);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  [[nodiscard]] fs::path operator/(const fs::path& name) const { return partial_ / name; }
  void keep() {
    fs::rename(partial_, target_);
    partial_.clear();
  }

 private:
  fs::path target_, partial_;
};

bool holds_weights(const fs::path& file) {
  static constexpr std::array<std::string_view, 8> kEndings = {".bin",  ".pt",   ".pth", ".ckpt",
                                                               ".gguf", ".onnx", ".h5",  ".msgpack"};
  const std::string name = file.filename().string(), ending = file.extension().string();
  const bool is_index = name.ends_with(".index.json");
  if (ending == ".safetensors")
    return name.starts_with("model") || name.starts_with("consolidated") || name.starts_with("adapter_");
  return is_index || name == "adapter_config.json" ||
         std::ranges::find(kEndings, std::string_view(ending)) != kEndings.end();
}

// The folders below a checkpoint's that sentence-transformers' modules.json names.
std::set<fs::path> module_folders(const base::Checkpoint& checkpoint) {
  std::set<fs::path> out;
  const fs::path file = checkpoint / "modules.json";
  if (!base::is_present(file)) return out;
  const base::Json modules = base::read_json(file);
  for (const base::Json& module : modules) {
    if (!module.is_object() || !module.contains("path") || !module["path"].is_string()) continue;
    const fs::path path = fs::path(module["path"].get<std::string>()).lexically_normal();
    if (!path.empty() && path.is_relative() && path.begin()->string() != "..") out.insert(path);
  }
  return out;
}

// Files that the recipe names, whatever they are called.
void copy_files_of(const prompt::Recipe& recipe, const base::Checkpoint& checkpoint, const NewFolder& to) {
  std::vector<std::string> names = {recipe.sparse.file};
  for (const models::ProjectionOptions& projection : recipe.projections) names.push_back(projection.file);
  for (const std::string& name : names) {
    if (name.empty() || !base::is_present(checkpoint / name) || base::is_present(to / name)) continue;
    fs::create_directories((to / name).parent_path());
    fs::copy_file(checkpoint / name, to / name);
  }
}

// What is not the model's weights; of an adapter's folder over that of its base.
void copy_files(const base::Checkpoint& checkpoint, const NewFolder& to) {
  constexpr auto kOver = fs::copy_options::overwrite_existing;
  const auto& folders = checkpoint.folders();
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) {
    for (const auto& entry : fs::directory_iterator(*folder)) {
      const fs::path name = entry.path().filename();
      if (entry.is_regular_file() && !name.string().starts_with('.') && !holds_weights(name))
        fs::copy_file(entry.path(), to / name, kOver);
    }
    for (const fs::path& module : module_folders(checkpoint)) {
      if (!fs::is_directory(*folder / module) || fs::equivalent(*folder / module, *folder)) continue;
      fs::create_directories((to / module).parent_path());
      fs::copy(*folder / module, to / module, kOver | fs::copy_options::recursive);
    }
  }
}

void write_json(const fs::path& path, const base::Json& json) {
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << json.dump(2) << '\n';
  file.close();
  if (!file)
    weights::fail_to_write(base::shown(path) + " cannot be written",
                           {errno != 0 ? errno : EIO, std::generic_category()});
}

void write_config(const base::Checkpoint& checkpoint, base::LinearFormat format, const NewFolder& to) {
  base::Json config = base::read_json_object(checkpoint / "config.json").json();
  if (config.contains("text_config") && config["text_config"].is_object())
    config["text_config"].erase("quantization_config");
  config["quantization_config"] = weights::rounding_config(format);
  write_json(to / "config.json", config);
}

void write(const base::Checkpoint& checkpoint, base::LinearFormat format, const QuantizeOptions& options,
           NewFolder& to) {
  if (models::is_head(checkpoint.folder())) {
    throw ModelError(
        fmt::format("{} is an embedding head: quantise the model whose head it is, and load that with this "
                    "as its adapter.",
                    base::shown(checkpoint.folder())));
  }
  if (const auto rounded = weights::rounding_of(checkpoint.base())) {
    throw ModelError(fmt::format("{} is {} already: give the original checkpoint.",
                                 base::shown(checkpoint.base()), base::quantization_name(*rounded)));
  }
  const auto files = prompt::load_checkpoint_files(checkpoint);
  const prompt::Recipe recipe = prompt::find_recipe(checkpoint, *files);

  models::ModelOptions model = prompt::model_options(recipe);
  model.placement.linears = format;
  model.state_bytes = kStateBytes;
  model.loaded = [&](const weights::StateDict& tensors) {
    const auto round = [format](const at::Tensor& matrix) { return kernels::round(matrix, format); };
    std::vector<weights::TensorsToWrite> rounded = tensors.rounded(round);
    for (weights::TensorsToWrite& group : rounded) {
      group.make = [&options, make = std::move(group.make)] {
        if (options.poll) options.poll();
        return make();
      };
    }
    weights::write_safetensors(to / "model.safetensors", rounded, weights::rounding_metadata(format));
  };
  static_cast<void>(models::load_model(checkpoint, model));
  copy_files(checkpoint, to);
  copy_files_of(recipe, checkpoint, to);
  write_config(checkpoint, format, to);
  // The new folder has another name, by which a recipe that no file names would not be found.
  if (!base::is_present(to / "recipe.json") && recipe.applies_to && !recipe.applies_to->names.empty())
    write_json(to / "recipe.json", {{"extends", recipe.name}});
}

}  // namespace

void quantize(const fs::path& checkpoint, const fs::path& folder, const QuantizeOptions& options) {
  const auto format = base::parse_quantization(options.quantization);
  if (!format || !base::is_rounded(*format)) {
    throw InputError(fmt::format("quantization is \"{}\": it must be \"int8\" or \"int4\".",
                                 base::printable(options.quantization, 40)));
  }
  const base::AvailableThreads threads;
  base::in_plain_words(checkpoint.string(), "let other programs end first", [&] {
    try {
      const base::Checkpoint found = prompt::find_checkpoint(checkpoint, options.adapter);
      refuse_within(found, folder);
      NewFolder to(folder);
      write(found, *format, options, to);
      to.keep();
    } catch (const fs::filesystem_error& error) {
      const fs::path& path = error.path2().empty() ? error.path1() : error.path2();
      weights::fail_to_write(base::shown(path) + " cannot be written or copied", error.code());
    }
  });
}

}  // namespace tte
