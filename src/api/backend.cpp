#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "api/backend_impl.h"
#include "api/devices.h"
#include "base/digest.h"
#include "base/dtype.h"
#include "base/linear_format.h"
#include "base/plain_error.h"
#include "base/printable.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "models/step_size.h"
#include "tte/error.h"

namespace tte {
namespace {

constexpr std::int64_t kFallbackMemory = std::int64_t{4} << 30;  // For a machine that does not say.

// A folder, and what changes when one of its files is written again, so that a retrained model at the same path is
// not mistaken for the one in memory.
std::string stamp(const std::filesystem::path& folder) {
  std::vector<std::string> entries;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::error_code error;
    const auto size = entry.file_size(error);
    if (error) continue;
    const auto time = entry.last_write_time(error).time_since_epoch().count();
    entries.push_back(fmt::format("{}:{}:{}", entry.path().filename().string(), size, time));
  }
  std::sort(entries.begin(), entries.end());
  base::Digester digester;
  for (const std::string& entry : entries) digester.text(entry);
  return fmt::format("{}|{}|", std::filesystem::canonical(folder).string(), digester.finish().hex());
}

std::string stamps(const base::Checkpoint& checkpoint) {
  std::string out;
  for (const std::filesystem::path& folder : checkpoint.folders()) out.append("|").append(stamp(folder));
  return out;
}

}  // namespace

Backend::Impl::Impl(const BackendOptions& options) : options_(options) {
  options.validate();
  device_ = api::choose_device(options.device);
  if (device_.name != "cpu") kernels::load_cuda();
  options_.device = device_.name;
  if (options_.threads == 0) options_.threads = std::min(at::get_num_threads(), base::most_threads());
  options_.media_threads = base::media_threads(options.media_threads);
  if (options_.state_bytes == 0) {
    options_.state_bytes = (device_.memory_bytes > 0 ? device_.memory_bytes : kFallbackMemory) / 4;
  }
  if (!options_.max_step_tokens) {
    options_.max_step_tokens = static_cast<int>(models::step_size(api::torch_device(device_).type()).tokens);
  }
  store_ = std::make_shared<weights::WeightStore>();
  executor_ = std::make_shared<engine::Executor>(options_.threads, options_.vision_cache_bytes);
  media_pool_ = std::make_unique<base::ThreadPool>(options_.media_threads);
}

std::shared_ptr<const prompt::CheckpointFiles> Backend::Impl::read_files(const base::Checkpoint& checkpoint) {
  const std::string key = stamps(checkpoint);
  const std::lock_guard lock(files_mutex_);
  if (auto files = files_[key].lock()) return files;
  std::erase_if(files_, [](const auto& entry) { return entry.second.expired(); });
  auto files = prompt::load_checkpoint_files(checkpoint);
  files_[key] = files;
  return files;
}

