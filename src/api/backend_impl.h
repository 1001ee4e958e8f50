// What models loaded on one backend share.
#pragma once

#include <c10/core/Device.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/checkpoint.h"
#include "base/thread_pool.h"
#include "engine/draft.h"
#include "engine/engine.h"
#include "engine/executor.h"
#include "prompt/checkpoint_files.h"
#include "prompt/recipe.h"
#include "tte/backend.h"
#include "weights/state_dict.h"
#include "weights/weight_store.h"

namespace tte {

namespace api {

// A checkpoint with its weights and its engine.
struct LoadedModel {
  base::Checkpoint checkpoint;
  std::shared_ptr<const prompt::CheckpointFiles> files;
  std::shared_ptr<const models::Model> model;
  std::unique_ptr<engine::Engine> engine;
};

}  // namespace api

class Backend::Impl {
 public:
  explicit Impl(const BackendOptions& options);

  // What a checkpoint's folders say, shared by all who read the same ones at a time.
  std::shared_ptr<const prompt::CheckpointFiles> read_files(const base::Checkpoint& checkpoint);
  // The live model of the same folders, dtype, quantization and bidirectional layers, or a newly loaded one. Loads of
  // one backend wait for each other, so that two threads that ask for the same model get the same.
  std::shared_ptr<const api::LoadedModel> load(const base::Checkpoint& checkpoint, const LoadOptions& options,
                                               const prompt::Recipe& recipe);

  // What guesses for `target`. Throws ModelError for a model that cannot.
  std::shared_ptr<engine::Draft> load_draft(const api::LoadedModel& target, const DraftOptions& options);

  [[nodiscard]] const DeviceInfo& device() const { return device_; }
  [[nodiscard]] const BackendOptions& options() const { return options_; }
  [[nodiscard]] BackendStats stats();
  [[nodiscard]] base::ThreadPool& media_pool() { return *media_pool_; }

 private:
  // Where the tensors of a checkpoint go.
  [[nodiscard]] weights::Placement placement_of(const base::Checkpoint& checkpoint, const std::string& dtype,
                                                const std::string& quantization) const;

  DeviceInfo device_;
  BackendOptions options_;
  std::shared_ptr<weights::WeightStore> store_;
  std::shared_ptr<engine::Executor> executor_;
  std::unique_ptr<base::ThreadPool> media_pool_;
  std::mutex load_mutex_, files_mutex_;
  std::map<std::string, std::weak_ptr<const prompt::CheckpointFiles>> files_;
  std::mutex models_mutex_;
  std::map<std::string, std::weak_ptr<const api::LoadedModel>> models_;
};

}  // namespace tte
