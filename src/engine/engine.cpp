#include "engine/engine.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <utility>

#include "engine/scheduler.h"
#include "tte/error.h"

namespace tte::engine {
namespace {

void check_options(const EngineOptions& options) {
  if (options.max_step_tokens < 1 || options.max_running < 1 || options.max_step_patches < 1) {
    throw InputError(fmt::format(
        "An engine cannot run with max_step_tokens = {}, max_running = {} and max_step_patches = {}: each "
        "must be at least 1.",
        options.max_step_tokens, options.max_running, options.max_step_patches));
  }
}

void check_prompt(const models::Prompt* prompt, const models::ModelInfo& info) {
  if (prompt == nullptr || prompt->ids.empty()) {
    throw InputError("the prompt is empty; a model needs at least one token to read.");
  }
  std::int64_t expected = 0;
  for (const std::int64_t tokens : prompt->visual_tokens) {
    if (tokens < 1) throw InputError(fmt::format("a visual has {} tokens; it needs at least one.", tokens));
    expected += tokens;
  }
  std::int64_t visual = 0;
  for (const base::Modality kind : prompt->kinds) visual += kind == base::Modality::kText ? 0 : 1;
  if (prompt->kinds.size() != prompt->ids.size() || prompt->positions.size() != prompt->ids.size() ||
      prompt->visual_tokens.size() != prompt->visuals.size() || visual != expected) {
    throw InputError(fmt::format(
        "the prompt contradicts itself: {} ids, {} kinds and {} positions; {} visual tokens where its "
        "{} visuals have {} by visual_tokens. Let Preprocessor::expand_placeholders() make it.",
        prompt->ids.size(), prompt->kinds.size(), prompt->positions.size(), visual, prompt->visuals.size(),
        expected));
  }
  for (const std::int64_t id : prompt->ids) {
    if (id < 0 || id >= info.vocab_size) {
      throw InputError(
          fmt::format("token id {} is outside the model's vocabulary of {}; check that tokenizer and "
                      "checkpoint belong together.",
                      id, info.vocab_size));
    }
  }
}

void check_latent(const models::LatentRows& latent, const models::Prompt& prompt,
                  const models::ModelInfo& info) {
  if (latent.count == 0) return;
  if (!info.latent || info.whole_prompts) {
    throw InputError(
        "the prompt has latent steps, and the model nothing to make them with: load it with a recipe that "
        "has \"latent\".");
  }
  const auto text = [&](std::int64_t row) {
    return prompt.kinds[static_cast<std::size_t>(row)] == base::Modality::kText;
  };
  bool fits = latent.begin >= 1 && latent.count > 0 && latent.count <= prompt.size() - latent.begin &&
              latent.context >= -1 && latent.context < latent.begin;
  for (std::int64_t row = latent.begin; fits && row < latent.end(); ++row) fits = text(row);
  if (fits) return;
  throw InputError(fmt::format(
      "a prompt of {} tokens has {} latent steps from row {} on, with the context of row {}: "
      "they must stand behind a token and their context, within the prompt, and not among those of a visual.",
      prompt.size(), latent.count, latent.begin, latent.context));
}

// `extra` tokens may be generated.
void check_fits(const models::Prompt& prompt, std::int64_t extra, const models::Model& model, int sharers) {
  const std::int64_t room = prompt.size() + extra;
  const std::string what =
      extra == 0 ? fmt::format("a prompt of {} tokens needs", prompt.size())
                 : fmt::format("a prompt of {} tokens and max_new_tokens = {} need", prompt.size(), extra);
  if (const std::int64_t bytes = model.state_bytes(room); bytes > model.state_capacity()) {
    throw InputError(
        fmt::format("{} {} bytes of sequence states, but the model has {} in {}; set "
                    "the backend's state_bytes to at least {}, or shorten the input{}.",
                    what, bytes, model.state_capacity(),
                    sharers == 1 ? "all" : fmt::format("each of {} replicas", sharers), bytes * sharers,
                    extra == 0 ? "" : " or max_new_tokens"));
  }
  // Positions, not tokens: a visual takes fewer positions than it has tokens.
  const std::int64_t positions = prompt.next_position + extra;
  if (model.info().max_positions > 0 && positions > model.info().max_positions) {
    throw InputError(fmt::format("{} {} positions, but the model knows {}; shorten the input{}.", what,
                                 positions, model.info().max_positions,
                                 extra == 0 ? "" : " or max_new_tokens"));
  }
}

// Where nobody says how many: no more than a short model has positions for.
int default_new_tokens(const models::Prompt& prompt, const models::ModelInfo& info) {
  constexpr std::int64_t kUsual = GenerateOptions::kUsualNewTokens;
  const std::int64_t left = info.max_positions > 0 ? info.max_positions - prompt.next_position : kUsual;
  return static_cast<int>(std::clamp<std::int64_t>(left, 1, kUsual));
}

void check(GenerateRequest& request, const models::Model& model, int sharers) {
  if (model.info().whole_prompts) model.check_generates();
  request.options.validate();
  check_prompt(request.prompt.get(), model.info());
  if (request.prompt->latent.count > 0) {
    throw InputError(
        "the prompt has latent steps, behind which a vector is read and nothing written: encode it.");
  }
  if (!request.options.max_new_tokens)
    request.options.max_new_tokens = default_new_tokens(*request.prompt, model.info());
  check_fits(*request.prompt, *request.options.max_new_tokens, model, sharers);
  for (const std::int64_t id : request.options.stop_token_ids) {
    if (id < model.info().vocab_size) continue;
    throw InputError(
        fmt::format("stop_token_ids has {}, but the model's vocabulary has {} tokens: give ids from 0 to {}.",
                    id, model.info().vocab_size, model.info().vocab_size - 1));
  }
  if (request.options.max_think_tokens && (request.think_open.empty() || request.think_close.empty())) {
    throw InputError(
        fmt::format("max_think_tokens is {}, but the recipe has no thinking tags to watch for; leave "
                    "it unset, or use a recipe that has them (\"trace\": {{\"open\": ..., \"close\": ...}}).",
                    *request.options.max_think_tokens));
  }
}

void check(const EncodeRequest& request, const models::Model& model, int sharers) {
  check_prompt(request.prompt.get(), model.info());
  check_latent(request.prompt->latent, *request.prompt, model.info());
  check_fits(*request.prompt, 0, model, sharers);
  const bool one = request.output == Output::kRow || request.output == Output::kKept ||
                   request.output == Output::kLogProbs;
  if (one && request.row && (*request.row < 0 || *request.row >= request.prompt->size())) {
    throw InputError(fmt::format("a prompt of {} tokens has no row {}; give the index of one of its tokens.",
                                 request.prompt->size(), *request.row));
  }
  const std::int64_t row = request.row.value_or(request.prompt->size() - 1);
  if (one && (request.rows < 1 || request.rows > request.prompt->size() - row)) {
    throw InputError(fmt::format("a prompt of {} tokens has no {} rows from row {} on: ask for fewer.",
                                 request.prompt->size(), request.rows, row));
  }
  if (request.output != Output::kLogProbs) return;
  model.check_generates();
  for (const std::int64_t id : request.candidates) {
    if (id >= 0 && id < model.info().vocab_size) continue;
    throw InputError(
        fmt::format("a candidate has the id {}, but the model's vocabulary has {} tokens: give ids from 0 "
                    "to {}.",
                    id, model.info().vocab_size, model.info().vocab_size - 1));
  }
}

}  // namespace

class Engine::Impl : public Stepper {
 public:
  Impl(std::shared_ptr<const models::Model> model, std::shared_ptr<const text::Tokenizer> tokenizer,
       std::shared_ptr<Executor> executor, const EngineOptions& options)
      : executor_(std::move(executor)),
        model_(std::move(model)),
        tokenizer_(std::move(tokenizer)),
        state_sharers_(options.state_sharers),
        scheduler_(model_, executor_->vision_cache(), options) {}