std::shared_ptr<const api::LoadedModel> Backend::Impl::load(const base::Checkpoint& checkpoint,
                                                            const LoadOptions& options,
                                                            const prompt::Recipe& recipe) {
  const std::string& dtype = options.dtype;
  weights::Placement placement;
  placement.device = api::torch_device(device_);
  placement.store = store_;
  placement.dtype = dtype == "auto" ? models::declared_dtype(checkpoint) : base::parse_dtype(dtype);
  if (!placement.dtype && dtype != "auto") {
    throw InputError(fmt::format("dtype is \"{}\": it must be \"auto\", {}.", base::printable(dtype, 40),
                                 base::dtype_list()));
  }
  const auto linears = base::parse_quantization(options.quantization);
  if (!linears) {
    throw InputError(fmt::format("quantization is \"{}\": it must be {}.",
                                 base::printable(options.quantization, 40), base::kQuantizations));
  }
  if (*linears != base::LinearFormat::kPlain && !placement.device.is_cpu()) {
    throw InputError(
        fmt::format("quantization is \"{}\", which runs on a CPU, and the device is {}: leave it out, or "
                    "give device=\"cpu\".",
                    options.quantization, device_.name));
  }
  // Numbers that stay as they are stand in the processor's own order, where it has one.
  placement.linears =
      base::is_rounded(*linears) || !placement.device.is_cpu() ? *linears : base::LinearFormat::kPanels;
  std::string key = placement.dtype ? base::dtype_name(*placement.dtype) : "stored";
  key.append("|").append(options.quantization);
  if (recipe.bidirectional.any())
    key.append(fmt::format("|{} {}", recipe.bidirectional.all, fmt::join(recipe.bidirectional.layers, " ")));
  key.append(stamps(checkpoint));
  const std::lock_guard loading(load_mutex_);
  {
    const std::lock_guard lock(models_mutex_);
    if (auto model = models_[key].lock()) return model;
  }
  auto loaded = std::make_shared<api::LoadedModel>();
  loaded->files = read_files(checkpoint);
  models::ModelOptions model_options;
  model_options.placement = placement;
  model_options.state_bytes = options_.state_bytes;
  model_options.bidirectional = recipe.bidirectional;
  for (const models::ProjectionOptions& projection : recipe.projections) {
    if (projection.file.empty()) model_options.read_elsewhere.push_back(projection.tensors);
  }
  loaded->model = models::load_model(checkpoint, model_options);
  engine::EngineOptions engine_options;
  engine_options.max_step_tokens = *options_.max_step_tokens;
  engine_options.max_step_patches = models::step_size(placement.device.type()).patches;
  engine_options.max_running = options_.max_running;
  engine_options.prompt_lookup_tokens = options_.prompt_lookup_tokens;
  loaded->engine =
      std::make_unique<engine::Engine>(loaded->model, loaded->files->tokenizer, executor_, engine_options);
  const std::lock_guard lock(models_mutex_);
  std::erase_if(models_, [](const auto& entry) { return entry.second.expired(); });
  models_[key] = loaded;
  return loaded;
}

BackendStats Backend::Impl::stats() {
  std::vector<std::shared_ptr<const api::LoadedModel>> live;
  {
    const std::lock_guard lock(models_mutex_);
    for (const auto& [key, model] : models_) {
      if (auto alive = model.lock()) live.push_back(std::move(alive));
    }
  }
  BackendStats out;
  for (const auto& model : live) {
    const engine::EngineStats stats = model->engine->stats();
    ++out.engines;
    out.steps += stats.steps;
    out.prefill_tokens += stats.prefill_tokens;
    out.decode_tokens += stats.decode_tokens;
    out.guessed_tokens += stats.guessed_tokens;
    out.right_guesses += stats.right_guesses;
    out.reused_tokens += stats.reused_tokens;
    out.head_tokens += stats.head_tokens;
    out.vision_encoded += stats.vision_encoded;
    out.vision_reused += stats.vision_reused;
    out.peak_running = std::max(out.peak_running, stats.peak_running);
  }
  return out;
}

Backend::Backend(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Backend Backend::make(const BackendOptions& options) {
  return base::in_plain_words("The backend", "lower threads, media_threads or vision_cache_bytes",
                              [&] { return Backend(std::make_shared<Impl>(options)); });
}

Backend Backend::shared(const BackendOptions& options) {
  static std::mutex mutex;
  static std::vector<std::pair<BackendOptions, std::weak_ptr<Impl>>> backends;
  const std::lock_guard lock(mutex);
  std::erase_if(backends, [](const auto& entry) { return entry.second.expired(); });
  for (const auto& [made_with, backend] : backends) {
    if (made_with != options) continue;
    if (auto alive = backend.lock()) return Backend(std::move(alive));
  }
  Backend backend = make(options);
  backends.emplace_back(options, backend.impl());
  return backend;
}

std::vector<DeviceInfo> Backend::devices() {
  return api::list_devices();
}

const std::string& Backend::device() const {
  return impl_->device().name;
}

const BackendOptions& Backend::options() const {
  return impl_->options();
}

bool Backend::supports(const std::string& dtype) const {
  const auto known = base::parse_dtype(dtype);
  return known && std::ranges::count(impl_->device().dtypes, base::dtype_name(*known)) > 0;
}

BackendStats Backend::stats() const {
  return impl_->stats();
}

}  // namespace tte
