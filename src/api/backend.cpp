#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "api/backend_impl.h"
#include "api/devices.h"
#include "api/handle.h"
#include "base/digest.h"
#include "base/dtype.h"
#include "base/linear_format.h"
#include "base/plain_error.h"
#include "base/printable.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "models/head_config.h"
#include "models/step_size.h"
#include "tte/error.h"
#include "weights/rounding.h"

namespace tte {
namespace {

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

// How the matrices of a checkpoint are kept: as the caller says, or as its file has them.
base::LinearFormat linears_of(const base::Checkpoint& checkpoint, const std::string& quantization) {
  const auto asked = base::parse_quantization(quantization);
  if (!asked) {
    throw InputError(fmt::format("quantization is \"{}\": it must be {}.", base::printable(quantization, 40),
                                 base::kQuantizations));
  }
  const auto stored = weights::rounding_of(checkpoint.base());
  const char* name = base::quantization_name(stored.value_or(*asked));
  const std::string shown = base::shown(checkpoint.base(), 160);
  if (stored && *asked != base::LinearFormat::kPlain && *asked != *stored) {
    throw InputError(fmt::format(
        "quantization is \"{}\", but the weights of {} are {}: leave it out, or give the original "
        "checkpoint.",
        quantization, shown, name));
  }
  if (stored && checkpoint.is_adapted() && !models::is_head(checkpoint.folder())) {
    throw ModelError(
        fmt::format("The weights of {} are {}, to which an adapter cannot add: merge it into the original "
                    "checkpoint with `tte quantize --adapter`, or load that.",
                    shown, name));
  }
  return stored.value_or(*asked);
}

void add(const BackendStats& stats, BackendStats& out) {
  constexpr std::array kSums = {
      &BackendStats::engines,        &BackendStats::steps,          &BackendStats::prefill_tokens,
      &BackendStats::decode_tokens,  &BackendStats::guessed_tokens, &BackendStats::right_guesses,
      &BackendStats::drafted_tokens, &BackendStats::right_drafts,   &BackendStats::reused_tokens,
      &BackendStats::head_tokens,    &BackendStats::vision_encoded, &BackendStats::vision_reused};
  for (const auto count : kSums) out.*count += stats.*count;
  out.peak_running = std::max(out.peak_running, stats.peak_running);
}

}  // namespace

Backend::Impl::Impl(const BackendOptions& options) : options_(options) {
  options.validate();
  const std::vector<DeviceInfo> devices = api::choose_devices(options.device);
  if (devices.front().name != "cpu") kernels::load_cuda();
  options_.device = api::names_of(devices);
  if (options_.threads == 0) options_.threads = std::min(at::get_num_threads(), base::most_threads());
  options_.media_threads = base::media_threads(options.media_threads);
  if (options_.state_bytes == 0) options_.state_bytes = api::default_state_bytes(devices);
  if (!options_.max_step_tokens) {
    options_.max_step_tokens =
        static_cast<int>(models::step_size(api::torch_device(devices.front()).type()).tokens);
  }
  std::vector<api::Share> shares = api::share_out(devices, options_);
  options_.replicas = static_cast<int>(shares.size());
  store_ = std::make_shared<weights::WeightStore>();
  base::check_room_for(std::max(options_.threads, *options_.replicas) + options_.media_threads + 2);
  base::touch_thread_locals();
  for (api::Share& share : shares) {
    auto executor = std::make_shared<engine::Executor>(share.threads, share.vision_cache_bytes,
                                                       api::torch_device(share.devices.front()));
    replicas_.push_back({std::move(share), std::move(executor)});
  }
  router_ = std::make_unique<api::Router>(replicas_.size());
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

weights::Placement Backend::Impl::placement_of(const base::Checkpoint& checkpoint, const std::string& dtype,
                                               const std::string& quantization) const {
  weights::Placement placement;
  placement.device = api::torch_device(replicas_.front().share.devices.front());
  placement.store = store_;
  placement.dtype = dtype == "auto" ? models::declared_dtype(checkpoint) : base::parse_dtype(dtype);
  if (!placement.dtype && dtype != "auto") {
    throw InputError(fmt::format("dtype is \"{}\": it must be \"auto\", {}.", base::printable(dtype, 40),
                                 base::dtype_list()));
  }
  const base::LinearFormat linears = linears_of(checkpoint, quantization);
  // Numbers that stay as they are stand in the processor's own order, where it has one.
  placement.linears =
      base::is_rounded(linears) || !placement.device.is_cpu() ? linears : base::LinearFormat::kPanels;
  return placement;
}

std::vector<std::shared_ptr<const models::Model>> Backend::Impl::load_models(
    const base::Checkpoint& checkpoint, models::ModelOptions options, std::int64_t state_parts) const {
  std::vector<std::shared_ptr<const models::Model>> out;
  options.cuda_graphs = options_.cuda_graphs;
  for (const Replica& replica : replicas_) {
    const std::vector<DeviceInfo>& devices = replica.share.devices;
    options.placement.device = api::torch_device(devices.front());
    options.placement.further.clear();
    for (const DeviceInfo& device : std::span(devices).subspan(1))
      options.placement.further.push_back(api::torch_device(device));
    options.state_bytes = replica.share.state_bytes / state_parts;
    out.push_back(models::load_model(checkpoint, options));
  }
  return out;
}

std::shared_ptr<const api::LoadedModel> Backend::Impl::load(const base::Checkpoint& checkpoint,
                                                            const LoadOptions& options,
                                                            const prompt::Recipe& recipe) {
  models::ModelOptions model_options = prompt::model_options(recipe);
  model_options.placement = placement_of(checkpoint, options.dtype, options.quantization);
  const std::string key = model_options.key() + stamps(checkpoint);
  const std::lock_guard loading(load_mutex_);
  {
    const std::lock_guard lock(models_mutex_);
    if (auto model = models_[key].lock()) return model;
  }
  const auto loaded =
      std::make_shared<api::LoadedModel>(api::LoadedModel{checkpoint, read_files(checkpoint), {}});
  engine::EngineOptions engine_options;
  engine_options.max_step_tokens = *options_.max_step_tokens;
  engine_options.max_step_patches = models::step_size(model_options.placement.device.type()).patches;
  engine_options.max_running = options_.max_running;
  engine_options.prompt_lookup_tokens = options_.prompt_lookup_tokens;
  engine_options.state_sharers = replicas_.front().share.sharers;
  const auto models = load_models(checkpoint, model_options);
  for (std::size_t i = 0; i < replicas_.size(); ++i) {
    auto engine = std::make_unique<engine::Engine>(models[i], loaded->files->tokenizer, replicas_[i].executor,
                                                   engine_options);
    loaded->replicas.push_back({models[i], std::move(engine)});
  }
  const std::lock_guard lock(models_mutex_);
  std::erase_if(models_, [](const auto& entry) { return entry.second.expired(); });
  models_[key] = loaded;
  return loaded;
}

std::vector<std::shared_ptr<engine::Draft>> Backend::Impl::load_draft(const api::LoadedModel& target,
                                                                      const DraftOptions& options) {
  if (options.tokens < 1 || options.tokens > BackendOptions::kMostGuesses) {
    throw InputError(fmt::format("The draft's tokens are {}: they must be from 1 to {}.", options.tokens,
                                 BackendOptions::kMostGuesses));
  }
  const base::Checkpoint checkpoint = prompt::find_checkpoint(options.checkpoint, options.adapter);
  const std::string name = base::shown(checkpoint.folder(), 120),
                    of = base::shown(target.checkpoint.folder(), 120);
  const auto files = read_files(checkpoint);
  if (files->vocabulary != target.files->vocabulary) {
    throw ModelError(
        fmt::format("The draft {} has other tokens than {}, for which it cannot guess: give a model with the "
                    "same tokenizer.",
                    name, of));
  }
  const std::lock_guard loading(load_mutex_);
  models::ModelOptions model_options;
  model_options.placement = placement_of(checkpoint, options.dtype, options.quantization);
  // Address space on a CPU, where what is taken counts against the target's; memory on a GPU.
  constexpr std::int64_t kGpuPart = 8;
  const auto models =
      load_models(checkpoint, model_options, model_options.placement.device.is_cpu() ? 1 : kGpuPart);
  models.front()->check_generates();
  for (const auto& [each, path] : {std::pair(models.front().get(), &name), std::pair(&target.model(), &of)}) {
    const auto state = each->start(0);
    if (state && state->cuttable()) continue;
    throw ModelError(fmt::format(
        "The draft {} cannot guess for {}: {} has recurrent layers ({}), whose states cannot forget "
        "a wrong guess. Leave the draft out.",
        name, of, *path, each->info().family));
  }
  std::vector<std::shared_ptr<engine::Draft>> drafts;
  drafts.reserve(models.size());
  for (std::size_t i = 0; i < models.size(); ++i)
    drafts.push_back(std::make_shared<engine::Draft>(models[i], target.replicas[i].model, options.tokens));
  return drafts;
}

std::vector<BackendStats> Backend::Impl::replica_stats() {
  std::vector<std::shared_ptr<const api::LoadedModel>> live;
  {
    const std::lock_guard lock(models_mutex_);
    for (const auto& [key, model] : models_) {
      if (auto alive = model.lock()) live.push_back(std::move(alive));
    }
  }
  std::vector<BackendStats> out(replicas_.size());
  for (const auto& model : live) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      add(model->replicas[i].engine->stats(), out[i]);
    }
  }
  return out;
}

Backend::Backend(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Backend Backend::make(const BackendOptions& options) {
  return base::in_plain_words(
      "The backend", "lower threads or media_threads, or let the process have more memory (ulimit -v)",
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
  return api::held(impl_, "Backend")->options().device;
}

const BackendOptions& Backend::options() const {
  return api::held(impl_, "Backend")->options();
}

bool Backend::supports(const std::string& dtype) const {
  const auto known = base::parse_dtype(dtype);
  return known && std::ranges::count(api::held(impl_, "Backend")->dtypes(), base::dtype_name(*known)) > 0;
}

BackendStats Backend::stats() const {
  BackendStats out;
  for (const BackendStats& stats : api::held(impl_, "Backend")->replica_stats()) {
    add(stats, out);
  }
  return out;
}

std::vector<BackendStats> Backend::replica_stats() const {
  return api::held(impl_, "Backend")->replica_stats();
}

}  // namespace tte
