#include "weights/adapter.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <unicode/regex.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/printable.h"
#include "tte/error.h"

namespace tte::weights {
namespace {

namespace fs = std::filesystem;
using base::JsonObject;
using base::printable;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kTensors = "adapter_model.safetensors";
constexpr std::int64_t kMostRank = 1 << 20;
constexpr double kMostAlpha = 1e9;
constexpr std::size_t kMostPatterns = 10'000;
constexpr std::size_t kMostPatternBytes = 1'000;
constexpr std::int32_t kMostMatchSteps = 100;  // A step of ICU is some ten thousand operations.

bool has_tensors(const fs::path& folder) {
  return base::is_present(folder / "model.safetensors") ||
         base::is_present(folder / "model.safetensors.index.json");
}

// A value for each module whose name one of these patterns, which are Python's regular expressions, ends with.
template <typename Value>
class ByModule {
 public:
  // `read(object, pattern)` gives the value of a pattern, and throws for one that makes no sense.
  template <typename Read>
  ByModule(const JsonObject& object, const std::string& key, Value otherwise, Read read)
      : otherwise_(std::move(otherwise)) {
    const base::Json& json = object.json();
    if (json.size() > kMostPatterns)
      object.fail(key, fmt::format("has {} patterns: at most {} are read", json.size(), kMostPatterns));
    for (const auto& [pattern, value] : json.items()) {
      const Value number = read(object, pattern);
      UErrorCode status = U_ZERO_ERROR;
      std::unique_ptr<icu::RegexMatcher> matcher;
      if (pattern.size() <= kMostPatternBytes) {
        matcher = std::make_unique<icu::RegexMatcher>(
            icu::UnicodeString::fromUTF8("(.*\\.)?(" + pattern + ")"), 0, status);
      }
      if (matcher == nullptr || U_FAILURE(status)) {
        throw ModelError(
            fmt::format("{}: \"{}\" has the pattern \"{}\", which is no regular expression of at most {} "
                        "bytes.",
                        object.where(), key, printable(pattern, 80), kMostPatternBytes));
      }
      matcher->setTimeLimit(kMostMatchSteps, status);
      patterns_.push_back({std::move(matcher), number});
    }
    where_ = fmt::format("{}: \"{}\"", object.where(), key);
  }

  [[nodiscard]] Value operator()(const std::string& module) const {
    const icu::UnicodeString name = icu::UnicodeString::fromUTF8(module);
    for (const auto& [matcher, value] : patterns_) {
      UErrorCode status = U_ZERO_ERROR;
      matcher->reset(name);
      const bool matches = matcher->matches(status);
      if (U_FAILURE(status)) {
        throw ModelError(
            fmt::format("{} has a pattern that takes too long to match \"{}\": write it more simply.", where_,
                        printable(module)));
      }
      if (matches) return value;
    }
    return otherwise_;
  }

 private:
  struct Pattern {
    std::unique_ptr<icu::RegexMatcher> matcher;
    Value value;
  };
  std::vector<Pattern> patterns_;
  Value otherwise_;
  std::string where_;
};

std::int64_t read_rank(const JsonObject& object, const std::string& key) {
  const auto rank = object.integer(key, 1, kMostRank);
  if (!rank) object.reject(key, "it must be a whole number");
  return *rank;
}
double read_alpha(const JsonObject& object, const std::string& key) {
  if (!object.has(key)) object.reject(key, "it must be a number");
  return object.number(key, 0, -kMostAlpha, kMostAlpha);
}

// What changes a model otherwise than by B A, a magnitude and whole tensors.
void check_plain(const JsonObject& config) {
  const auto type = base::require<std::string>(config, "peft_type");
  if (type != "LORA") config.reject("peft_type", "tte merges adapters of the type \"LORA\" only");
  static constexpr std::array kOthers = {"layer_replication",  "trainable_token_indices",
                                         "target_parameters",  "alora_invocation_tokens",
                                         "use_qalora",         "velora_config",
                                         "monteclora_config",  "use_bdlora",
                                         "arrow_config",       "kasa_config",
                                         "ensure_weight_tying"};
  for (const char* key : kOthers) {
    const base::Json* value = config.find(key);
    if (value == nullptr || *value == false || (value->is_structured() && value->empty())) continue;
    config.reject(
        key, "tte merges LoRA and DoRA without it only; merge this adapter with peft's merge_and_unload()");
  }
  // These start from a changed base, which the adapter does not hold.
  const base::Json* start = config.find("init_lora_weights");
  if (start == nullptr || !start->is_string()) return;
  const auto& name = start->get_ref<const std::string&>();
  for (const char* changing : {"pissa", "olora", "corda", "loftq", "lora_ga"}) {
    if (name.starts_with(changing)) {
      config.reject("init_lora_weights",
                    "such an adapter changes the base's own tensors; save it with peft's "
                    "path_initial_model_for_weight_conversion first");
    }
  }
}

// Whether modules are targeted by their last names, which the modules of all layers have, and no layer is left out.
bool names_no_layer(const JsonObject& config) {
  for (const char* key : {"layers_to_transform", "exclude_modules"}) {
    const base::Json* value = config.find(key);
    if (value != nullptr && !(value->is_structured() && value->empty())) return false;
  }
  const base::Json* targets = config.find("target_modules");
  return targets != nullptr && targets->is_array() &&
         std::ranges::all_of(*targets, [](const base::Json& name) {
           return name.is_string() && name.get_ref<const std::string&>().find('.') == std::string::npos;
         });
}

struct Config {
  bool dora;
  bool rank_stabilised;
  std::vector<std::string> modules_to_save;
  ByModule<std::int64_t> rank;
  ByModule<double> alpha;

