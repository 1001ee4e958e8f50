// One request on its way through the engine: what it has read, what it still has to read, and its result.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/draft.h"
#include "engine/engine.h"
#include "engine/output_text.h"
#include "engine/prefix_cache.h"
#include "engine/prompt_lookup.h"
#include "engine/sampler.h"
#include "engine/think_budget.h"
#include "engine/visual_rows.h"
#include "models/model.h"

namespace tte::engine {

class Sequence {
 public:
  using Clock = std::chrono::steady_clock;

  virtual ~Sequence() = default;
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  [[nodiscard]] const models::Prompt& prompt() const { return *prompt_; }
  [[nodiscard]] const VisualRows& visual_rows() const { return visual_rows_; }
  [[nodiscard]] const TokenChain& chain() const { return chain_; }
  [[nodiscard]] bool cancel_requested() const { return cancel_.cancelled(); }
  [[nodiscard]] bool pin_state() const { return pin_state_; }
  [[nodiscard]] const void* caller() const { return caller_; }
  [[nodiscard]] bool continues() const { return continues_ != nullptr; }

  [[nodiscard]] Output output() const { return output_; }
  [[nodiscard]] const std::optional<std::int64_t>& kept_layer() const { return kept_layer_; }
  // EncodeRequest::hidden: undefined for what is read from its ids.
  [[nodiscard]] virtual at::Tensor hidden() const { return {}; }
  [[nodiscard]] bool generates() const { return output_ == Output::kTokens; }
  [[nodiscard]] virtual bool background() const { return false; }  // Nobody waits for its result yet.
  // models::ModelInfo::whole_prompts: all of it runs in one step, and its state is of use to nobody.
  [[nodiscard]] virtual bool whole() const { return false; }
  // Tokens known so far: the prompt and what was generated.
  [[nodiscard]] virtual std::int64_t length() const = 0;
  [[nodiscard]] virtual std::int64_t id(std::int64_t index) const = 0;
  [[nodiscard]] virtual std::array<std::int64_t, 3> position(std::int64_t index) const = 0;
  // Tokens that its state needs room for when it is admitted; it may grow by more.
  [[nodiscard]] virtual std::int64_t room() const = 0;
  [[nodiscard]] virtual std::int64_t reuse_limit() const = 0;  // The most tokens that need not be run.
  // Whether the hidden state of token `index` is wanted when it is run.
  [[nodiscard]] virtual bool wants(std::int64_t index) const = 0;
  [[nodiscard]] virtual bool finished() const = 0;
  // Whether the next latent row is made from the hidden state of token `index`.
  [[nodiscard]] bool feeds_latent(std::int64_t index) const;

  // For kTokens: the token that must come next, or what draws it; then that token. Throws what the callback throws.
  struct Next {
    std::optional<std::int64_t> forced;
    Sampler* sampler = nullptr;
  };
  [[nodiscard]] virtual Next next() { return {}; }
  virtual void add_token(std::int64_t /*id*/, bool /*forced*/) {}
  // For kTokens: guesses at most so many of the tokens that follow, in place of those guessed before, and says how
  // many. id() and position() then know them; length() does not count them. look_up() finds them in what was read and
  // written; take_drafted() is given a draft's, and leaves out more than can follow.
  virtual std::int64_t look_up(std::int64_t /*most*/) { return 0; }
  virtual std::int64_t take_drafted(std::vector<std::int64_t>&& /*guesses*/) { return 0; }
  // What its draft has read; null: there is none.
  [[nodiscard]] virtual DraftReader* draft_reader() const { return nullptr; }
  // After the tokens of a step were taken: the states forget the guesses that were wrong. Says how many were right.
  struct RightGuesses {
    std::int64_t count = 0;
    bool drafted = false;
  };
  virtual RightGuesses settle() { return {}; }
  // For the others: wanted hidden states [rows, hidden], in the order of their tokens (kRow: float32, CPU;
  // kLogProbs: logits [1, vocab]).
  // Throws a ModelError if the result is NaN or infinite.
  virtual void add_rows(const at::Tensor& /*rows*/) {}
  // Once all is read: kPooled and kKept make their result of the rows and of the state.
  virtual void complete(const models::Model& /*model*/) {}

  // Each resolves the future, once; only the first call counts.
  virtual void deliver(std::shared_ptr<PrefixPin> pin) = 0;
  virtual void cancelled() = 0;
  virtual void fail(std::exception_ptr error) = 0;

  // The first time and after every pause.
  void admit(std::unique_ptr<models::SequenceState> state, std::int64_t reused);
  void advance(std::int64_t tokens);  // These were run: features that are behind are let go.
  // The most tokens that can be run at once: up to the next length at which its state, which cannot be cut later, is
  // kept for other requests, and to the next latent row, which is made of what the model says before it.
  [[nodiscard]] std::int64_t piece() const;
  [[nodiscard]] bool at_snapshot() const;  // It is kept now.
  // The last token was generated, and is the only one that is left to read.
  [[nodiscard]] bool decoding() const { return done >= prompt_->size() && length() - done == 1; }
  // Gives up the state for the prefix cache, with the chain of exactly what it holds. chain() then holds all
  // tokens that are known: what the sequence needs to go on.
  std::pair<TokenChain, std::unique_ptr<models::SequenceState>> take_state();