  template <typename S>
  auto submit(std::unique_ptr<S> sequence) {
    auto future = sequence->future();
    executor_->check_process();
    Sequences one;
    one.push_back(std::move(sequence));
    {
      const std::lock_guard lock(incoming_mutex_);
      incoming_.splice(incoming_.end(), one);
    }
    executor_->wake();
    return future;
  }

  bool step() override {
    const std::lock_guard lock(step_mutex_);
    stepping_thread_ = std::this_thread::get_id();
    take_incoming();
    bool more = !stopping_ && scheduler_.step();
    if (stopping_) {  // By a callback of this step, or while this one waited for its turn.
      take_incoming();
      scheduler_.shutdown();
      more = false;
    }
    stepping_thread_ = std::thread::id();
    return more;
  }

  void stop() {
    stopping_ = true;
    // Destroyed by a callback of its own step, which will see the flag when it ends.
    if (stepping_thread_.load() == std::this_thread::get_id()) return;
    const std::lock_guard lock(step_mutex_);
    take_incoming();
    scheduler_.shutdown();
  }

  [[nodiscard]] bool elsewhere() const { return executor_->elsewhere(); }
  [[nodiscard]] const models::Model& model() const { return *model_; }
  [[nodiscard]] int state_sharers() const { return state_sharers_; }
  [[nodiscard]] const std::shared_ptr<const text::Tokenizer>& tokenizer() const { return tokenizer_; }
  [[nodiscard]] BackendStats stats() const { return scheduler_.stats(); }

 private:
  void take_incoming() {
    Sequences incoming;
    {
      const std::lock_guard lock(incoming_mutex_);
      incoming.swap(incoming_);
    }
    scheduler_.add(std::move(incoming));
  }

  std::shared_ptr<Executor> executor_;
  std::shared_ptr<const models::Model> model_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  int state_sharers_;
  std::mutex step_mutex_;  // Held for a whole step: guards scheduler_, its stats() apart.
  std::atomic<std::thread::id> stepping_thread_;
  std::atomic<bool> stopping_ = false;
  Scheduler scheduler_;
  std::mutex incoming_mutex_;
  Sequences incoming_;
};

Engine::Engine(std::shared_ptr<const models::Model> model, std::shared_ptr<const text::Tokenizer> tokenizer,
               const std::shared_ptr<Executor>& executor, EngineOptions options) {
  check_options(options);
  impl_ = std::make_shared<Impl>(std::move(model), std::move(tokenizer), executor, options);
  executor->add(impl_);
}

Engine::~Engine() {
  if (impl_->elsewhere()) {  // A lock of the step that ran at the fork is never given back.
    base::never_destroy(std::move(impl_));
    return;
  }
  impl_->stop();
}

std::future<GenerateResult> Engine::submit(GenerateRequest request) {
  check(request, impl_->model(), impl_->state_sharers());
  return impl_->submit(std::make_unique<GenerateSequence>(std::move(request), impl_->tokenizer()));
}

std::future<EncodeResult> Engine::submit(EncodeRequest request) {
  check(request, impl_->model(), impl_->state_sharers());
  const bool whole = impl_->model().info().whole_prompts;
  return impl_->submit(std::make_unique<EncodeSequence>(std::move(request), whole));
}

BackendStats Engine::stats() const {
  return impl_->stats();
}

}  // namespace tte::engine