  explicit Config(const JsonObject& json)
      : dora(json.flag("use_dora", false)),
        rank_stabilised(json.flag("use_rslora", false)),
        modules_to_save(json.texts("modules_to_save")),
        rank(json.object("rank_pattern"), "rank_pattern", json.integer("r", 8, 1, kMostRank), read_rank),
        alpha(json.object("alpha_pattern"), "alpha_pattern",
              json.number("lora_alpha", 8, -kMostAlpha, kMostAlpha), read_alpha) {
    // This is for transposed layers (GPT-2's Conv1D); PEFT ignores it for all others.
    static_cast<void>(json.flag("fan_in_fan_out", false));
  }

  [[nodiscard]] double scale(const std::string& module) const {
    const auto r = static_cast<double>(rank(module));
    return alpha(module) / (rank_stabilised ? std::sqrt(r) : r);
  }
  [[nodiscard]] bool is_saved(std::string_view module) const {
    return std::ranges::any_of(modules_to_save,
                               [&](const std::string& name) { return module.ends_with(name); });
  }
};

// "a.b.c" without the first ".b" that is followed by a dot, if there is one.
void drop(std::string& name, std::string_view component) {
  const auto at = name.find(fmt::format(".{}.", component));
  if (at != std::string::npos) name.erase(at, component.size() + 1);
}

// The tensors of one module.
struct Module {
  std::optional<std::size_t> a, b, bias, magnitude;
  bool embedding = false;
};

class Reader {
 public:
  Reader(const Config& config, std::shared_ptr<const TensorFile> file) : config_(config) {
    adapter_.file = std::move(file);
  }

  Adapter read() && {
    const auto& tensors = adapter_.file->tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) sort(i);
    for (const auto& [name, module] : modules_) add(name, module);
    return std::move(adapter_);
  }

 private:
  [[nodiscard]] std::string where() const { return adapter_.file->file()->name(); }
  [[nodiscard]] const StoredTensor& stored(std::size_t index) const {
    return adapter_.file->tensors()[index];
  }

  void sort(std::size_t index) {
    const StoredTensor& tensor = stored(index);
    if (!scalar_type(tensor.dtype)) {
      throw ModelError(fmt::format("{} stores tensor \"{}\" as {}: tte computes with F32, F16 and BF16.",
                                   where(), printable(tensor.name), tensor.dtype));
    }
    std::string name = tensor.name;
    if (constexpr std::string_view kPrefix = "base_model.model."; name.starts_with(kPrefix))
      name.erase(0, kPrefix.size());
    const auto at = name.rfind(".lora_");
    if (at == std::string::npos) {
      drop(name, "base_layer");
      // Files that were not written by save_pretrained have the adapter's name.
      drop(name, "modules_to_save.default");
      drop(name, "modules_to_save");
      const std::string module = name.substr(0, name.rfind('.'));
      adapter_.replacements.push_back({name, index, config_.is_saved(module)});
      return;
    }
    std::string part = name.substr(at);  // ".lora_A.weight", ".lora_A.default.weight"
    drop(part, "default");
    if (part.ends_with(".default")) part.resize(part.size() - std::string_view(".default").size());
    Module& module = modules_[name.substr(0, at)];
    std::optional<std::size_t>* place = part == ".lora_A.weight"   ? &module.a
                                        : part == ".lora_B.weight" ? &module.b
                                        : part == ".lora_B.bias"   ? &module.bias
                                                                   : nullptr;
    if (part == ".lora_magnitude_vector" || part == ".lora_magnitude_vector.weight")
      place = &module.magnitude;
    if (part == ".lora_embedding_A" || part == ".lora_embedding_B") {
      module.embedding = true;
      place = part.back() == 'A' ? &module.a : &module.b;
    }
    if (place == nullptr) {
      throw ModelError(
          fmt::format("{} has tensor \"{}\", which is no part of a LoRA or DoRA adapter that tte knows.",
                      where(), printable(tensor.name)));
    }
    if (*place) {
      throw ModelError(fmt::format("{} has tensors \"{}\" and \"{}\", which are the same part of one module.",
                                   where(), printable(stored(**place).name), printable(tensor.name)));
    }
    *place = index;
  }

