// One model and one scheduler: generate and encode requests in ragged batches.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/executor.h"
#include "models/model.h"
#include "models/step_size.h"
#include "text/tokenizer/tokenizer.h"
#include "tte/backend.h"
#include "tte/options.h"
#include "tte/trace.h"

namespace tte::engine {

// Keeps the state of a sequence alive for reuse by later requests with the same beginning, until destroyed.
class PrefixPin {
 public:
  virtual ~PrefixPin() = default;
};

// What a request wants of the hidden states that are computed for it.
enum class Output : std::uint8_t {
  kNothing,  // Only the state, for later requests.
  kRow,      // One token's, or those of EncodeRequest::rows.
  kAllRows,
  kMean,
  kPooled,  // What Model::pool() makes of all rows.
  kKept,  // What the state keeps of the hidden states that go into EncodeRequest::kept_layer, of all tokens up to one.
  kLogProbs,  // Log-probabilities of candidates for the token after one token.
  kTokens,    // The next token, again and again.
};

class Draft;

struct GenerateRequest {
  std::shared_ptr<const models::Prompt> prompt;
  GenerateOptions options;              // Defaults already resolved: every optional is set, except seed.
  std::vector<std::int64_t> end_ids;    // The checkpoint's end tokens.
  std::string think_open, think_close;  // The tags, for the thinking budget.
  bool pin_state = false;               // Keep the finished state for reuse (GenerateResult::pin).
  // The state keeps the hidden states that go into this layer, for Output::kKept of later requests.
  std::optional<std::int64_t> kept_layer;
  // What this request goes on from, if its beginning is a pinned state: held until the request is admitted,
  // which is before requests that begin anew.
  std::shared_ptr<PrefixPin> continues;
  // Guesses where prompt lookup finds nothing; its target is this engine's model. Null: nobody does.
  std::shared_ptr<Draft> draft;
  const void* caller = nullptr;  // Requests of one caller have the same; callers take turns.
  // Called on the executor's thread with each token and the text it completes.
  std::function<OnToken(std::int64_t id, const std::string& text)> on_token;
  // Called once, on the executor's thread, right after the future has become ready (a result or an
  // exception); on the destroying thread for what an engine's destructor cancels. Must not block: it is how a
  // caller with many requests waits for whichever ends first.
  std::function<void()> on_done;
  CancelToken cancel;
};

struct GenerateResult {
  std::vector<std::int64_t> ids;  // Generated, the end token included.
  std::string text;               // Without special tokens and stop strings.
  FinishReason finish = FinishReason::kStop;
  std::int64_t reused_tokens = 0;
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
  std::shared_ptr<PrefixPin> pin;
};

struct EncodeRequest {
  std::shared_ptr<const models::Prompt> prompt;
  Output output = Output::kRow;            // Any but kTokens.
  std::optional<std::int64_t> row;         // kRow, kKept, kLogProbs: which; unset: the last.
  std::int64_t rows = 1;                   // kRow: how many, from that one on.
  std::optional<std::int64_t> kept_layer;  // kKept: which.
  // [tokens, hidden] for a model with an embedding head: what the prompt's tokens, up to the last that is wanted, are
  // where the head goes on. They are then not read by the layers below.
  at::Tensor hidden;
  std::vector<std::int64_t> candidates;  // kLogProbs: ids of the tokens.
  bool pin_state = false;
  // With kNothing: until somebody sets it, from any thread, the request is run in small pieces, while no vector is
  // to be made. Null: it is run like the others.
  std::shared_ptr<std::atomic<bool>> wanted;
  std::shared_ptr<PrefixPin> continues;  // As in GenerateRequest, like `caller`.
  const void* caller = nullptr;
  std::function<void()> on_done;  // As in GenerateRequest.
  CancelToken cancel;
};

struct EncodeResult {
  // float32, CPU: [hidden], or [rows, hidden] for several; [tokens, hidden] for kAllRows; [candidates] for kLogProbs.
  // kKept: [tokens, hidden] in the model's type on its device. kNothing: undefined.
  at::Tensor hidden;
  std::int64_t reused_tokens = 0;
  double queue_seconds = 0;
  std::shared_ptr<PrefixPin> pin;
};

struct EngineOptions {
  int max_step_tokens = static_cast<int>(models::step_size(c10::DeviceType::CPU).tokens);
  int max_running =
      256;  // Sequences in one step, each with a token at least: never more than max_step_tokens.
  // Vision patches encoded in one step (a larger visual alone), so that running sequences wait for no more.
  std::int64_t max_step_patches = models::step_size(c10::DeviceType::CPU).patches;
  int prompt_lookup_tokens = 0;  // Most tokens that are guessed of a sequence in one step.
  int state_sharers = 1;  // Engines of the same model that the backend's state_bytes are divided among.
};

// Thread-safe. Requests of concurrent callers join the same batches. A result or an exception always arrives.
// Destroying an engine waits for the step that runs and cancels the rest, so a lock that callbacks take must
// not be held meanwhile. Callbacks may submit requests and destroy engines, but not wait for a result. An
// engine takes for granted that all of the model's state room is its own: one engine per model.
class Engine {
 public:
  // Throws InputError for options out of range.
  Engine(std::shared_ptr<const models::Model> model, std::shared_ptr<const text::Tokenizer> tokenizer,
         const std::shared_ptr<Executor>& executor, EngineOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  // Throws InputError at once for a request that can never fit, saying the limit and the option that raises
  // it, and for options, ids or rows out of range; on_done is not called then.
  std::future<GenerateResult> submit(GenerateRequest request);
  std::future<EncodeResult> submit(EncodeRequest request);
  [[nodiscard]] BackendStats stats() const;  // Of this engine alone, since its construction.

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tte::engine
