// What a Reasoner is: a model that is loaded here, or one behind a server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>

#include "api/call.h"
#include "api/model_with_recipe.h"
#include "base/thread_pool.h"
#include "engine/engine.h"
#include "models/preprocessor.h"
#include "prompt/prompt_builder.h"
#include "prompt/recipe.h"
#include "remote/chat.h"
#include "tte/input.h"
#include "tte/options.h"
#include "tte/reasoner.h"
#include "tte/trace.h"

namespace tte {

namespace api {

// An item as a reasoner reads it.
struct Question {
  std::variant<std::shared_ptr<const models::Prompt>, std::shared_ptr<const remote::Chat>> prompt;
  std::int64_t bytes = 0;  // What it holds until it is answered.
};

// Makes a question of an item, on a media thread, also when the reasoner is gone. `visuals` are the item's, where
// somebody has read them as this reasoner would, and who then counts their bytes.
using ReadQuestion = std::function<Question(const Input&, const prompt::PromptRequest&,
                                            const models::Visuals* visuals, const CancelToken& stop)>;

struct ThinkJob {
  std::size_t item = 0;
  Question question;
  GenerateOptions options;                  // The caller's.
  const TokenCallback* on_token = nullptr;  // The caller's, which outlives the call; may be empty.
  std::function<void()> on_begin;           // Called when the first token is there.
  bool pin_state = false;
  std::optional<std::int64_t> kept_layer;        // GenerateRequest::kept_layer
  std::shared_ptr<engine::PrefixPin> continues;  // Holds the state that the prompt goes on from.
  double media_seconds = 0;
};

using Thought = std::function<void(Trace, std::shared_ptr<engine::PrefixPin>)>;

}  // namespace api

class Reasoner::Impl {
 public:
  Impl() = default;
  virtual ~Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  [[nodiscard]] virtual const ModelDescription& description() const = 0;
  [[nodiscard]] virtual const prompt::Recipe& recipe() const = 0;
  [[nodiscard]] virtual int window() const = 0;  // Items that are held at a time.
  [[nodiscard]] virtual base::ThreadPool& media_pool() const = 0;
  [[nodiscard]] virtual const api::ModelWithRecipe* local() const = 0;  // Null: it is behind a server.

  [[nodiscard]] virtual api::ReadQuestion question_reader() const = 0;
  // Writes a trace; then(trace, pin of its state, if it has one here) follows.
  virtual void think(api::Call& call, const api::ThinkJob& job, api::Thought then) const = 0;
};

}  // namespace tte