  void add(const std::string& name, const Module& module) {
    const auto lacks = [&](const std::optional<std::size_t>& there, const char* missing) {
      throw ModelError(
          fmt::format("{} has tensor \"{}\", but not the {} that belongs to it: the file is not complete.",
                      where(), printable(stored(*there).name), missing));
    };
    const std::string prefix = module.embedding ? "lora_embedding_" : "lora_";
    if (!module.a)
      lacks(module.b ? module.b : module.bias ? module.bias : module.magnitude, (prefix + "A").c_str());
    if (!module.b) lacks(module.a, (prefix + "B").c_str());
    if (config_.dora && !module.magnitude) lacks(module.a, "lora_magnitude_vector");
    if (!config_.dora && module.magnitude) {
      throw ModelError(fmt::format("{} has tensor \"{}\", but its {} does not say \"use_dora\": true.",
                                   where(), printable(stored(*module.magnitude).name), kConfig));
    }
    const auto& a = stored(*module.a).shape;
    const std::int64_t rank = config_.rank(name);
    if (a.empty() || a[0] != rank) {
      throw ModelError(fmt::format("{} has tensor \"{}\" of shape {}, but {} gives that module the rank {}.",
                                   where(), printable(stored(*module.a).name), shape_text(a), kConfig, rank));
    }
    Delta::Parts parts;
    parts.a = module.a;
    parts.b = *module.b;
    parts.magnitude = module.magnitude;
    parts.embedding = module.embedding;
    parts.scale = config_.scale(name);
    adapter_.deltas.emplace_back(adapter_.file, parts, name + ".weight");
    if (!module.bias) return;
    Delta::Parts bias;
    bias.b = *module.bias;
    bias.scale = parts.scale;
    adapter_.deltas.emplace_back(adapter_.file, bias, name + ".bias");
  }

  const Config& config_;
  Adapter adapter_;
  std::map<std::string, Module> modules_;
};

}  // namespace

bool is_adapter(const fs::path& folder) {
  if (!base::is_present(folder / kConfig)) return false;
  return !has_tensors(folder) || base::is_present(folder / kTensors);
}

AdapterBase base_of_adapter(const fs::path& folder) {
  AdapterBase base;
  if (has_tensors(folder)) {
    base.folder = folder;
    return base;
  }
  const JsonObject config = base::read_json_object(folder / kConfig);
  base.name = config.text("base_model_name_or_path", "");
  base.revision = config.text("revision", "");
  if (base.name.empty()) return base;
  std::error_code code;
  const fs::path absolute = fs::absolute(folder, code).lexically_normal();
  // A path with a slash at its end has an empty last part.
  const fs::path own = absolute.has_filename() ? absolute : absolute.parent_path();
  for (const fs::path& start : {fs::path(), own, own.parent_path()}) {
    const fs::path candidate = start / base.name;
    if ((base::is_present(candidate / "config.json") || has_tensors(candidate)) &&
        !fs::equivalent(candidate, folder, code)) {
      base.folder = candidate;
      break;
    }
  }
  return base;
}

std::string class_of_base(const fs::path& folder) {
  if (has_tensors(folder)) return {};
  const JsonObject config = base::read_json_object(folder / kConfig);
  return config.object("auto_mapping").text("base_model_class", "");
}

Adapter Adapter::open(const fs::path& folder) {
  const JsonObject object = base::read_json_object(folder / kConfig);
  check_plain(object);
  const Config config(object);
  if (!base::is_present(folder / kTensors)) {
    const bool pickled = base::is_present(folder / "adapter_model.bin");
    throw ModelError(
        fmt::format("{} has no {}{}.", base::shown(folder), kTensors,
                    pickled ? ", only pickled weights, which tte does not read: load the adapter with "
                              "peft and write it with save_pretrained(folder)"
                            : ": fetch it"));
  }
  auto mapped = MappedFile::open(folder / kTensors);
  auto tensors = read_safetensors(mapped->bytes(), mapped->name());
  if (tensors.empty()) throw ModelError(fmt::format("{} holds no tensors.", mapped->name()));
  Adapter adapter =
      Reader(config, std::make_shared<const TensorFile>(std::move(mapped), std::move(tensors))).read();
  adapter.of_all_layers = names_no_layer(object);
  return adapter;
}

