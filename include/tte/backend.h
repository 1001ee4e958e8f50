/// @file
/// Device, dtype, kernels and memory: what every model loaded on it shares.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tte/export.h"
#include "tte/options.h"

namespace tte {

/// A device that tte could run on.
struct DeviceInfo {
  std::string name;                 ///< What BackendOptions::device takes: "cpu", "cuda:0".
  std::string description;          ///< The maker's name of it.
  std::int64_t memory_bytes = 0;    ///< In all; 0: unknown.
  std::vector<std::string> dtypes;  ///< What models can be loaded as: "float32", "bfloat16", ...
};

/// What the engines of a backend did since it was made. Counts are sums over its live engines.
struct BackendStats {
  std::int64_t engines = 0;  ///< One for each replica of each loaded model.
  std::int64_t steps = 0;
  std::int64_t prefill_tokens = 0;  ///< Prompt tokens that were run.
  std::int64_t decode_tokens = 0;   ///< Tokens that were generated.
  std::int64_t guessed_tokens = 0;  ///< Tokens that prompt lookup or a draft guessed,
  std::int64_t right_guesses = 0;   ///< and those of them that were right, which are generated tokens.
  std::int64_t drafted_tokens = 0;  ///< Guessed tokens that came from a draft,
  std::int64_t right_drafts = 0;    ///< and those of them that were right.
  std::int64_t reused_tokens = 0;   ///< Prompt tokens whose state came from an earlier sequence.
  std::int64_t head_tokens = 0;     ///< Tokens whose hidden states an embedding head reused.
  std::int64_t vision_encoded = 0;  ///< Images and videos that went through a vision tower.
  std::int64_t vision_reused = 0;   ///< Those whose features were there already.
  std::int64_t peak_running = 0;    ///< Most sequences in one step.
};

/// One device, or several, with kernels, threads and memory. Copies share it, and it lives as long as anything loaded
/// on it. All requests of an item run on one replica (BackendOptions::replicas): the one with least work waiting, in
/// tokens of prompts, where what it has read before of the item's images or of the beginning of its prompt counts twice
/// in its favour. Checkpoints loaded twice on one backend with the same dtype and options are one model; different
/// checkpoints share the tensors that are equal (found by content). Thread-safe.
class TTE_API Backend {
 public:
  /// Throws InputError for an option out of range, and DeviceError listing the devices there are for one that
  /// is missing.
  static Backend make(const BackendOptions& options = {});

  /// The live backend of this process that was made by shared() with equal options, or a new one: so that
  /// objects loaded independently share weights and kernels.
  static Backend shared(const BackendOptions& options = {});

  /// Every device that make() would accept, the one that "auto" takes first.
  static std::vector<DeviceInfo> devices();

  [[nodiscard]] const std::string& device() const;  ///< "cpu", "cuda:0", "cuda:0,cuda:1".
  /// With every 0 and "auto" replaced by what it became.
  [[nodiscard]] const BackendOptions& options() const;
  [[nodiscard]] bool supports(const std::string& dtype) const;
  [[nodiscard]] BackendStats stats() const;
  [[nodiscard]] std::vector<BackendStats> replica_stats() const;  ///< The same of each replica.

  class Impl;
  explicit Backend(std::shared_ptr<Impl> impl);
  [[nodiscard]] const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace tte