  // The scheduler's own notes.
  std::unique_ptr<models::SequenceState> state;
  std::int64_t done = 0;  // Tokens in `state`.
  std::int64_t reused = 0;
  std::int64_t ticket = 0;  // By order of admission; 0: never admitted.
  int overtaken = 0;        // Requests admitted before it while it found no room.
  bool ended = false;       // It has its result.
  struct {
    at::Tensor context, last;  // [1, hidden]: what the next latent row is made of, once it was read.
  } latent;
  // One per visual, undefined before they are needed and after they were read.
  std::vector<at::Tensor> features;

 protected:
  template <typename Request>
  Sequence(Request& request, Output output, bool from_hidden = false);
  [[nodiscard]] bool resolve_once() { return !std::exchange(resolved_, true); }
  void notify() const;  // The future is ready.

  Clock::time_point submitted_ = Clock::now();
  std::optional<Clock::time_point> admitted_;

 private:
  std::shared_ptr<const models::Prompt> prompt_;
  Output output_;
  std::optional<std::int64_t> kept_layer_;
  CancelToken cancel_;
  bool pin_state_;
  const void* caller_;
  std::shared_ptr<PrefixPin> continues_;
  bool resolved_ = false;
  std::function<void()> on_done_;
  VisualRows visual_rows_;
  TokenChain chain_;
};

class GenerateSequence : public Sequence {
 public:
  GenerateSequence(GenerateRequest request, std::shared_ptr<const text::Tokenizer> tokenizer);
  std::future<GenerateResult> future() { return promise_.get_future(); }

  [[nodiscard]] std::int64_t length() const override;
  [[nodiscard]] std::int64_t id(std::int64_t index) const override;
  [[nodiscard]] std::array<std::int64_t, 3> position(std::int64_t index) const override;
  [[nodiscard]] std::int64_t room() const override;
  [[nodiscard]] std::int64_t reuse_limit() const override { return length() - 1; }
  [[nodiscard]] bool wants(std::int64_t index) const override { return index >= length() - 1; }
  [[nodiscard]] bool finished() const override { return finish_.has_value(); }
  [[nodiscard]] Next next() override { return {budget_.forced(), &sampler_}; }
  void add_token(std::int64_t id, bool forced) override;
  std::int64_t look_up(std::int64_t most) override;
  std::int64_t take_drafted(std::vector<std::int64_t>&& guesses) override;
  [[nodiscard]] DraftReader* draft_reader() const override { return draft_.get(); }
  RightGuesses settle() override;
  void deliver(std::shared_ptr<PrefixPin> pin) override;
  void cancelled() override;
  void fail(std::exception_ptr error) override;

 private:
  std::promise<GenerateResult> promise_;
  std::int64_t max_new_tokens_;
  std::vector<std::int64_t> end_ids_;
  std::function<OnToken(std::int64_t, const std::string&)> on_token_;
  Sampler sampler_;
  ThinkBudget budget_;
  OutputText text_;
  std::vector<std::int64_t> ids_;
  // How many of the tokens that follow may be guessed, at most `most`: the last is not read.
  [[nodiscard]] std::int64_t guessable(std::int64_t most) const;
  PromptLookup lookup_;
  std::unique_ptr<DraftReader> draft_;    // Null without a draft.
  std::vector<std::int64_t> guesses_;     // What may follow ids_.
  std::int64_t guessed_ = 0, right_ = 0;  // In this step.
  bool drafted_ = false;                  // By the draft.
  std::optional<FinishReason> finish_;
  std::optional<Clock::time_point> first_token_;
};

class EncodeSequence : public Sequence {
 public:
  EncodeSequence(EncodeRequest request, bool whole);
  std::future<EncodeResult> future() { return promise_.get_future(); }

  [[nodiscard]] bool background() const override { return wanted_ != nullptr && !wanted_->load(); }
  [[nodiscard]] bool whole() const override { return whole_; }
  // Nobody reads past the pooled row, unless it sees what follows, or the state is for later requests.
  [[nodiscard]] std::int64_t length() const override {
    const bool to_row = one_row() || output() == Output::kKept;
    return to_row && !whole_ && !pin_state() ? row_ + rows_ : prompt().size();
  }
  [[nodiscard]] std::int64_t id(std::int64_t index) const override;
  [[nodiscard]] std::array<std::int64_t, 3> position(std::int64_t index) const override;
  [[nodiscard]] std::int64_t room() const override { return length(); }
  [[nodiscard]] std::int64_t reuse_limit() const override;
  [[nodiscard]] bool wants(std::int64_t index) const override;
  [[nodiscard]] bool finished() const override { return done == length(); }
  [[nodiscard]] at::Tensor hidden() const override { return hidden_; }
  void add_rows(const at::Tensor& rows) override;
  void complete(const models::Model& model) override;
  void deliver(std::shared_ptr<PrefixPin> pin) override;
  void cancelled() override;
  void fail(std::exception_ptr error) override;

 private:
  [[nodiscard]] bool one_row() const { return output() == Output::kRow || output() == Output::kLogProbs; }

  std::promise<EncodeResult> promise_;
  bool whole_;
  std::shared_ptr<std::atomic<bool>> wanted_;
  void check_finite() const;

  at::Tensor hidden_;
  std::int64_t row_;   // kRow, kKept, kLogProbs: which.
  std::int64_t rows_;  // kRow: how many, from that one on; 1 for the others.
  std::vector<std::int64_t> candidates_;
  at::Tensor result_;
  std::int64_t taken_ = 0;
};

}  // namespace tte::engine