Delta::Delta(std::shared_ptr<const TensorFile> file, Parts parts, std::string target)
    : file_(std::move(file)), parts_(parts), target_(std::move(target)) {}

std::string Delta::shown() const {
  return fmt::format("{} has tensor \"{}\"", file_->file()->name(),
                     printable(stored(parts_.a.value_or(parts_.b)).name));
}

void Delta::check_fits(const std::vector<std::int64_t>& shape, const std::string& name) const {
  const auto& b = stored(parts_.b).shape;
  std::vector<std::int64_t> wanted_b = shape;
  if (parts_.a) {
    const auto& a = stored(*parts_.a).shape;
    std::vector<std::int64_t> wanted_a = shape;
    if (parts_.embedding) std::reverse(wanted_a.begin(), wanted_a.end());
    const bool matrix = shape.size() == 2 || (shape.size() > 2 && !parts_.embedding);
    wanted_b.assign(shape.size(), 1);
    if (matrix) {
      wanted_b[0] = wanted_a[0];
      wanted_b[1] = a[0];
      wanted_a[0] = a[0];
    }
    if (!matrix || a != wanted_a || b != wanted_b) {
      throw ModelError(fmt::format(
          "{} has tensors \"{}\" of shape {} and \"{}\" of shape {}, which do not fit tensor "
          "\"{}\" of shape {}: the adapter is of another model.",
          file_->file()->name(), printable(stored(*parts_.a).name), shape_text(a),
          printable(stored(parts_.b).name, 80), shape_text(b), printable(name, 80), shape_text(shape)));
    }
  } else if (b != shape) {
    throw ModelError(
        fmt::format("{} has tensor \"{}\" of shape {}, which does not fit tensor \"{}\" of shape {}: the "
                    "adapter is of another model.",
                    file_->file()->name(), printable(stored(parts_.b).name), shape_text(b), printable(name),
                    shape_text(shape)));
  }
  if (!parts_.magnitude) return;
  const std::int64_t rows = parts_.embedding ? shape[1] : shape[0];
  const auto& magnitude = stored(*parts_.magnitude).shape;
  std::int64_t count = 1;
  for (const std::int64_t size : magnitude) count *= size;
  if (count != rows || std::ranges::count(magnitude, rows) == 0) {
    throw ModelError(
        fmt::format("{} has tensor \"{}\" of shape {}, where tensor \"{}\" of shape {} needs {} values.",
                    file_->file()->name(), printable(stored(*parts_.magnitude).name), shape_text(magnitude),
                    printable(name), shape_text(shape), rows));
  }
}

at::Tensor Delta::tensor(std::size_t index, at::Device device) const {
  const StoredTensor& tensor = stored(index);
  return map_tensor(file_->file(), tensor.begin, tensor.shape, *scalar_type(tensor.dtype))
      .to(device, at::kFloat);
}

at::Tensor Delta::merge(const at::Tensor& weight) const {
  const at::Device device = weight.device();
  const at::Tensor before = weight.to(at::kFloat);
  const at::Tensor b = tensor(parts_.b, device);
  if (!parts_.a) return before + b * parts_.scale;
  at::Tensor product = at::matmul(b.flatten(1), tensor(*parts_.a, device).flatten(1)).mul_(parts_.scale);
  if (parts_.embedding) product = product.t();
  at::Tensor merged = before.flatten(1) + product;
  if (parts_.magnitude) {
    const std::int64_t along = parts_.embedding ? 0 : 1;
    const at::Tensor norm = at::linalg_vector_norm(merged, 2, at::IntArrayRef{along}, true);
    merged = tensor(*parts_.magnitude, device).view(norm.sizes()).div(norm).mul(merged);
  }
  return merged.view(weight.sizes());
}

std::vector<std::size_t> Delta::indices() const {
  std::vector<std::size_t> out = {parts_.b};
  if (parts_.a) out.push_back(*parts_.a);
  if (parts_.magnitude) out.push_back(*parts_.magnitude);
  return out;
}

void Delta::add_origin(base::Digester& digester) const {
  const base::Digest& file = file_->file()->identity();
  digester.text("delta").bytes(&file, sizeof file).bytes(&parts_.scale, sizeof parts_.scale);
  for (const std::size_t index : indices()) digester.number(static_cast<std::int64_t>(stored(index).begin));
}

void Delta::add_content(base::Digester& digester) const {
  digester.text("delta").number(parts_.embedding ? 1 : 0).bytes(&parts_.scale, sizeof parts_.scale);
  for (const std::size_t index : indices()) {
    const base::Digest& content = file_->digest(index);
    digester.text(stored(index).dtype).number(stored(index).shape[0]);
    digester.bytes(&content.low, sizeof content.low).bytes(&content.high, sizeof content.high);
  }
}

}  // namespace tte::weights
